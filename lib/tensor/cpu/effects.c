/* Effects: gradient sums, the global norm, optimizers. Each is over many tensors at once, cut into pieces
 * that the threads share. */
#include "tensor/cpu/block.h"
#include "tensor/cpu/quant.h"
#include "tensor/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A chunk of one tensor. */
struct piece {
    int tensor; /* which of the node's inputs */
    int64_t from, to;
};

struct pieces {
    int64_t n;
    struct piece piece[];
};

/* Cuts every `step`th input, from 0 to before `end`. */
static int cut(struct sd_call *c, int end, int step, struct sd_err *err)
{
    int64_t n = 0;
    for (int k = 0; k < end; k += step)
        n += (sd_tensor_count(c->node->in[k]) + SD_CPU_CHUNK - 1) / SD_CPU_CHUNK;
    size_t bytes = sizeof(struct pieces) + (size_t)n * sizeof(struct piece);
    struct pieces *p = malloc(bytes);
    if (!p)
        return sd_err_memory(err, bytes);
    p->n = 0;
    for (int k = 0; k < end; k += step)
        for (int64_t at = 0, count = sd_tensor_count(c->node->in[k]); at < count; at += SD_CPU_CHUNK)
            p->piece[p->n++] = (struct piece){k, at, sd_cpu_min(count, at + SD_CPU_CHUNK)};
    c->state = p;
    return 0;
}

static void drop(struct sd_call *c)
{
    free(c->state);
}

static int64_t pieces_of(const struct sd_call *c)
{
    return ((const struct pieces *)c->state)->n;
}

static struct piece piece_of(const struct sd_call *c, int64_t i)
{
    return ((const struct pieces *)c->state)->piece[i];
}

SD_CPU_CLONES static void accumulate_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    float buf[SD_CPU_BLOCK];
    for (int64_t k = from; k < to; k++) {
        struct piece p = piece_of(c, k);
        for (int64_t at = p.from, n; at < p.to; at += n) {
            n = sd_cpu_min(SD_CPU_BLOCK, p.to - at);
            const float *x = sd_cpu_load(c->in[p.tensor + 1], c->node->in[p.tensor + 1]->dtype, at, n, buf);
            float *acc = (float *)c->in[p.tensor] + at;
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                acc[i] += x[i];
        }
    }
}

static int accumulate_plan(struct sd_call *c, struct sd_err *err)
{
    return cut(c, c->node->n_in, 2, err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void accumulate(const struct sd_call *c)
{
    sd_cpu_split(c, pieces_of(c), 1, accumulate_pieces);
}
const struct sd_kernel sd_cpu_accumulate = {.plan = accumulate_plan, .run = accumulate, .drop = drop};

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
    for (int64_t i = from; i < to; i++) {
        struct piece p = piece_of(c, i);
        ((double *)c->scratch)[i] = sum_squares(p.to - p.from, (const float *)c->in[p.tensor] + p.from);
    }
}

static int clip_plan(struct sd_call *c, struct sd_err *err)
{
    if (cut(c, c->node->n_in - 1, 1, err) || sd_cpu_plan_floats(c, err))
        return -1;
    c->scratch_bytes = (size_t)pieces_of(c) * sizeof(double);
    return 0;
}

static void clip(const struct sd_call *c)
{
    sd_cpu_split(c, pieces_of(c), 8, clip_pieces);
    double sum = 0;
    for (int64_t i = 0; i < pieces_of(c); i++)
        sum += ((const double *)c->scratch)[i];
    const float *of = c->in[c->node->n_in - 1];
    double scale = of ? (double)*of : 1, max_norm = c->node->attr.scale, norm = sqrt(sum) / scale,
           coefficient = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    float *y = c->out[0];
    y[SD_CLIP_NORM] = (float)norm;
    y[SD_CLIP_COEFFICIENT] = (float)((coefficient > 1 ? 1 : coefficient) / scale); /* NaN stays */
    y[SD_CLIP_SKIP] = of && !isfinite(sum);
}
const struct sd_kernel sd_cpu_clip = {.plan = clip_plan, .run = clip, .drop = drop};

static void loss_scale(const struct sd_call *c)
{
    const struct sd_loss_scaling *s = &c->node->attr.scaling;
    const float *clip = c->in[2];
    float *scale = c->in[0], *streak = c->in[1], grown = *scale * s->growth;
    if (clip[SD_CLIP_SKIP] != 0) {
        *scale *= s->backoff;
        *streak = 0;
    } else if (++*streak >= (float)s->interval) {
        *scale = isfinite(grown) ? grown : *scale;
        *streak = 0;
    }
}
const struct sd_kernel sd_cpu_loss_scale = {.plan = sd_cpu_plan_floats, .run = loss_scale};

SD_CPU_CLONES static void ema_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    float buf[SD_CPU_BLOCK], rate = *(const float *)c->in[c->node->n_in - 1];
    for (int64_t k = from; k < to; k++) {
        struct piece p = piece_of(c, k);
        for (int64_t at = p.from, n; at < p.to; at += n) {
            n = sd_cpu_min(SD_CPU_BLOCK, p.to - at);
            const float *x = sd_cpu_load(c->in[p.tensor + 1], c->node->in[p.tensor + 1]->dtype, at, n, buf);
            float *shadow = (float *)c->in[p.tensor] + at;
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                shadow[i] += rate * (x[i] - shadow[i]);
        }
    }
}

