/* Steps of optimizers that adapt their step size, an element at a time, in double. */
#include "tensor/adapt.h"
#include "tensor/ref/array.h"

#include <math.h>

/* What an element's step needs beside itself. */
struct at {
    const double *h;  /* a row of hyper */
    double d, before; /* of the state */
    double r;
    double sums[SD_ADAPT_SUMS]; /* to be added to */
};

/* One element x: its moments m with the gradient g. Returns the new x. */
typedef double step(struct at *a, double x, double g, double *m);

static double adam_moments(struct at *a, double g, double *m)
{
    const double *h = a->h;
    m[0] = h[SD_ADAPT_BETA1] * m[0] + h[SD_ADAPT_NEW1] * a->r * g;
    m[1] = h[SD_ADAPT_BETA2] * m[1] + h[SD_ADAPT_NEW2] * g * g;
    m[2] = h[SD_ADAPT_BETA3] * m[2] + h[SD_ADAPT_NEW3] * a->r * g;
    a->sums[SD_ADAPT_SIZE] += fabs(m[2]);
    return sqrt(m[1]) + h[SD_ADAPT_EPS];
}

static double preprint(struct at *a, double x, double g, double *m)
{
    g += a->h[SD_ADAPT_DECAY] * x;
    double root = adam_moments(a, g, m);
    a->sums[SD_ADAPT_TOP] += g * g / root;
    a->sums[SD_ADAPT_SQUARES] += m[2] * m[2] / root;
    return (1 - a->h[SD_ADAPT_LOSE] * a->r) * x - m[0] / root;
}

static double adam(struct at *a, double x, double g, double *m)
{
    g += a->h[SD_ADAPT_DECAY] * x;
    a->sums[SD_ADAPT_TOP] += g * m[2] / (sqrt(m[1]) + a->h[SD_ADAPT_EPS]);
    double root = adam_moments(a, g, m);
    return (1 - a->h[SD_ADAPT_LOSE] * a->r) * x - m[0] / root;
}

static double adagrad(struct at *a, double x, double g, double *m)
{
    const double *h = a->h;
    if (h[SD_ADAPT_FIRST] != 0) {
        m[0] = 1e-6;
        m[2] = x;
    }
    g += h[SD_ADAPT_DECAY] * x;
    double root = sqrt(m[0]) + h[SD_ADAPT_EPS], squares = m[1] * m[1] / root, size = fabs(m[1]);
    m[0] = (float)(m[0] + g * g); /* as stored: what is added now is taken away again in the next update */
    m[1] = (float)(m[1] + a->r * g);
    root = sqrt(m[0]) + h[SD_ADAPT_EPS];
    a->sums[SD_ADAPT_TOP] += g * g / root;
    a->sums[SD_ADAPT_SQUARES] += m[1] * m[1] / root - squares;
    a->sums[SD_ADAPT_SIZE] += fabs(m[1]) - size;
    return h[SD_ADAPT_BETA1] * x + h[SD_ADAPT_NEW1] * (m[2] - m[1] / root);
}

static double adan_step(struct at *a, double x, double g, double *m)
{
    const double *h = a->h;
    double diff = h[SD_ADAPT_FIRST] != 0 ? 0 : g - m[4], u = g + h[SD_ADAPT_BETA2] * diff;
    m[0] = h[SD_ADAPT_BETA1] * m[0] + h[SD_ADAPT_NEW1] * a->r * g;
    m[1] = h[SD_ADAPT_BETA2] * m[1] + h[SD_ADAPT_NEW2] * a->r * diff;
    m[2] = h[SD_ADAPT_BETA3] * m[2] + h[SD_ADAPT_NEW3] * u * u;
    m[3] = h[SD_ADAPT_BETA3] * m[3] + h[SD_ADAPT_NEW3] * a->r * g;
    m[4] = g;
    a->sums[SD_ADAPT_SIZE] += fabs(m[3]);
    double move = (m[0] + h[SD_ADAPT_BETA2] * m[1]) / (sqrt(m[2]) + h[SD_ADAPT_EPS]);
    return ((1 - h[SD_ADAPT_LOSE] * a->r) * x - move) / (1 + h[SD_ADAPT_PROX] * a->r);
}

static double adan(struct at *a, double x, double g, double *m)
{
    double y = adan_step(a, x, g, m), root = sqrt(m[2]) + a->h[SD_ADAPT_EPS];
    a->sums[SD_ADAPT_TOP] += g * g / root;
    a->sums[SD_ADAPT_SQUARES] += m[3] * m[3] / root;
    return y;
}

