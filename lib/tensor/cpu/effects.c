/* Effects: gradient sums, the global norm, moving averages. Each is over many tensors at once. */
#include "tensor/cpu/pieces.h"

#include <math.h>

SD_CPU_CLONES static void accumulate_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    float buf[SD_CPU_BLOCK];
    for (int64_t k = from; k < to; k++) {
        struct sd_cpu_piece p = sd_cpu_piece_of(c, k);
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
    return sd_cpu_cut(c, c->node->n_in, 2, err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void accumulate(const struct sd_call *c)
{
    sd_cpu_split(c, sd_cpu_pieces_of(c), 1, accumulate_pieces);
}
const struct sd_kernel sd_cpu_accumulate = {
    .plan = accumulate_plan, .run = accumulate, .drop = sd_cpu_drop_pieces};

static void clip_pieces(const struct sd_call *c, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        struct sd_cpu_piece p = sd_cpu_piece_of(c, i);
        ((double *)c->scratch)[i] =
            sd_cpu_sum_squares(p.to - p.from, (const float *)c->in[p.tensor] + p.from);
    }
}

static int clip_plan(struct sd_call *c, struct sd_err *err)
{
    if (sd_cpu_cut(c, c->node->n_in - 1, 1, err) || sd_cpu_plan_floats(c, err))
        return -1;
    c->scratch_bytes = (size_t)sd_cpu_pieces_of(c) * sizeof(double);
    return 0;
}

static void clip(const struct sd_call *c)
{
    sd_cpu_split(c, sd_cpu_pieces_of(c), 8, clip_pieces);
    double sum = 0;
    for (int64_t i = 0; i < sd_cpu_pieces_of(c); i++)
        sum += ((const double *)c->scratch)[i];
    const float *of = c->in[c->node->n_in - 1];
    double scale = of ? (double)*of : 1, max_norm = c->node->attr.scale, norm = sqrt(sum) / scale,
           coefficient = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    float *y = c->out[0];
    y[SD_CLIP_NORM] = (float)norm;
    y[SD_CLIP_COEFFICIENT] = (float)((coefficient > 1 ? 1 : coefficient) / scale); /* NaN stays */
    y[SD_CLIP_SKIP] = of && !isfinite(sum);
}
const struct sd_kernel sd_cpu_clip = {.plan = clip_plan, .run = clip, .drop = sd_cpu_drop_pieces};

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
        struct sd_cpu_piece p = sd_cpu_piece_of(c, k);
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
    return sd_cpu_cut(c, c->node->n_in - 1, 2, err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void ema(const struct sd_call *c)
{
    sd_cpu_split(c, sd_cpu_pieces_of(c), 1, ema_pieces);
}
const struct sd_kernel sd_cpu_ema = {.plan = ema_plan, .run = ema, .drop = sd_cpu_drop_pieces};
