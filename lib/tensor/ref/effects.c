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

/* Parameter number k of the node. */
static void adamw_param(const struct sd_call *c, int k)
{
    struct array param = in(c, 4 * k), grad = in(c, 4 * k + 1), m = in(c, 4 * k + 2), v = in(c, 4 * k + 3),
                 clipping = in(c, c->node->n_in - 2), hyper = in(c, c->node->n_in - 1);
    int at = k * SD_ADAMW_HYPER;
    double keep = ld(hyper, at + SD_ADAMW_KEEP), eps = ld(hyper, at + SD_ADAMW_EPS);
    double beta1 = ld(hyper, at + SD_ADAMW_BETA1), new1 = ld(hyper, at + SD_ADAMW_NEW1);
    double beta2 = ld(hyper, at + SD_ADAMW_BETA2), new2 = ld(hyper, at + SD_ADAMW_NEW2);
    double rate = ld(hyper, at + SD_ADAMW_RATE), root = ld(hyper, at + SD_ADAMW_ROOT);
    for (int64_t i = 0; i < param.n; i++) {
        double g = ld(grad, i) * ld(clipping, SD_CLIP_COEFFICIENT);
        st(grad, i, 0);
        if (ld(clipping, SD_CLIP_SKIP) != 0)
            continue;
        double mean = beta1 * ld(m, i) + new1 * g, square = beta2 * ld(v, i) + new2 * g * g;
        double step = rate * mean / (sqrt(square) * root + eps);
        st(m, i, mean);
        st(v, i, square);
        st(param, i, ld(param, i) * keep - step);
    }
}

static void adamw(const struct sd_call *c)
{
    for (int k = 0; 4 * k + 2 < c->node->n_in; k++)
        adamw_param(c, k);
}
const struct sd_kernel sd_ref_adamw = {.run = adamw};

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

static void lion_param(const struct sd_call *c, int k)
{
    struct array param = in(c, 3 * k), grad = in(c, 3 * k + 1), m = in(c, 3 * k + 2),
                 clipping = in(c, c->node->n_in - 2), hyper = in(c, c->node->n_in - 1);
    int at = k * SD_LION_HYPER;
    double keep = ld(hyper, at + SD_LION_KEEP), rate = ld(hyper, at + SD_LION_RATE);
    double beta1 = ld(hyper, at + SD_LION_BETA1), new1 = ld(hyper, at + SD_LION_NEW1);
    double beta2 = ld(hyper, at + SD_LION_BETA2), new2 = ld(hyper, at + SD_LION_NEW2);
    for (int64_t i = 0; i < param.n; i++) {
        double g = ld(grad, i) * ld(clipping, SD_CLIP_COEFFICIENT), d = beta1 * ld(m, i) + new1 * g;
        st(grad, i, 0);
        if (ld(clipping, SD_CLIP_SKIP) != 0)
            continue;
        st(param, i, keep * ld(param, i) - rate * (d > 0 ? 1 : d < 0 ? -1 : d)); /* NaN stays */
        st(m, i, beta2 * ld(m, i) + new2 * g);
    }
}

static void lion(const struct sd_call *c)
{
    for (int k = 0; 3 * k + 2 < c->node->n_in; k++)
        lion_param(c, k);
}
const struct sd_kernel sd_ref_lion = {.run = lion};

static void sgd_param(const struct sd_call *c, int k)
{
    struct array param = in(c, 3 * k), grad = in(c, 3 * k + 1), m = in(c, 3 * k + 2),
                 clipping = in(c, c->node->n_in - 2), hyper = in(c, c->node->n_in - 1);
    int at = k * SD_SGD_HYPER;
    double decay = ld(hyper, at + SD_SGD_DECAY), momentum = ld(hyper, at + SD_SGD_MOMENTUM);
    double fresh = ld(hyper, at + SD_SGD_NEW), rate = ld(hyper, at + SD_SGD_RATE);
    for (int64_t i = 0; i < param.n; i++) {
        double g = ld(grad, i) * ld(clipping, SD_CLIP_COEFFICIENT), d = g + decay * ld(param, i);
        double moment = momentum * ld(m, i) + fresh * d;
        st(grad, i, 0);
        if (ld(clipping, SD_CLIP_SKIP) != 0)
            continue;
        st(param, i, ld(param, i) - rate * (fresh * d + momentum * moment));
        st(m, i, moment);
    }
}

static void sgd(const struct sd_call *c)
{
    for (int k = 0; 3 * k + 2 < c->node->n_in; k++)
        sgd_param(c, k);
}
const struct sd_kernel sd_ref_sgd = {.run = sgd};