static double adan_ip(struct at *a, double x, double g, double *m)
{
    a->sums[SD_ADAPT_TOP] += g * m[3] / (sqrt(m[2]) + a->h[SD_ADAPT_EPS]);
    return adan_step(a, x, g, m);
}

static double lion(struct at *a, double x, double g, double *m)
{
    const double *h = a->h;
    double u = h[SD_ADAPT_BETA1] * m[0] + h[SD_ADAPT_NEW1] * g;
    u = u > 0 ? 1 : u < 0 ? -1 : u; /* NaN stays */
    a->sums[SD_ADAPT_TOP] += u * m[1];
    m[0] = h[SD_ADAPT_BETA2] * m[0] + h[SD_ADAPT_NEW2] * a->r * g;
    m[1] = h[SD_ADAPT_BETA3] * m[1] + h[SD_ADAPT_NEW3] * a->r * u;
    a->sums[SD_ADAPT_SIZE] += fabs(m[1]);
    return (1 - h[SD_ADAPT_LOSE] * a->r) * x - a->r * u;
}

static double sgd(struct at *a, double x, double g, double *m)
{
    const double *h = a->h;
    a->sums[SD_ADAPT_SQUARES] += g * g;
    g += h[SD_ADAPT_DECAY] * x;
    m[1] = h[SD_ADAPT_FIRST] != 0 ? x : m[1];
    a->sums[SD_ADAPT_TOP] += g * m[0];
    m[0] += a->r * g;
    a->sums[SD_ADAPT_SIZE] += m[0] * m[0];
    return h[SD_ADAPT_BETA1] * x + h[SD_ADAPT_NEW1] * (m[1] - m[0]);
}

static double prodigy(struct at *a, double x, double g, double *m)
{
    const double *h = a->h;
    g += h[SD_ADAPT_DECAY] * x;
    m[3] = h[SD_ADAPT_FIRST] != 0 ? x : m[3];
    a->sums[SD_ADAPT_TOP] += g * (m[3] - x);
    m[0] = h[SD_ADAPT_BETA1] * m[0] + h[SD_ADAPT_NEW1] * a->d * g;
    m[1] = h[SD_ADAPT_BETA2] * m[1] + h[SD_ADAPT_NEW2] * a->d * a->d * g * g;
    m[2] = h[SD_ADAPT_BETA3] * m[2] + h[SD_ADAPT_NEW3] * a->d * a->d * g;
    a->sums[SD_ADAPT_SIZE] += fabs(m[2]);
    return x;
}

static double prodigy_move(struct at *a, double x, double g, double *m)
{
    (void)g;
    const double *h = a->h;
    double r = a->before * h[SD_ADAPT_RATE],
           rate = h[SD_ADAPT_BETA1] == 0 && r > 0 ? a->d * h[SD_ADAPT_RATE] : r;
    return (1 - h[SD_ADAPT_LOSE] * r) * x - rate * m[0] / (sqrt(m[1]) + a->d * h[SD_ADAPT_EPS]);
}

static step *const steps[SD_ADAPT_RULES] = {
#define RULE(name, ...) name,
#include "tensor/adapt.def"
#undef RULE
};

/* Clip's norm as clipped. */
static double clipped(struct array clip, double max_norm)
{
    double norm = ld(clip, SD_CLIP_NORM), k = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    return k < 1 ? norm * k : norm;
}

/* The parameter whose inputs begin with number k. */
static void step_param(const struct sd_call *c, int k, struct at *a)
{
    const struct sd_adapt_info *rule = &sd_adapt_rules[c->node->attr.adapt_rule];
    struct array param = in(c, k), grad = in(c, k + 1),
                 clip = in(c, sd_adapt_input(c->node, SD_ADAPT_IN_CLIP));
    int at = k + 1 + rule->sums, writes = a->h[SD_ADAPT_FIRST] != 0 ? rule->moments : rule->written;
    for (int64_t i = 0; i < param.n; i++) {
        double g = 0, m[SD_ADAPT_MOMENTS];
        if (rule->sums) {
            g = ld(grad, i) * ld(clip, SD_CLIP_COEFFICIENT);
            st(grad, i, 0);
        }
        if (ld(clip, SD_CLIP_SKIP) != 0 || a->h[SD_ADAPT_LIVE] == 0)
            continue;
        for (int j = 0; j < rule->moments; j++)
            m[j] = ld(in(c, at + j), i);
        st(param, i, steps[c->node->attr.adapt_rule](a, ld(param, i), g, m));
        for (int j = 0; j < writes; j++)
            st(in(c, at + j), i, m[j]);
    }
}

static void put_pair(struct array a, int64_t i, double v)
{
    st(a, i, v);
    st(a, i + 1, v - ld(a, i));
}

