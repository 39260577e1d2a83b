/* Steps of optimizers that adapt their step size, over many parameters at once. */
#include "tensor/adapt.h"
#include "tensor/cpu/pieces.h"

#include <math.h>
#include <string.h>

/* What a parameter's row of hyper, the state and clip make for its elements. */
struct numbers {
    float clip, decay, eps, beta1, beta2, beta3, new1, new2, new3;
    float lose, part; /* LOSE r and 1 / (1 + PROX r) */
    float d, r, move; /* move: Prodigy's */
    bool first;
};

/* n elements x with their moments m; adds to the sums. */
typedef void step(int64_t n, const struct numbers *a, float *x, const float *grad, float *const *m,
                  double *sums);

static void add_sums(double *sums, double top, double squares, double size)
{
    sums[SD_ADAPT_TOP] += top;
    sums[SD_ADAPT_SQUARES] += squares;
    sums[SD_ADAPT_SIZE] += size;
}

SD_CPU_CLONES static void preprint(int64_t n, const struct numbers *a, float *x, const float *grad,
                                   float *const *moment, double *sums)
{
    float clip = a->clip, decay = a->decay, eps = a->eps, lose = a->lose, beta1 = a->beta1, beta2 = a->beta2,
          beta3 = a->beta3, new1 = a->new1 * a->r, new2 = a->new2, new3 = a->new3 * a->r;
    float *m = moment[0], *v = moment[1], *s = moment[2];
    double top = 0, squares = 0, size = 0;
#pragma omp simd reduction(+ : top, squares, size)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip + decay * x[i];
        m[i] = beta1 * m[i] + new1 * g;
        v[i] = beta2 * v[i] + new2 * g * g;
        s[i] = beta3 * s[i] + new3 * g;
        float root = sqrtf(v[i]) + eps;
        top += (double)(g * g / root);
        squares += (double)(s[i] * s[i] / root);
        size += (double)fabsf(s[i]);
        x[i] -= lose * x[i] + m[i] / root;
    }
    add_sums(sums, top, squares, size);
}

SD_CPU_CLONES static void adam(int64_t n, const struct numbers *a, float *x, const float *grad,
                               float *const *moment, double *sums)
{
    float clip = a->clip, decay = a->decay, eps = a->eps, lose = a->lose, beta1 = a->beta1, beta2 = a->beta2,
          beta3 = a->beta3, new1 = a->new1 * a->r, new2 = a->new2, new3 = a->new3 * a->r;
    float *m = moment[0], *v = moment[1], *s = moment[2];
    double top = 0, size = 0;
#pragma omp simd reduction(+ : top, size)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip + decay * x[i];
        top += (double)(g * s[i] / (sqrtf(v[i]) + eps));
        m[i] = beta1 * m[i] + new1 * g;
        v[i] = beta2 * v[i] + new2 * g * g;
        s[i] = beta3 * s[i] + new3 * g;
        size += (double)fabsf(s[i]);
        x[i] -= lose * x[i] + m[i] / (sqrtf(v[i]) + eps);
    }
    add_sums(sums, top, 0, size);
}

SD_CPU_CLONES static void adagrad(int64_t n, const struct numbers *a, float *x, const float *grad,
                                  float *const *moment, double *sums)
{
    float clip = a->clip, decay = a->decay, eps = a->eps, beta1 = a->beta1, new1 = a->new1, r = a->r;
    float *v = moment[0], *s = moment[1], *x0 = moment[2];
    double top = 0, squares = 0, size = 0;
    for (int64_t i = 0; i < n && a->first; i++) {
        v[i] = 1e-6f;
        x0[i] = x[i];
    }
#pragma omp simd reduction(+ : top, squares, size)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip + decay * x[i], root = sqrtf(v[i]) + eps;
        squares -= (double)(s[i] * s[i] / root);
        size -= (double)fabsf(s[i]);
        v[i] += g * g;
        s[i] += r * g;
        root = sqrtf(v[i]) + eps;
        top += (double)(g * g / root);
        squares += (double)(s[i] * s[i] / root);
        size += (double)fabsf(s[i]);
        x[i] = beta1 * x[i] + new1 * (x0[i] - s[i] / root);
    }
    add_sums(sums, top, squares, size);
}