static int ema_plan(struct sd_call *c, struct sd_err *err)
{
    return cut(c, c->node->n_in - 1, 2, err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void ema(const struct sd_call *c)
{
    sd_cpu_split(c, pieces_of(c), 1, ema_pieces);
}
const struct sd_kernel sd_cpu_ema = {.plan = ema_plan, .run = ema, .drop = drop};

/* One step of n elements with their moments. */
typedef void step(int64_t n, const float *hyper, float clip, float *param, const float *grad,
                  float *const *m);

enum { MOMENTS = 2 };

_Static_assert(SD_CPU_CHUNK % SD_QUANT_BLOCK == 0, "a piece begins with a block");

/* A step with moments that are codes, block by block; inputs are those of the parameter. */
static void step_codes(void *const *in, int moments, const float *maps, int64_t from, int64_t to,
                       const float *hyper, float clip, step *step)
{
    float buf[MOMENTS][SD_QUANT_BLOCK], *const m[MOMENTS] = {buf[0], buf[1]};
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(SD_QUANT_BLOCK, to - at);
        int64_t block = at / SD_QUANT_BLOCK;
        for (int j = 0; j < moments; j++)
            sd_cpu_from_codes(n, (const uint8_t *)in[2 + j] + at, ((const float *)in[2 + moments + j])[block],
                              maps + (size_t)j * SD_QUANT_CODES, m[j]);
        step(n, hyper, clip, (float *)in[0] + at, (const float *)in[1] + at, m);
        for (int j = 0; j < moments; j++)
            ((float *)in[2 + moments + j])[block] =
                sd_cpu_to_codes(n, m[j], maps + (size_t)j * SD_QUANT_CODES, (uint8_t *)in[2 + j] + at);
    }
}

/* step for the pieces of an optimizer, or zeroed gradients where the update is skipped. */
static void step_pieces(const struct sd_call *c, int64_t first, int64_t last, int moments, int width,
                        step *step)
{
    const float *clip = c->in[c->node->n_in - 3], *hypers = c->in[c->node->n_in - 2],
                *maps = c->in[c->node->n_in - 1];
    int each = sd_step_inputs(c->node, moments);
    for (int64_t i = first; i < last; i++) {
        struct piece p = piece_of(c, i);
        void *const *in = c->in + p.tensor;
        float *grad = (float *)in[1] + p.from, *m[MOMENTS] = {0}, k = clip[SD_CLIP_COEFFICIENT];
        const float *hyper = hypers + (size_t)(p.tensor / each * width);
        for (int j = 0; j < moments && !maps; j++)
            m[j] = (float *)in[2 + j] + p.from;
        if (clip[SD_CLIP_SKIP] == 0 && maps)
            step_codes(in, moments, maps, p.from, p.to, hyper, k, step);
        else if (clip[SD_CLIP_SKIP] == 0)
            step(p.to - p.from, hyper, k, (float *)in[0] + p.from, grad, m);
        memset(grad, 0, (size_t)(p.to - p.from) * sizeof *grad);
    }
}

/* Inputs need no check: the builders have made it. */
static int step_plan(struct sd_call *c, int moments, struct sd_err *err)
{
    return cut(c, c->node->n_in - 3, sd_step_inputs(c->node, moments), err);
}

static int step1_plan(struct sd_call *c, struct sd_err *err)
{
    return step_plan(c, 1, err);
}

static int step2_plan(struct sd_call *c, struct sd_err *err)
{
    return step_plan(c, 2, err);
}

SD_CPU_CLONES static void adamw_step(int64_t n, const float *hyper, float clip, float *param,
                                     const float *grad, float *const *moment)
{
    float keep = hyper[SD_ADAMW_KEEP], eps = hyper[SD_ADAMW_EPS], rate = hyper[SD_ADAMW_RATE];
    float beta1 = hyper[SD_ADAMW_BETA1], new1 = hyper[SD_ADAMW_NEW1];
    float beta2 = hyper[SD_ADAMW_BETA2], new2 = hyper[SD_ADAMW_NEW2], root = hyper[SD_ADAMW_ROOT];
    float *m = moment[0], *v = moment[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip;
        m[i] = beta1 * m[i] + new1 * g;
        v[i] = beta2 * v[i] + new2 * g * g;
        param[i] = param[i] * keep - rate * m[i] / (sqrtf(v[i]) * root + eps);
    }
}

SD_CPU_CLONES static void lion_step(int64_t n, const float *hyper, float clip, float *param,
                                    const float *grad, float *const *moment)
{
    float keep = hyper[SD_LION_KEEP], rate = hyper[SD_LION_RATE], beta1 = hyper[SD_LION_BETA1],
          new1 = hyper[SD_LION_NEW1], beta2 = hyper[SD_LION_BETA2], new2 = hyper[SD_LION_NEW2],
          *m = moment[0];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip, d = beta1 * m[i] + new1 * g;
        param[i] = keep * param[i] - rate * (d > 0 ? 1 : d < 0 ? -1 : d); /* NaN stays */
        m[i] = beta2 * m[i] + new2 * g;
    }
}

