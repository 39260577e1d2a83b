/* Steps of optimizers, an element at a time, in double. */
#include "tensor/quant.h"
#include "tensor/ref/array.h"
#include "tensor/rule.h"

#include <math.h>

/* One element x: its moments m with the gradient g, by a row of hyper. Returns the new x. */
typedef double step(const double *h, double x, double g, double *m);

static double sign(double d)
{
    return d > 0 ? 1 : d < 0 ? -1 : d; /* NaN stays */
}

static double adam_moments(const double *h, double x, double g, double *m)
{
    double d = g + h[SD_ADAM_DECAY] * x;
    m[0] = h[SD_ADAM_BETA1] * m[0] + h[SD_ADAM_NEW1] * d;
    m[1] = h[SD_ADAM_BETA2] * m[1] + h[SD_ADAM_NEW2] * d * d;
    return h[SD_ADAM_RATE] * m[0] + h[SD_ADAM_FRESH] * d;
}

static double adam(const double *h, double x, double g, double *m)
{
    double top = adam_moments(h, x, g, m);
    return h[SD_ADAM_KEEP] * x - top / (h[SD_ADAM_ROOT] * sqrt(m[1]) + h[SD_ADAM_EPS]);
}

static double amsgrad(const double *h, double x, double g, double *m)
{
    double top = adam_moments(h, x, g, m);
    m[2] = m[1] <= m[2] ? m[2] : m[1]; /* NaN stays */
    return h[SD_ADAM_KEEP] * x - top / (h[SD_ADAM_ROOT] * sqrt(m[2]) + h[SD_ADAM_EPS]);
}

static double lion(const double *h, double x, double g, double *m)
{
    double d = h[SD_LION_BETA1] * m[0] + h[SD_LION_NEW1] * g;
    m[0] = h[SD_LION_BETA2] * m[0] + h[SD_LION_NEW2] * g;
    return h[SD_LION_KEEP] * x - h[SD_LION_RATE] * sign(d);
}

static double sgd(const double *h, double x, double g, double *m)
{
    double d = g + h[SD_SGD_DECAY] * x;
    m[0] = h[SD_SGD_MOMENTUM] * m[0] + h[SD_SGD_NEW] * d;
    return h[SD_SGD_KEEP] * x - (h[SD_SGD_FRESH] * d + h[SD_SGD_RATE] * m[0]);
}

static double rmsprop(const double *h, double x, double g, double *m)
{
    double d = g + h[SD_RMSPROP_DECAY] * x;
    m[0] = h[SD_RMSPROP_ALPHA] * m[0] + h[SD_RMSPROP_NEW] * d * d;
    return x - h[SD_RMSPROP_RATE] * d / (sqrt(m[0]) + h[SD_RMSPROP_EPS]);
}

static double rmsprop_full(const double *h, double x, double g, double *m)
{
    double d = g + h[SD_RMSPROP_DECAY] * x;
    m[0] = h[SD_RMSPROP_ALPHA] * m[0] + h[SD_RMSPROP_NEW] * d * d;
    m[1] = h[SD_RMSPROP_ALPHA] * m[1] + h[SD_RMSPROP_NEW] * d;
    double variance = m[0] - h[SD_RMSPROP_CENTER] * m[1] * m[1];
    double root = sqrt(variance < 0 ? 0 : variance) + h[SD_RMSPROP_EPS];
    m[2] = h[SD_RMSPROP_MOMENTUM] * m[2] + d / root;
    return x - h[SD_RMSPROP_RATE] * m[2];
}

static double adadelta(const double *h, double x, double g, double *m)
{
    double d = g + h[SD_ADADELTA_DECAY] * x, eps = h[SD_ADADELTA_EPS];
    m[0] = h[SD_ADADELTA_RHO] * m[0] + h[SD_ADADELTA_NEW] * d * d;
    double s = d * sqrt(m[1] + eps) / sqrt(m[0] + eps);
    m[1] = h[SD_ADADELTA_RHO] * m[1] + h[SD_ADADELTA_NEW] * s * s;
    return x - h[SD_ADADELTA_RATE] * s;
}