static double pair(struct array a, int64_t i)
{
    return ld(a, i) + ld(a, i + 1);
}

static void adapt_step(const struct sd_call *c)
{
    const struct sd_node *node = c->node;
    struct array clip = in(c, sd_adapt_input(node, SD_ADAPT_IN_CLIP)),
                 hypers = in(c, sd_adapt_input(node, SD_ADAPT_IN_HYPER)),
                 state = in(c, sd_adapt_input(node, SD_ADAPT_IN_STATE));
    struct at a = {.d = ld(state, SD_ADAPT_D), .before = ld(state, SD_ADAPT_BEFORE)};
    int each = sd_adapt_each(node), end = sd_adapt_input(node, SD_ADAPT_IN_CLIP);
    for (int k = 0; k < end; k += each) {
        double h[SD_ADAPT_HYPER], norm = ld(state, SD_ADAPT_NORM);
        for (int i = 0; i < SD_ADAPT_HYPER; i++)
            h[i] = ld(hypers, (int64_t)(k / each) * SD_ADAPT_HYPER + i);
        a.h = h;
        a.r = a.d * h[SD_ADAPT_RATE];
        if (node->attr.adapt_rule == SD_ADAPT_sgd) {
            norm = norm != 0 ? norm : clipped(clip, h[SD_ADAPT_MAX_NORM]);
            a.r = norm != 0 ? a.r / norm : 0;
        }
        step_param(c, k, &a);
    }
    for (int i = 0; i < SD_ADAPT_SUMS && node->n_out; i++)
        put_pair(out(c, 0), 2 * i, a.sums[i]);
}
const struct sd_kernel sd_ref_adapt_step = {.run = adapt_step};

/* The next step size from an estimate. */
static double next(const struct sd_adaptation *how, struct array state, double estimate)
{
    double d = ld(state, SD_ADAPT_D), most = ld(state, SD_ADAPT_MOST), limit = d * how->growth;
    if (!how->prodigy) {
        double to = estimate < limit ? estimate : limit;
        return to > d ? to : d;
    }
    if (d == (double)how->d0 && estimate > d)
        limit = estimate * how->growth;
    most = estimate > most ? estimate : most;
    st(state, SD_ADAPT_MOST, most);
    return most < limit ? most : limit;
}

static void change(const struct sd_call *c)
{
    const struct sd_adaptation *how = &c->node->attr.adaptation;
    struct array state = in(c, 0), sums = in(c, 1);
    double d = ld(state, SD_ADAPT_D), rate = ld(in(c, 3), SD_ADAPT_RATE), r = d * rate;
    double total[SD_ADAPT_SUMS], sum[SD_ADAPT_SUMS];
    if (ld(in(c, 2), SD_CLIP_SKIP) != 0)
        return;
    for (int i = 0; i < SD_ADAPT_SUMS; i++) {
        sum[i] = pair(sums, 2 * i);
        total[i] = how->tracked ? pair(state, SD_ADAPT_TOTALS + 2 * i) + sum[i] : sum[i];
    }
    st(state, SD_ADAPT_BEFORE, 0);
    if (total[SD_ADAPT_SIZE] == 0)
        return;
    if (how->rooted && ld(state, SD_ADAPT_NORM) == 0)
        st(state, SD_ADAPT_NORM, sqrt(sum[SD_ADAPT_SQUARES]));
    if (how->rooted)
        r /= ld(state, SD_ADAPT_NORM);
    double w = (double)how->fresh * r * (how->squared ? r : 1) * (how->prodigy ? d : 1);
    total[SD_ADAPT_TOP] = (double)how->keep * pair(state, SD_ADAPT_TOTALS) + w * sum[SD_ADAPT_TOP];
    for (int i = 0; i < SD_ADAPT_SUMS; i++)
        put_pair(state, SD_ADAPT_TOTALS + 2 * i, total[i]);
    st(state, SD_ADAPT_BEFORE, d);
    if (rate == 0)
        return;
    double size = how->rooted ? sqrt(total[SD_ADAPT_SIZE]) : total[SD_ADAPT_SIZE];
    double top =
        (double)how->of_top * total[SD_ADAPT_TOP] + (double)how->of_squares * total[SD_ADAPT_SQUARES];
    st(state, SD_ADAPT_D, next(how, state, top / ((double)how->of_size * size)));
}

static void adapt(const struct sd_call *c)
{
    change(c);
    st(out(c, 0), 0, ld(in(c, 0), SD_ADAPT_D));
}
const struct sd_kernel sd_ref_adapt = {.run = adapt};