SD_CPU_CLONES static void sgd_step(int64_t n, const float *hyper, float clip, float *param, const float *grad,
                                   float *const *moment)
{
    float decay = hyper[SD_SGD_DECAY], momentum = hyper[SD_SGD_MOMENTUM], fresh = hyper[SD_SGD_NEW],
          rate = hyper[SD_SGD_RATE], *m = moment[0];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = fresh * (grad[i] * clip + decay * param[i]);
        m[i] = momentum * m[i] + d;
        param[i] -= rate * (d + momentum * m[i]);
    }
}

static void adamw_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    step_pieces(c, from, to, 2, SD_ADAMW_HYPER, adamw_step);
}

static void adamw(const struct sd_call *c)
{
    sd_cpu_split(c, pieces_of(c), 1, adamw_pieces);
}
const struct sd_kernel sd_cpu_adamw = {.plan = step2_plan, .run = adamw, .drop = drop};

static void lion_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    step_pieces(c, from, to, 1, SD_LION_HYPER, lion_step);
}

static void lion(const struct sd_call *c)
{
    sd_cpu_split(c, pieces_of(c), 1, lion_pieces);
}
const struct sd_kernel sd_cpu_lion = {.plan = step1_plan, .run = lion, .drop = drop};

static void sgd_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    step_pieces(c, from, to, 1, SD_SGD_HYPER, sgd_step);
}

static void sgd(const struct sd_call *c)
{
    sd_cpu_split(c, pieces_of(c), 1, sgd_pieces);
}
const struct sd_kernel sd_cpu_sgd = {.plan = step1_plan, .run = sgd, .drop = drop};