static double adamax(const double *h, double x, double g, double *m)
{
    double d = g + h[SD_ADAMAX_DECAY] * x, now = fabs(d) + h[SD_ADAMAX_EPS],
           before = h[SD_ADAMAX_BETA2] * m[1];
    m[0] = h[SD_ADAMAX_BETA1] * m[0] + h[SD_ADAMAX_NEW1] * d;
    m[1] = now <= before ? before : now; /* NaN stays */
    return x - h[SD_ADAMAX_RATE] * m[0] / m[1];
}

static double rprop(const double *h, double x, double g, double *m)
{
    double turn = g * m[0];
    if (turn > 0)
        m[1] = fmin(h[SD_RPROP_UP] * m[1], h[SD_RPROP_MOST]);
    else if (turn < 0)
        m[1] = fmax(h[SD_RPROP_DOWN] * m[1], h[SD_RPROP_LEAST]);
    m[0] = turn < 0 ? 0 : g;
    return x - m[1] * sign(m[0]);
}

static step *const steps[SD_RULE_COUNT] = {
#define RULE(name, ...) name,
#include "tensor/rules.def"
#undef RULE
};

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
                     const double (*m)[SD_STEP_MOMENTS])
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
static void step_block(const struct sd_call *c, int k, const double *hyper, int64_t at)
{
    const struct sd_node *node = c->node;
    const int moments = sd_rules[node->attr.rule].moments;
    struct array param = in(c, k), grad = in(c, k + 1), clip = in(c, sd_step_input(node, SD_STEP_IN_CLIP)),
                 maps = in(c, sd_step_input(node, SD_STEP_IN_MAPS));
    bool skip = ld(clip, SD_CLIP_SKIP) != 0 || hyper[SD_STEP_LIVE] == 0;
    int64_t n = param.n - at < SD_QUANT_BLOCK ? param.n - at : SD_QUANT_BLOCK;
    double m[SD_QUANT_BLOCK][SD_STEP_MOMENTS];
    for (int64_t i = 0; i < n; i++) {
        double g = ld(grad, at + i) * ld(clip, SD_CLIP_COEFFICIENT);
        st(grad, at + i, 0);
        if (skip)
            continue;
        for (int j = 0; j < moments; j++) {
            m[i][j] = ld(in(c, k + 2 + j), at + i);
            if (maps.data)
                m[i][j] = ld(maps, j * SD_QUANT_CODES + (int64_t)m[i][j]) *
                          ld(in(c, k + 2 + moments + j), at / SD_QUANT_BLOCK);
        }
        st(param, at + i, steps[node->attr.rule](hyper, ld(param, at + i), g, m[i]));
        for (int j = 0; j < moments && !maps.data; j++)
            st(in(c, k + 2 + j), at + i, m[i][j]);
    }
    for (int j = 0; j < moments && maps.data && !skip; j++)
        to_codes(in(c, k + 2 + j), in(c, k + 2 + moments + j), maps, j, at, n, m);
}

static void run(const struct sd_call *c)
{
    struct array hypers = in(c, sd_step_input(c->node, SD_STEP_IN_HYPER));
    int each = sd_step_each(c->node), end = sd_step_input(c->node, SD_STEP_IN_CLIP);
    for (int k = 0; k < end; k += each) {
        double hyper[SD_STEP_HYPER];
        for (int i = 0; i < SD_STEP_HYPER; i++)
            hyper[i] = ld(hypers, (int64_t)(k / each) * SD_STEP_HYPER + i);
        for (int64_t at = 0; at < in(c, k).n; at += SD_QUANT_BLOCK)
            step_block(c, k, hyper, at);
    }
}
const struct sd_kernel sd_ref_step = {.run = run};