SD_CPU_CLONES static void adan(int64_t n, const struct numbers *a, float *x, const float *grad,
                               float *const *moment, double *sums)
{
    float clip = a->clip, eps = a->eps, lose = a->lose, part = a->part, beta1 = a->beta1, beta2 = a->beta2,
          beta3 = a->beta3, new1 = a->new1 * a->r, new2 = a->new2 * a->r, new3 = a->new3, news = new3 * a->r,
          known = a->first ? 0 : 1;
    float *m = moment[0], *q = moment[1], *v = moment[2], *s = moment[3], *before = moment[4];
    double top = 0, squares = 0, size = 0;
#pragma omp simd reduction(+ : top, squares, size)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip, diff = known * (g - before[i]), u = g + beta2 * diff;
        m[i] = beta1 * m[i] + new1 * g;
        q[i] = beta2 * q[i] + new2 * diff;
        v[i] = beta3 * v[i] + new3 * u * u;
        s[i] = beta3 * s[i] + news * g;
        before[i] = g;
        float root = sqrtf(v[i]) + eps;
        top += (double)(g * g / root);
        squares += (double)(s[i] * s[i] / root);
        size += (double)fabsf(s[i]);
        x[i] = (x[i] - (lose * x[i] + (m[i] + beta2 * q[i]) / root)) * part;
    }
    add_sums(sums, top, squares, size);
}

SD_CPU_CLONES static void adan_ip(int64_t n, const struct numbers *a, float *x, const float *grad,
                                  float *const *moment, double *sums)
{
    float clip = a->clip, eps = a->eps, *v = moment[2], *s = moment[3];
    double top = 0, ignored[SD_ADAPT_SUMS] = {0};
#pragma omp simd reduction(+ : top)
    for (int64_t i = 0; i < n; i++)
        top += (double)(grad[i] * clip * s[i] / (sqrtf(v[i]) + eps));
    adan(n, a, x, grad, moment, ignored);
    add_sums(sums, top, 0, ignored[SD_ADAPT_SIZE]);
}

SD_CPU_CLONES static void lion(int64_t n, const struct numbers *a, float *x, const float *grad,
                               float *const *moment, double *sums)
{
    float clip = a->clip, lose = a->lose, beta1 = a->beta1, beta2 = a->beta2, beta3 = a->beta3, r = a->r,
          new1 = a->new1, new2 = a->new2 * r, new3 = a->new3 * r, *m = moment[0], *s = moment[1];
    double top = 0, size = 0;
#pragma omp simd reduction(+ : top, size)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip, u = beta1 * m[i] + new1 * g;
        u = u > 0 ? 1 : u < 0 ? -1 : u; /* NaN stays */
        top += (double)(u * s[i]);
        m[i] = beta2 * m[i] + new2 * g;
        s[i] = beta3 * s[i] + new3 * u;
        size += (double)fabsf(s[i]);
        x[i] -= lose * x[i] + r * u;
    }
    add_sums(sums, top, 0, size);
}

SD_CPU_CLONES static void sgd(int64_t n, const struct numbers *a, float *x, const float *grad,
                              float *const *moment, double *sums)
{
    float clip = a->clip, decay = a->decay, beta1 = a->beta1, new1 = a->new1, r = a->r, *s = moment[0],
          *x0 = moment[1];
    double top = 0, squares = 0, size = 0;
    if (a->first)
        memcpy(x0, x, (size_t)n * sizeof *x);
#pragma omp simd reduction(+ : top, squares, size)
    for (int64_t i = 0; i < n; i++) {
        float given = grad[i] * clip, g = given + decay * x[i];
        top += (double)(g * s[i]);
        s[i] += r * g;
        squares += (double)given * (double)given;
        size += (double)s[i] * (double)s[i];
        x[i] = beta1 * x[i] + new1 * (x0[i] - s[i]);
    }
    add_sums(sums, top, squares, size);
}

SD_CPU_CLONES static void prodigy(int64_t n, const struct numbers *a, float *x, const float *grad,
                                  float *const *moment, double *sums)
{
    float clip = a->clip, decay = a->decay, d = a->d, beta1 = a->beta1, beta2 = a->beta2, beta3 = a->beta3,
          new1 = a->new1 * d, new2 = a->new2, new3 = a->new3 * d * d;
    float *m = moment[0], *v = moment[1], *s = moment[2], *x0 = moment[3];
    double top = 0, size = 0;
    if (a->first)
        memcpy(x0, x, (size_t)n * sizeof *x);
#pragma omp simd reduction(+ : top, size)
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip + decay * x[i], dg = d * g;
        top += (double)(g * (x0[i] - x[i]));
        m[i] = beta1 * m[i] + new1 * g;
        v[i] = beta2 * v[i] + new2 * dg * dg;
        s[i] = beta3 * s[i] + new3 * g;
        size += (double)fabsf(s[i]);
    }
    add_sums(sums, top, 0, size);
}

