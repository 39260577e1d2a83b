/* Effects: gradient sums, the global norm, AdamW. */
#include "tensor/cpu/block.h"

#include <math.h>
#include <stdlib.h>

SD_CPU_CLONES static void accumulate_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    float buf[SD_CPU_BLOCK];
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(SD_CPU_BLOCK, to - at);
        const float *x = sd_cpu_load(c->in[1], c->node->in[1]->dtype, at, n, buf);
        float *acc = (float *)c->in[0] + at;
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            acc[i] += x[i];
    }
}

static void accumulate(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[0]), SD_CPU_CHUNK, accumulate_chunk);
}
const struct sd_kernel sd_cpu_accumulate = {.plan = sd_cpu_plan_floats, .run = accumulate};

/* A chunk of one of clip's many tensors; its sum of squares goes to scratch. */
struct piece {
    int tensor;
    int64_t from, to;
};

struct clip {
    int64_t n;
    struct piece piece[];
};

SD_CPU_CLONES static double sum_squares(int64_t n, const float *x)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

static void clip_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct clip *clip = c->state;
    for (int64_t i = from; i < to; i++) {
        const struct piece *p = &clip->piece[i];
        ((double *)c->scratch)[i] = sum_squares(p->to - p->from, (const float *)c->in[p->tensor] + p->from);
    }
}

static int clip_plan(struct sd_call *c, struct sd_err *err)
{
    int64_t pieces = 0;
    for (int k = 0; k < c->node->n_in; k++)
        pieces += (sd_tensor_count(c->node->in[k]) + SD_CPU_CHUNK - 1) / SD_CPU_CHUNK;
    size_t bytes = sizeof(struct clip) + (size_t)pieces * sizeof(struct piece);
    struct clip *clip = malloc(bytes);
    if (!clip)
        return sd_err_memory(err, bytes);
    clip->n = 0;
    for (int k = 0; k < c->node->n_in; k++)
        for (int64_t at = 0, n = sd_tensor_count(c->node->in[k]); at < n; at += SD_CPU_CHUNK)
            clip->piece[clip->n++] = (struct piece){k, at, sd_cpu_min(n, at + SD_CPU_CHUNK)};
    c->state = clip;
    c->scratch_bytes = (size_t)pieces * sizeof(double);
    return sd_cpu_plan_floats(c, err);
}

static void clip_drop(struct sd_call *c)
{
    free(c->state);
}

static void clip(const struct sd_call *c)
{
    const struct clip *clip = c->state;
    sd_cpu_split(c, clip->n, 8, clip_pieces);
    double sum = 0;
    for (int64_t i = 0; i < clip->n; i++)
        sum += ((const double *)c->scratch)[i];
    double max_norm = c->node->attr.scale, norm = sqrt(sum),
           coefficient = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    float *y = c->out[0];
    y[0] = (float)norm;
    y[1] = coefficient > 1 ? 1 : (float)coefficient; /* NaN stays */
}
const struct sd_kernel sd_cpu_clip = {.plan = clip_plan, .run = clip, .drop = clip_drop};

SD_CPU_CLONES static void adamw_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    float *param = c->in[0], *grad = c->in[1], *m = c->in[2], *v = c->in[3];
    const float *clipping = c->in[4], *hyper = c->in[5];
    float keep = hyper[SD_ADAMW_KEEP], eps = hyper[SD_ADAMW_EPS], rate = hyper[SD_ADAMW_RATE];
    float beta1 = hyper[SD_ADAMW_BETA1], new1 = hyper[SD_ADAMW_NEW1];
    float beta2 = hyper[SD_ADAMW_BETA2], new2 = hyper[SD_ADAMW_NEW2];
    float root = hyper[SD_ADAMW_ROOT], k = clipping ? clipping[1] : 1;
#pragma omp simd
    for (int64_t i = from; i < to; i++) {
        float g = grad[i] * k;
        m[i] = beta1 * m[i] + new1 * g;
        v[i] = beta2 * v[i] + new2 * g * g;
        param[i] = param[i] * keep - rate * m[i] / (sqrtf(v[i]) * root + eps);
        grad[i] = 0;
    }
}

static void adamw(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[0]), SD_CPU_CHUNK, adamw_chunk);
}
const struct sd_kernel sd_cpu_adamw = {.plan = sd_cpu_plan_floats, .run = adamw};
