/* Ops that only move elements, whatever their type; and the transpose of upsample. */
#include "tensor/cpu/block.h"

#include <string.h>

static int64_t width_of(const struct sd_tensor *t)
{
    return t->dim[t->ndim - 1];
}

static int64_t rows_of(const struct sd_tensor *t)
{
    return sd_tensor_count(t) / width_of(t);
}

/* Calls body on rows of t, about a chunk's worth of elements at a time. */
static void split_rows(const struct sd_call *c, const struct sd_tensor *t, int64_t rows, sd_cpu_body *body)
{
    int64_t width = sd_tensor_count(t) / rows;
    sd_cpu_split(c, rows, sd_cpu_max(1, 2 * SD_CPU_CHUNK / width), body);
}

static void concat_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    size_t e = sd_dtype_size(c->node->out[0]->dtype);
    size_t a = (size_t)width_of(c->node->in[0]) * e, b = (size_t)width_of(c->node->in[1]) * e;
    for (int64_t r = from; r < to; r++) {
        char *y = (char *)c->out[0] + (size_t)r * (a + b);
        memcpy(y, (const char *)c->in[0] + (size_t)r * a, a);
        memcpy(y + a, (const char *)c->in[1] + (size_t)r * b, b);
    }
}

static void concat(const struct sd_call *c)
{
    split_rows(c, c->node->out[0], rows_of(c->node->out[0]), concat_rows);
}
const struct sd_kernel sd_cpu_concat = {.run = concat};

static void slice_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    size_t e = sd_dtype_size(c->node->out[0]->dtype);
    size_t x = (size_t)width_of(c->node->in[0]) * e, y = (size_t)width_of(c->node->out[0]) * e;
    for (int64_t r = from; r < to; r++)
        memcpy((char *)c->out[0] + (size_t)r * y,
               (const char *)c->in[0] + (size_t)r * x + (size_t)c->node->attr.offset * e, y);
}

static void slice(const struct sd_call *c)
{
    split_rows(c, c->node->out[0], rows_of(c->node->out[0]), slice_rows);
}
const struct sd_kernel sd_cpu_slice = {.run = slice};

static void pad_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    size_t e = sd_dtype_size(c->node->out[0]->dtype), before = (size_t)c->node->attr.offset * e;
    size_t x = (size_t)width_of(c->node->in[0]) * e, y = (size_t)width_of(c->node->out[0]) * e;
    for (int64_t r = from; r < to; r++) {
        char *row = (char *)c->out[0] + (size_t)r * y;
        memset(row, 0, before);
        memcpy(row + before, (const char *)c->in[0] + (size_t)r * x, x);
        memset(row + before + x, 0, y - before - x);
    }
}

static void pad_channels(const struct sd_call *c)
{
    split_rows(c, c->node->out[0], rows_of(c->node->out[0]), pad_rows);
}
const struct sd_kernel sd_cpu_pad_channels = {.run = pad_channels};

/* Rows of pixels [from, to) of all pictures of the output. */
static void upsample_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    const int64_t *x = c->node->in[0]->dim, *y = c->node->out[0]->dim;
    size_t pixel = (size_t)x[3] * sd_dtype_size(c->node->out[0]->dtype);
    for (int64_t r = from; r < to; r++) {
        int64_t image = r / y[1], source = r % y[1] * x[1] / y[1];
        const char *in = (const char *)c->in[0] + (size_t)((image * x[1] + source) * x[2]) * pixel;
        char *out = (char *)c->out[0] + (size_t)(r * y[2]) * pixel;
        for (int64_t j = 0; j < y[2]; j++)
            memcpy(out + (size_t)j * pixel, in + (size_t)(j * x[2] / y[2]) * pixel, pixel);
    }
}

static void upsample(const struct sd_call *c)
{
    const int64_t *y = c->node->out[0]->dim;
    split_rows(c, c->node->out[0], y[0] * y[1], upsample_rows);
}
const struct sd_kernel sd_cpu_upsample = {.run = upsample};

/* First of the `large` positions that come from position i of `small`: floor(p * small / large) = i. */
static int64_t first_from(int64_t i, int64_t small, int64_t large)
{
    return (i * large + small - 1) / small;
}

SD_CPU_CLONES static void add_block(int64_t n, const float *x, float *sum)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

/* Sums channels [k, k+n) of the pixels of dy that came from pixel (i, j) of picture `image`. */
static void gather_pixel(const struct sd_call *c, int64_t image, int64_t i, int64_t j, int64_t k, int64_t n,
                         float *sum)
{
    const struct sd_tensor *dy = c->node->in[0];
    const int64_t *s = c->node->out[0]->dim, *l = dy->dim;
    float buf[SD_CPU_BLOCK];
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t p = first_from(i, s[1], l[1]); p < first_from(i + 1, s[1], l[1]); p++)
        for (int64_t q = first_from(j, s[2], l[2]); q < first_from(j + 1, s[2], l[2]); q++)
            add_block(n, sd_cpu_load(c->in[0], dy->dtype, ((image * l[1] + p) * l[2] + q) * l[3] + k, n, buf),
                      sum);
}

static void upsample_bwd_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *dx = c->node->out[0];
    int64_t h = dx->dim[1], w = dx->dim[2], ch = dx->dim[3];
    float sum[SD_CPU_BLOCK];
    for (int64_t r = from; r < to; r++)
        for (int64_t j = 0; j < w; j++)
            for (int64_t k = 0; k < ch; k += SD_CPU_BLOCK) {
                int64_t n = sd_cpu_min(SD_CPU_BLOCK, ch - k);
                gather_pixel(c, r / h, r % h, j, k, n, sum);
                sd_cpu_store(c->out[0], dx->dtype, (r * w + j) * ch + k, n, sum);
            }
}

static void upsample_bwd(const struct sd_call *c)
{
    const struct sd_tensor *dx = c->node->out[0];
    split_rows(c, dx, dx->dim[0] * dx->dim[1], upsample_bwd_rows);
}
const struct sd_kernel sd_cpu_upsample_bwd = {.plan = sd_cpu_plan_floats, .run = upsample_bwd};

static void assign_elements(const struct sd_call *c, int64_t from, int64_t to)
{
    size_t e = sd_dtype_size(c->node->in[0]->dtype), at = (size_t)from * e;
    memcpy((char *)c->in[0] + at, (const char *)c->in[1] + at, (size_t)(to - from) * e);
}

static void assign(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[0]), SD_CPU_CHUNK, assign_elements);
}
const struct sd_kernel sd_cpu_assign = {.run = assign};