SD_CPU_CLONES static void prodigy_move(int64_t n, const struct numbers *a, float *x, const float *grad,
                                       float *const *moment, double *sums)
{
    (void)grad;
    (void)sums;
    float lose = a->lose, move = a->move, eps = a->d * a->eps, *m = moment[0], *v = moment[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] -= lose * x[i] + move * m[i] / (sqrtf(v[i]) + eps);
}

static step *const steps[SD_ADAPT_RULES] = {
#define RULE(name, ...) name,
#include "tensor/adapt.def"
#undef RULE
};

/* Clip's norm as clipped. */
static float clipped(const float *clip, float max_norm)
{
    float norm = clip[SD_CLIP_NORM], k = max_norm > 0 ? max_norm / (norm + 1e-6f) : 1;
    return k < 1 ? norm * k : norm;
}

static struct numbers numbers_of(enum sd_adapt_rule rule, const float *h, const float *state,
                                 const float *clip)
{
    struct numbers a = {
        .clip = clip[SD_CLIP_COEFFICIENT], .decay = h[SD_ADAPT_DECAY], .eps = h[SD_ADAPT_EPS]};
    a.beta1 = h[SD_ADAPT_BETA1], a.new1 = h[SD_ADAPT_NEW1];
    a.beta2 = h[SD_ADAPT_BETA2], a.new2 = h[SD_ADAPT_NEW2];
    a.beta3 = h[SD_ADAPT_BETA3], a.new3 = h[SD_ADAPT_NEW3];
    a.first = h[SD_ADAPT_FIRST] != 0;
    a.d = state[SD_ADAPT_D];
    a.r = (rule == SD_ADAPT_prodigy_move ? state[SD_ADAPT_BEFORE] : a.d) * h[SD_ADAPT_RATE];
    if (rule == SD_ADAPT_sgd) {
        float norm = state[SD_ADAPT_NORM];
        norm = norm != 0 ? norm : clipped(clip, h[SD_ADAPT_MAX_NORM]);
        a.r = norm != 0 ? a.r / norm : 0;
    }
    a.lose = h[SD_ADAPT_LOSE] * a.r;
    a.part = 1 / (1 + h[SD_ADAPT_PROX] * a.r);
    a.move = a.beta1 == 0 && a.r > 0 ? a.d * h[SD_ADAPT_RATE] : a.r;
    return a;
}

static void step_pieces(const struct sd_call *c, int64_t first, int64_t last)
{
    const struct sd_node *node = c->node;
    const struct sd_adapt_info *rule = &sd_adapt_rules[node->attr.adapt_rule];
    const float *clip = c->in[sd_adapt_input(node, SD_ADAPT_IN_CLIP)],
                *hypers = c->in[sd_adapt_input(node, SD_ADAPT_IN_HYPER)],
                *state = c->in[sd_adapt_input(node, SD_ADAPT_IN_STATE)];
    int each = sd_adapt_each(node), before = 1 + rule->sums;
    for (int64_t i = first; i < last; i++) {
        struct sd_cpu_piece p = sd_cpu_piece_of(c, i);
        const float *h = hypers + (size_t)(p.tensor / each) * SD_ADAPT_HYPER;
        float *in[2 + SD_ADAPT_MOMENTS];
        double sums[SD_ADAPT_SUMS] = {0};
        for (int k = 0; k < each; k++)
            in[k] = (float *)c->in[p.tensor + k] + p.from;
        if (clip[SD_CLIP_SKIP] == 0 && h[SD_ADAPT_LIVE] != 0) {
            struct numbers a = numbers_of(node->attr.adapt_rule, h, state, clip);
            steps[node->attr.adapt_rule](p.to - p.from, &a, in[0], in[1], in + before, sums);
        }
        if (!rule->sums)
            continue;
        memset(in[1], 0, (size_t)(p.to - p.from) * sizeof **in);
        memcpy((double *)c->scratch + i * SD_ADAPT_SUMS, sums, sizeof sums);
    }
}

