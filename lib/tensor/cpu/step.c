/* Steps of optimizers, over many parameters at once. */
#include "tensor/cpu/pieces.h"
#include "tensor/cpu/quant.h"
#include "tensor/quant.h"
#include "tensor/rule.h"

#include <math.h>
#include <string.h>

/* n elements x with their moments, by a row of hyper; gradients are to be multiplied by clip. */
typedef void step(int64_t n, const float *h, float clip, float *x, const float *grad, float *const *m);

SD_CPU_CLONES static void adam(int64_t n, const float *h, float clip, float *x, const float *grad,
                               float *const *moment)
{
    float keep = h[SD_ADAM_KEEP], decay = h[SD_ADAM_DECAY], eps = h[SD_ADAM_EPS], rate = h[SD_ADAM_RATE];
    float beta1 = h[SD_ADAM_BETA1], new1 = h[SD_ADAM_NEW1], fresh = h[SD_ADAM_FRESH];
    float beta2 = h[SD_ADAM_BETA2], new2 = h[SD_ADAM_NEW2], root = h[SD_ADAM_ROOT];
    float *m = moment[0], *v = moment[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i];
        m[i] = beta1 * m[i] + new1 * d;
        v[i] = beta2 * v[i] + new2 * d * d;
        x[i] = x[i] * keep - (rate * m[i] + fresh * d) / (sqrtf(v[i]) * root + eps);
    }
}

SD_CPU_CLONES static void amsgrad(int64_t n, const float *h, float clip, float *x, const float *grad,
                                  float *const *moment)
{
    float keep = h[SD_ADAM_KEEP], decay = h[SD_ADAM_DECAY], eps = h[SD_ADAM_EPS], rate = h[SD_ADAM_RATE];
    float beta1 = h[SD_ADAM_BETA1], new1 = h[SD_ADAM_NEW1], fresh = h[SD_ADAM_FRESH];
    float beta2 = h[SD_ADAM_BETA2], new2 = h[SD_ADAM_NEW2], root = h[SD_ADAM_ROOT];
    float *m = moment[0], *v = moment[1], *most = moment[2];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i];
        m[i] = beta1 * m[i] + new1 * d;
        v[i] = beta2 * v[i] + new2 * d * d;
        most[i] = v[i] <= most[i] ? most[i] : v[i]; /* NaN stays */
        x[i] = x[i] * keep - (rate * m[i] + fresh * d) / (sqrtf(most[i]) * root + eps);
    }
}

SD_CPU_CLONES static void lion(int64_t n, const float *h, float clip, float *x, const float *grad,
                               float *const *moment)
{
    float keep = h[SD_LION_KEEP], rate = h[SD_LION_RATE], beta1 = h[SD_LION_BETA1], new1 = h[SD_LION_NEW1],
          beta2 = h[SD_LION_BETA2], new2 = h[SD_LION_NEW2], *m = moment[0];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip, d = beta1 * m[i] + new1 * g;
        x[i] = keep * x[i] - rate * (d > 0 ? 1 : d < 0 ? -1 : d); /* NaN stays */
        m[i] = beta2 * m[i] + new2 * g;
    }
}

SD_CPU_CLONES static void sgd(int64_t n, const float *h, float clip, float *x, const float *grad,
                              float *const *moment)
{
    float keep = h[SD_SGD_KEEP], decay = h[SD_SGD_DECAY], momentum = h[SD_SGD_MOMENTUM],
          newer = h[SD_SGD_NEW], fresh = h[SD_SGD_FRESH], rate = h[SD_SGD_RATE], *m = moment[0];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i];
        m[i] = momentum * m[i] + newer * d;
        x[i] = keep * x[i] - (fresh * d + rate * m[i]);
    }
}

SD_CPU_CLONES static void rmsprop(int64_t n, const float *h, float clip, float *x, const float *grad,
                                  float *const *moment)
{
    float decay = h[SD_RMSPROP_DECAY], alpha = h[SD_RMSPROP_ALPHA], newer = h[SD_RMSPROP_NEW],
          eps = h[SD_RMSPROP_EPS], rate = h[SD_RMSPROP_RATE], *v = moment[0];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i];
        v[i] = alpha * v[i] + newer * d * d;
        x[i] -= rate * d / (sqrtf(v[i]) + eps);
    }
}

SD_CPU_CLONES static void rmsprop_full(int64_t n, const float *h, float clip, float *x, const float *grad,
                                       float *const *moment)
{
    float decay = h[SD_RMSPROP_DECAY], alpha = h[SD_RMSPROP_ALPHA], newer = h[SD_RMSPROP_NEW],
          eps = h[SD_RMSPROP_EPS], rate = h[SD_RMSPROP_RATE], center = h[SD_RMSPROP_CENTER],
          momentum = h[SD_RMSPROP_MOMENTUM], *v = moment[0], *a = moment[1], *b = moment[2];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i];
        v[i] = alpha * v[i] + newer * d * d;
        a[i] = alpha * a[i] + newer * d;
        float variance = v[i] - center * a[i] * a[i];
        b[i] = momentum * b[i] + d / (sqrtf(variance < 0 ? 0 : variance) + eps);
        x[i] -= rate * b[i];
    }
}

