#include "tensor/ref/array.h"

#include <math.h>

static void accumulate(const struct sd_call *c)
{
    for (int k = 0; k < c->node->n_in; k += 2) {
        struct array acc = in(c, k), x = in(c, k + 1);
        for (int64_t i = 0; i < acc.n; i++)
            st(acc, i, ld(acc, i) + ld(x, i));
    }
}
const struct sd_kernel sd_ref_accumulate = {.run = accumulate};

static void clip(const struct sd_call *c)
{
    double sum = 0, max_norm = c->node->attr.scale;
    struct array of = in(c, c->node->n_in - 1);
    for (int k = 0; k < c->node->n_in - 1; k++)
        for (int64_t i = 0; i < in(c, k).n; i++)
            sum += pow(ld(in(c, k), i), 2);
    double scale = of.data ? ld(of, 0) : 1, norm = sqrt(sum) / scale;
    double coefficient = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    st(out(c, 0), SD_CLIP_NORM, norm);
    st(out(c, 0), SD_CLIP_COEFFICIENT, (coefficient > 1 ? 1 : coefficient) / scale); /* NaN stays */
    st(out(c, 0), SD_CLIP_SKIP, of.data && !isfinite(sum));
}
const struct sd_kernel sd_ref_clip = {.run = clip};

static void loss_scale(const struct sd_call *c)
{
    const struct sd_loss_scaling *s = &c->node->attr.scaling;
    struct array scale = in(c, 0), streak = in(c, 1);
    double now = ld(scale, 0), count = ld(streak, 0) + 1;
    if (ld(in(c, 2), SD_CLIP_SKIP) != 0) {
        now *= (double)s->backoff;
        count = 0;
    } else if (count >= (double)s->interval) {
        float grown = (float)(now * (double)s->growth);
        now = isfinite(grown) ? (double)grown : now;
        count = 0;
    }
    st(scale, 0, now);
    st(streak, 0, count);
}
const struct sd_kernel sd_ref_loss_scale = {.run = loss_scale};

static void ema(const struct sd_call *c)
{
    double rate = ld(in(c, c->node->n_in - 1), 0);
    for (int k = 0; k + 1 < c->node->n_in; k += 2) {
        struct array shadow = in(c, k), param = in(c, k + 1);
        for (int64_t i = 0; i < shadow.n; i++)
            st(shadow, i, ld(shadow, i) + rate * (ld(param, i) - ld(shadow, i)));
    }
}
const struct sd_kernel sd_ref_ema = {.run = ema};
