#include "tensor/cpu/block.h"

#include "base/philox.h"

#include <math.h>

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

SD_CPU_CLONES static void add_term(int64_t n, float by, const float *x, bool first, float *y)
{
    if (first) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = by * x[i];
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] += by * x[i];
    }
}

SD_CPU_CLONES static void limit(int64_t n, float most, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = y[i] > most ? most : y[i] < -most ? -most : y[i]; /* NaN stays */
}

static void combine_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *coef = c->node->in[0];
    int64_t len = sample_len(c->node->out[0]);
    int terms = c->node->n_in - 1;
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), len - at % len);
        const float *row = (const float *)c->in[0] + at / len * coef->dim[1] + c->node->attr.offset;
        float *y = (float *)c->out[0] + at;
        for (int k = 0; k < terms; k++)
            add_term(n, row[k], (const float *)c->in[k + 1] + at, k == 0, y);
        if (c->node->attr.limited)
            limit(n, row[terms], y);
    }
}

static void combine(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->out[0]), SD_CPU_CHUNK, combine_chunk);
}
const struct sd_kernel sd_cpu_combine = {.plan = sd_cpu_plan_floats, .run = combine};

/* Twice sqrt(d^2 + delta^2) - delta, by a formula that loses nothing where d is small. */
static inline float bent(float d, float delta)
{
    float under = sqrtf(d * d + delta * delta) + delta;
    return under == 0 ? 0 : 2 * d * d / under;
}

static inline float bent_slope(float d, float delta)
{
    float root = sqrtf(d * d + delta * delta);
    return root == 0 ? 0 : 2 * d / root;
}

static inline float sign(float d)
{
    return d > 0 ? 1 : d < 0 ? -1 : d; /* NaN stays */
}

#define SUM(term)                                                          \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < n; i++) \
    {                                                                      \
        float d = a[i] - b[i];                                             \
        sum += (term);                                                     \
    }                                                                      \
    return sum

SD_CPU_CLONES static float terms(enum sd_loss kind, float delta, int64_t n, const float *a, const float *b)
{
    float sum = 0;
    switch (kind) {
    case SD_LOSS_L2:
        SUM(d * d);
    case SD_LOSS_L1:
        SUM(fabsf(d));
    default:
        SUM(bent(d, delta));
    }
}

#define EACH(slope)                                     \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
    {                                                   \
        float d = a[i] - b[i];                          \
        y[i] = k * (slope);                             \
    }                                                   \
    return

SD_CPU_CLONES static void slopes(enum sd_loss kind, float delta, float k, int64_t n, const float *a,
                                 const float *b, float *y)
{
    switch (kind) {
    case SD_LOSS_L2:
        k *= 2;
        EACH(d);
    case SD_LOSS_L1:
        EACH(sign(d));
    default:
        EACH(bent_slope(d, delta));
    }
}

/* What all terms of a sample are multiplied by. */
static float weight_of(enum sd_loss kind, const float *weight, const float *delta, int64_t sample)
{
    return kind == SD_LOSS_HUBER ? weight[sample] * delta[sample] : weight[sample];
}

/* The weighted sum of one chunk, to its place in scratch. */
static void loss_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *pred = c->node->in[0];
    const float *target = c->in[1], *weight = c->in[2], *delta = c->in[3];
    enum sd_loss kind = c->node->attr.loss;
    int64_t len = sample_len(pred);
    float buf[SD_CPU_BLOCK];
    double sum = 0;
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), len - at % len);
        const float *p = sd_cpu_load(c->in[0], pred->dtype, at, n, buf);
        sum += (double)weight_of(kind, weight, delta, at / len) *
               (double)terms(kind, delta ? delta[at / len] : 0, n, p, target + at);
    }
    ((double *)c->scratch)[from / SD_CPU_CHUNK] = sum;
}

static int loss_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = (size_t)(sd_tensor_count(c->node->in[0]) / SD_CPU_CHUNK + 1) * sizeof(double);
    return sd_cpu_plan_floats(c, err);
}

static void loss(const struct sd_call *c)
{
    int64_t n = sd_tensor_count(c->node->in[0]);
    sd_cpu_split(c, n, SD_CPU_CHUNK, loss_chunk);
    double sum = 0;
    for (int64_t i = 0; i * SD_CPU_CHUNK < n; i++)
        sum += ((const double *)c->scratch)[i];
    *(float *)c->out[0] = (float)(sum / (double)n);
}
const struct sd_kernel sd_cpu_loss = {.plan = loss_plan, .run = loss};

static void loss_bwd_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *pred = c->node->in[1];
    enum sd_dtype type = c->node->out[0]->dtype;
    enum sd_loss kind = c->node->attr.loss;
    const float *dy = c->in[0], *target = c->in[2], *weight = c->in[3], *delta = c->in[4];
    int64_t len = sample_len(pred), count = sd_tensor_count(pred);
    float bp[SD_CPU_BLOCK], by[SD_CPU_BLOCK];
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), len - at % len);
        const float *p = sd_cpu_load(c->in[1], pred->dtype, at, n, bp);
        float *y = sd_cpu_place(c->out[0], type, at, by);
        float k = (float)((double)*dy * (double)weight_of(kind, weight, delta, at / len) / (double)count);
        slopes(kind, delta ? delta[at / len] : 0, k, n, p, target + at, y);
        sd_cpu_store(c->out[0], type, at, n, y);
    }
}

static void loss_bwd(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[1]), SD_CPU_CHUNK, loss_bwd_chunk);
}
const struct sd_kernel sd_cpu_loss_bwd = {.plan = sd_cpu_plan_floats, .run = loss_bwd};
