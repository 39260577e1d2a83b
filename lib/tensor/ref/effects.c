#include "tensor/quant.h"
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

/* One element: *x and its moments m with the gradient g. */
typedef void step(struct array hyper, int row, double g, double *x, double *m);

enum { MOMENTS = 2 };

static int nearest(struct array maps, int row, double v)
{
    int best = 0;
    for (int i = 1; i < SD_QUANT_CODES; i++)
        if (fabs(ld(maps, row + i) - v) < fabs(ld(maps, row + best) - v))
            best = i;
    return v < 0 && ld(maps, row + best) == 0 && best > 0 ? best - 1 : best;
}

/* Moment number j of a block that begins at `at`, to codes and their magnitude. */
static void to_codes(struct array codes, struct array max, struct array maps, int j, int64_t at, int64_t n,
                     const double (*m)[MOMENTS])
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fabs(m[i][j]) <= most || isnan(most) ? most : fabs(m[i][j]); /* NaN stays */
    st(max, at / SD_QUANT_BLOCK, most);
    most = ld(max, at / SD_QUANT_BLOCK);
    for (int64_t i = 0; i < n; i++)
        ((uint8_t *)codes.data)[at + i] =
            (uint8_t)nearest(maps, j * SD_QUANT_CODES, most != 0 ? m[i][j] / most : 0);
}

/* The block at `at` of the parameter whose inputs begin with number k. */
static void step_block(const struct sd_call *c, int k, int row, int64_t at, int moments, step *step)
{
    struct array param = in(c, k), grad = in(c, k + 1), clipping = in(c, c->node->n_in - 3),
                 hyper = in(c, c->node->n_in - 2), maps = in(c, c->node->n_in - 1);
    int64_t n = param.n - at < SD_QUANT_BLOCK ? param.n - at : SD_QUANT_BLOCK;
    double m[SD_QUANT_BLOCK][MOMENTS];
    for (int64_t i = 0; i < n; i++) {
        double g = ld(grad, at + i) * ld(clipping, SD_CLIP_COEFFICIENT), x = ld(param, at + i);
        st(grad, at + i, 0);
        if (ld(clipping, SD_CLIP_SKIP) != 0)
            continue;
        for (int j = 0; j < moments; j++) {
            m[i][j] = ld(in(c, k + 2 + j), at + i);
            if (maps.data)
                m[i][j] = ld(maps, j * SD_QUANT_CODES + (int64_t)m[i][j]) *
                          ld(in(c, k + 2 + moments + j), at / SD_QUANT_BLOCK);
        }
        step(hyper, row, g, &x, m[i]);
        st(param, at + i, x);
        for (int j = 0; j < moments && !maps.data; j++)
            st(in(c, k + 2 + j), at + i, m[i][j]);
    }
    for (int j = 0; j < moments && maps.data && ld(clipping, SD_CLIP_SKIP) == 0; j++)
        to_codes(in(c, k + 2 + j), in(c, k + 2 + moments + j), maps, j, at, n, m);
}

static void steps(const struct sd_call *c, int moments, int width, step *step)
{
    int each = sd_step_inputs(c->node, moments);
    for (int k = 0; k + each <= c->node->n_in - 3; k += each)
        for (int64_t at = 0; at < in(c, k).n; at += SD_QUANT_BLOCK)
            step_block(c, k, k / each * width, at, moments, step);
}

static void adamw_step(struct array hyper, int row, double g, double *x, double *m)
{
    double keep = ld(hyper, row + SD_ADAMW_KEEP), eps = ld(hyper, row + SD_ADAMW_EPS);
    double beta1 = ld(hyper, row + SD_ADAMW_BETA1), new1 = ld(hyper, row + SD_ADAMW_NEW1);
    double beta2 = ld(hyper, row + SD_ADAMW_BETA2), new2 = ld(hyper, row + SD_ADAMW_NEW2);
    double rate = ld(hyper, row + SD_ADAMW_RATE), root = ld(hyper, row + SD_ADAMW_ROOT);
    m[0] = beta1 * m[0] + new1 * g;
    m[1] = beta2 * m[1] + new2 * g * g;
    *x = *x * keep - rate * m[0] / (sqrt(m[1]) * root + eps);
}

static void adamw(const struct sd_call *c)
{
    steps(c, 2, SD_ADAMW_HYPER, adamw_step);
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

static void lion_step(struct array hyper, int row, double g, double *x, double *m)
{
    double keep = ld(hyper, row + SD_LION_KEEP), rate = ld(hyper, row + SD_LION_RATE);
    double beta1 = ld(hyper, row + SD_LION_BETA1), new1 = ld(hyper, row + SD_LION_NEW1);
    double beta2 = ld(hyper, row + SD_LION_BETA2), new2 = ld(hyper, row + SD_LION_NEW2);
    double d = beta1 * *m + new1 * g;
    *x = keep * *x - rate * (d > 0 ? 1 : d < 0 ? -1 : d); /* NaN stays */
    *m = beta2 * *m + new2 * g;
}

static void lion(const struct sd_call *c)
{
    steps(c, 1, SD_LION_HYPER, lion_step);
}
const struct sd_kernel sd_ref_lion = {.run = lion};

static void sgd_step(struct array hyper, int row, double g, double *x, double *m)
{
    double decay = ld(hyper, row + SD_SGD_DECAY), momentum = ld(hyper, row + SD_SGD_MOMENTUM);
    double fresh = ld(hyper, row + SD_SGD_NEW), rate = ld(hyper, row + SD_SGD_RATE);
    double d = g + decay * *x;
    *m = momentum * *m + fresh * d;
    *x -= rate * (fresh * d + momentum * *m);
}

static void sgd(const struct sd_call *c)
{
    steps(c, 1, SD_SGD_HYPER, sgd_step);
}
const struct sd_kernel sd_ref_sgd = {.run = sgd};