SD_CPU_CLONES static void adadelta(int64_t n, const float *h, float clip, float *x, const float *grad,
                                   float *const *moment)
{
    float decay = h[SD_ADADELTA_DECAY], rho = h[SD_ADADELTA_RHO], newer = h[SD_ADADELTA_NEW],
          eps = h[SD_ADADELTA_EPS], rate = h[SD_ADADELTA_RATE], *v = moment[0], *u = moment[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i];
        v[i] = rho * v[i] + newer * d * d;
        float s = d * sqrtf(u[i] + eps) / sqrtf(v[i] + eps);
        u[i] = rho * u[i] + newer * s * s;
        x[i] -= rate * s;
    }
}

SD_CPU_CLONES static void adamax(int64_t n, const float *h, float clip, float *x, const float *grad,
                                 float *const *moment)
{
    float decay = h[SD_ADAMAX_DECAY], beta1 = h[SD_ADAMAX_BETA1], new1 = h[SD_ADAMAX_NEW1],
          beta2 = h[SD_ADAMAX_BETA2], eps = h[SD_ADAMAX_EPS], rate = h[SD_ADAMAX_RATE], *m = moment[0],
          *u = moment[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float d = grad[i] * clip + decay * x[i], now = fabsf(d) + eps, before = beta2 * u[i];
        m[i] = beta1 * m[i] + new1 * d;
        u[i] = now <= before ? before : now; /* NaN stays */
        x[i] -= rate * m[i] / u[i];
    }
}

SD_CPU_CLONES static void rprop(int64_t n, const float *h, float clip, float *x, const float *grad,
                                float *const *moment)
{
    float up = h[SD_RPROP_UP], down = h[SD_RPROP_DOWN], least = h[SD_RPROP_LEAST], most = h[SD_RPROP_MOST],
          *p = moment[0], *s = moment[1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip, turn = g * p[i], larger = up * s[i], smaller = down * s[i];
        larger = larger < most ? larger : most;
        smaller = smaller > least ? smaller : least;
        s[i] = turn > 0 ? larger : turn < 0 ? smaller : s[i];
        p[i] = turn < 0 ? 0 : g;
        x[i] -= s[i] * (p[i] > 0 ? 1 : p[i] < 0 ? -1 : p[i]); /* NaN stays */
    }
}

static step *const steps[SD_RULE_COUNT] = {
#define RULE(name, ...) name,
#include "tensor/rules.def"
#undef RULE
};

_Static_assert(SD_CPU_CHUNK % SD_QUANT_BLOCK == 0, "a piece begins with a block");

/* A step with moments that are codes, block by block; inputs are those of the parameter. */
static void step_codes(void *const *in, const struct sd_node *node, const float *maps, struct sd_cpu_piece p,
                       const float *hyper, float clip)
{
    int moments = sd_rules[node->attr.rule].moments;
    float buf[SD_STEP_MOMENTS][SD_QUANT_BLOCK], *m[SD_STEP_MOMENTS];
    for (int64_t at = p.from, n; at < p.to; at += n) {
        n = sd_cpu_min(SD_QUANT_BLOCK, p.to - at);
        int64_t block = at / SD_QUANT_BLOCK;
        for (int j = 0; j < moments; j++) {
            m[j] = buf[j];
            sd_cpu_from_codes(n, (const uint8_t *)in[2 + j] + at, ((const float *)in[2 + moments + j])[block],
                              maps + (size_t)j * SD_QUANT_CODES, m[j]);
        }
        steps[node->attr.rule](n, hyper, clip, (float *)in[0] + at, (const float *)in[1] + at, m);
        for (int j = 0; j < moments; j++)
            ((float *)in[2 + moments + j])[block] =
                sd_cpu_to_codes(n, m[j], maps + (size_t)j * SD_QUANT_CODES, (uint8_t *)in[2 + j] + at);
    }
}

static void step_pieces(const struct sd_call *c, int64_t first, int64_t last)
{
    const struct sd_node *node = c->node;
    const float *clip = c->in[sd_step_input(node, SD_STEP_IN_CLIP)],
                *hypers = c->in[sd_step_input(node, SD_STEP_IN_HYPER)],
                *maps = c->in[sd_step_input(node, SD_STEP_IN_MAPS)];
    int moments = sd_rules[node->attr.rule].moments, each = sd_step_each(node);
    for (int64_t i = first; i < last; i++) {
        struct sd_cpu_piece p = sd_cpu_piece_of(c, i);
        void *const *in = c->in + p.tensor;
        const float *hyper = hypers + (size_t)(p.tensor / each) * SD_STEP_HYPER;
        float *grad = (float *)in[1] + p.from, *m[SD_STEP_MOMENTS], k = clip[SD_CLIP_COEFFICIENT];
        bool live = clip[SD_CLIP_SKIP] == 0 && hyper[SD_STEP_LIVE] != 0;
        for (int j = 0; j < moments && !maps; j++)
            m[j] = (float *)in[2 + j] + p.from;
        if (live && maps)
            step_codes(in, node, maps, p, hyper, k);
        else if (live)
            steps[node->attr.rule](p.to - p.from, hyper, k, (float *)in[0] + p.from, grad, m);
        memset(grad, 0, (size_t)(p.to - p.from) * sizeof *grad);
    }
}

/* Inputs need no check: the builder has made it. */
static int step_plan(struct sd_call *c, struct sd_err *err)
{
    return sd_cpu_cut(c, sd_step_input(c->node, SD_STEP_IN_CLIP), sd_step_each(c->node), err);
}

static void run(const struct sd_call *c)
{
    sd_cpu_split(c, sd_cpu_pieces_of(c), 1, step_pieces);
}
const struct sd_kernel sd_cpu_step = {.plan = step_plan, .run = run, .drop = sd_cpu_drop_pieces};
