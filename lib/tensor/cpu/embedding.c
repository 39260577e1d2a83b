#include "tensor/cpu/block.h"

#include <math.h>
#include <string.h>

/* Row of id number i; ids are checked before a run, one out of range would read row 0. */
static int64_t row_of(const void *ids, int64_t i, int64_t rows)
{
    int32_t id = ((const int32_t *)ids)[i];
    return id < 0 || id >= rows ? 0 : id;
}

static void embedding(const struct sd_call *c)
{
    const struct sd_tensor *table = c->node->in[0];
    size_t row = (size_t)table->dim[1] * sd_dtype_size(table->dtype);
    int64_t n = sd_tensor_count(c->node->in[1]);
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)c->out[0] + (size_t)i * row,
               (const char *)c->in[0] + (size_t)row_of(c->in[1], i, table->dim[0]) * row, row);
}
const struct sd_kernel sd_cpu_embedding = {.run = embedding};

static void zero_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    memset((float *)c->out[0] + from, 0, (size_t)(to - from) * sizeof(float));
}

static void embedding_bwd(const struct sd_call *c)
{
    const struct sd_tensor *dy = c->node->in[1], *dtable = c->node->out[0];
    int64_t n = sd_tensor_count(c->node->in[0]), ch = dtable->dim[1];
    sd_cpu_split(c, sd_tensor_count(dtable), 4 * SD_CPU_CHUNK, zero_chunk);
    float buf[SD_CPU_BLOCK];
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < ch; k += SD_CPU_BLOCK) {
            int64_t len = sd_cpu_min(SD_CPU_BLOCK, ch - k);
            const float *d = sd_cpu_load(c->in[1], dy->dtype, i * ch + k, len, buf);
            float *sum = (float *)c->out[0] + row_of(c->in[0], i, dtable->dim[0]) * ch + k;
            for (int64_t j = 0; j < len; j++)
                sum[j] += d[j];
        }
}
const struct sd_kernel sd_cpu_embedding_bwd = {.run = embedding_bwd};

static void timestep_embedding(const struct sd_call *c)
{
    const struct sd_attr *at = &c->node->attr;
    const struct sd_tensor *out = c->node->out[0];
    const float *t = c->in[0];
    int64_t dim = out->dim[1], half = dim / 2;
    for (int64_t n = 0; n < out->dim[0]; n++) {
        float *y = (float *)c->out[0] + n * dim;
        for (int64_t k = 0; k < half; k++) {
            double arg = t[n] * exp(-log(at->max_period) * (double)k / (double)half);
            y[k] = (float)(at->flip ? cos(arg) : sin(arg));
            y[half + k] = (float)(at->flip ? sin(arg) : cos(arg));
        }
        if (dim % 2)
            y[dim - 1] = 0;
    }
}
const struct sd_kernel sd_cpu_timestep_embedding = {.run = timestep_embedding};
