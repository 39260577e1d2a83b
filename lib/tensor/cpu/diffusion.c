#include "tensor/cpu/block.h"

#include "base/philox.h"

static void randn_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *y = c->node->out[0];
    const uint32_t *word = c->in[0];
    struct sd_philox p = {word[0] | (uint64_t)word[1] << 32, word[2] | (uint64_t)word[3] << 32};
    uint64_t grid = sd_philox_grid((uint64_t)sd_tensor_count(y), (uint64_t)c->node->attr.threads);
    bool image = y->ndim == 4;
    int64_t channels = image ? y->dim[3] : 1, area = image ? y->dim[1] * y->dim[2] : 1;
    for (int64_t i = from; i < to; i++) { /* PyTorch counts channels first */
        int64_t n = i / (channels * area), pixel = i / channels % area, ch = i % channels;
        ((float *)c->out[0])[i] = sd_philox_normal(&p, grid, (uint64_t)((n * channels + ch) * area + pixel));
    }
}

static void randn(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->out[0]), 1024, randn_chunk);
}
const struct sd_kernel sd_cpu_randn = {.run = randn};

static int64_t sample_len(const struct sd_tensor *x)
{
    return sd_tensor_count(x) / x->dim[0];
}

/* Elements [from, to) of x [N,...], in pieces of one sample. */
SD_CPU_CLONES static void mix_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const float *x = c->in[0], *noise = c->in[1], *t = c->in[2], *table = c->in[3];
    float *y = c->out[0];
    int64_t len = sample_len(c->node->in[0]);
    for (int64_t at = from, end; at < to; at = end) {
        int64_t sample = at / len;
        const float *row = table + 2 * (int64_t)t[sample];
        float a = row[0], b = row[1];
        end = sd_cpu_min(to, (sample + 1) * len);
#pragma omp simd
        for (int64_t i = at; i < end; i++)
            y[i] = a * x[i] + b * noise[i];
    }
}

static void mix(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[0]), SD_CPU_CHUNK, mix_chunk);
}
const struct sd_kernel sd_cpu_mix = {.plan = sd_cpu_plan_floats, .run = mix};

SD_CPU_CLONES static float squares(int64_t n, const float *a, const float *b)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

/* The weighted sum of squares of one chunk, to its place in scratch. */
static void mse_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *pred = c->node->in[0];
    const float *target = c->in[1], *weight = c->in[2];
    int64_t len = sample_len(pred);
    float buf[SD_CPU_BLOCK];
    double sum = 0;
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), len - at % len);
        const float *p = sd_cpu_load(c->in[0], pred->dtype, at, n, buf);
        sum += (double)weight[at / len] * (double)squares(n, p, target + at);
    }
    ((double *)c->scratch)[from / SD_CPU_CHUNK] = sum;
}

static int mse_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = (size_t)(sd_tensor_count(c->node->in[0]) / SD_CPU_CHUNK + 1) * sizeof(double);
    return sd_cpu_plan_floats(c, err);
}

static void mse(const struct sd_call *c)
{
    int64_t n = sd_tensor_count(c->node->in[0]);
    sd_cpu_split(c, n, SD_CPU_CHUNK, mse_chunk);
    double sum = 0;
    for (int64_t i = 0; i * SD_CPU_CHUNK < n; i++)
        sum += ((const double *)c->scratch)[i];
    *(float *)c->out[0] = (float)(sum / (double)n);
}
const struct sd_kernel sd_cpu_mse = {.plan = mse_plan, .run = mse};

SD_CPU_CLONES static void mse_bwd_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *pred = c->node->in[1];
    enum sd_dtype type = c->node->out[0]->dtype;
    const float *dy = c->in[0], *target = c->in[2], *weight = c->in[3];
    int64_t len = sample_len(pred), count = sd_tensor_count(pred);
    float bp[SD_CPU_BLOCK], by[SD_CPU_BLOCK];
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), len - at % len);
        const float *p = sd_cpu_load(c->in[1], pred->dtype, at, n, bp), *t = target + at;
        float *y = sd_cpu_place(c->out[0], type, at, by),
              k = (float)(2.0 * *dy * weight[at / len] / (double)count);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = k * (p[i] - t[i]);
        sd_cpu_store(c->out[0], type, at, n, y);
    }
}

static void mse_bwd(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[1]), SD_CPU_CHUNK, mse_bwd_chunk);
}
const struct sd_kernel sd_cpu_mse_bwd = {.plan = sd_cpu_plan_floats, .run = mse_bwd};