/* Inputs need no check: the builder has made it. */
static int plan(struct sd_call *c, struct sd_err *err)
{
    if (sd_cpu_cut(c, sd_adapt_input(c->node, SD_ADAPT_IN_CLIP), sd_adapt_each(c->node), err))
        return -1;
    c->scratch_bytes = (size_t)sd_cpu_pieces_of(c) * SD_ADAPT_SUMS * sizeof(double);
    return 0;
}

static void put_pair(float *to, double v)
{
    to[0] = (float)v;
    to[1] = (float)(v - (double)to[0]);
}

static double pair(const float *from)
{
    return (double)from[0] + (double)from[1];
}

static void run(const struct sd_call *c)
{
    sd_cpu_split(c, sd_cpu_pieces_of(c), 1, step_pieces);
    for (int k = 0; k < SD_ADAPT_SUMS && c->node->n_out; k++) {
        double sum = 0;
        for (int64_t i = 0; i < sd_cpu_pieces_of(c); i++)
            sum += ((const double *)c->scratch)[i * SD_ADAPT_SUMS + k];
        put_pair((float *)c->out[0] + (size_t)2 * k, sum);
    }
}
const struct sd_kernel sd_cpu_adapt_step = {.plan = plan, .run = run, .drop = sd_cpu_drop_pieces};

/* The next step size from an estimate. */
static double next(const struct sd_adaptation *how, float *state, double estimate)
{
    double d = state[SD_ADAPT_D], limit = d * how->growth;
    if (!how->prodigy) {
        double to = estimate < limit ? estimate : limit;
        return to > d ? to : d;
    }
    if (state[SD_ADAPT_D] == how->d0 && estimate > d)
        limit = estimate * how->growth;
    if (estimate > (double)state[SD_ADAPT_MOST])
        state[SD_ADAPT_MOST] = (float)estimate;
    double most = state[SD_ADAPT_MOST];
    return most < limit ? most : limit;
}

static void change(const struct sd_call *c)
{
    const struct sd_adaptation *how = &c->node->attr.adaptation;
    const float *sums = c->in[1], *clip = c->in[2], *hyper = c->in[3];
    float *state = c->in[0], *totals = state + SD_ADAPT_TOTALS;
    double total[SD_ADAPT_SUMS], d = state[SD_ADAPT_D];
    float r = state[SD_ADAPT_D] * hyper[SD_ADAPT_RATE]; /* rounded as in the step */
    if (clip[SD_CLIP_SKIP] != 0)
        return;
    for (size_t i = 0; i < SD_ADAPT_SUMS; i++)
        total[i] = pair(sums + 2 * i) + (how->tracked ? pair(totals + 2 * i) : 0);
    state[SD_ADAPT_BEFORE] = 0;
    if (total[SD_ADAPT_SIZE] == 0)
        return;
    if (how->rooted && state[SD_ADAPT_NORM] == 0)
        state[SD_ADAPT_NORM] = (float)sqrt(total[SD_ADAPT_SQUARES]);
    if (how->rooted)
        r /= state[SD_ADAPT_NORM];
    double w = (double)how->fresh * (double)r * (how->squared ? (double)r : 1) * (how->prodigy ? d : 1);
    total[SD_ADAPT_TOP] = (double)how->keep * pair(totals) + w * pair(sums);
    for (size_t i = 0; i < SD_ADAPT_SUMS; i++)
        put_pair(totals + 2 * i, total[i]);
    state[SD_ADAPT_BEFORE] = state[SD_ADAPT_D];
    if (hyper[SD_ADAPT_RATE] == 0)
        return;
    double size = how->rooted ? sqrt(total[SD_ADAPT_SIZE]) : total[SD_ADAPT_SIZE];
    double top =
        (double)how->of_top * total[SD_ADAPT_TOP] + (double)how->of_squares * total[SD_ADAPT_SQUARES];
    state[SD_ADAPT_D] = (float)next(how, state, top / ((double)how->of_size * size));
}

static void adapt(const struct sd_call *c)
{
    change(c);
    *(float *)c->out[0] = ((const float *)c->in[0])[SD_ADAPT_D];
}
const struct sd_kernel sd_cpu_adapt = {.plan = sd_cpu_plan_floats, .run = adapt};
