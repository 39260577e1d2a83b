/* The builders of t/unit/ops.c: one small graph an op, from the numbers of a line of ops_cases.def. */
#ifndef OPS_BUILD_H
#define OPS_BUILD_H

#include "base/rng.h"
#include "tensor/adafactor.h"
#include "tensor/adapt.h"
#include "tensor/quant.h"
#include "tensor/rule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A variable of a test graph with the f32 values it starts from. */
struct variable {
    struct sd_var var;
    struct sd_tensor *tensor;
    float *value; /* NULL for integers, which live in var.data */
    int64_t n;
};

#define VARIABLES 1024

struct session {
    struct sd_graph *g;
    enum sd_dtype dtype; /* of activations and weights */
    enum sd_dtype grid;  /* values are representable in it */
    struct sd_rng rng;
    struct variable v[VARIABLES];
    int n_v;
};

enum kind {
    GRAD,   /* trained, in the session's dtype */
    GRAD32, /* trained, f32: biases, norm weights */
    FROZEN, /* a frozen f32 weight used in the session's dtype */
    DATA,   /* f32 that the caller writes before a run */
    STATE,  /* written by effects, f32 */
};

/* A variable of dim[ndim] with values offset + normal. */
static struct sd_tensor *variable(struct session *s, const char *name, enum kind kind, float offset, int ndim,
                                  const int64_t *dim)
{
    struct variable *v = &s->v[s->n_v++];
    v->var = (struct sd_var){.name = name, .dtype = kind == GRAD ? s->dtype : SD_F32, .ndim = ndim};
    v->n = 1;
    for (int i = 0; i < ndim; i++)
        v->n *= v->var.dim[i] = dim[i];
    v->value = malloc((size_t)v->n * sizeof *v->value);
    sd_rng_randn(&s->rng, v->value, (size_t)v->n);
    uint16_t half;
    for (int64_t i = 0; i < v->n; i++) {
        v->value[i] += offset;
        if (s->grid != SD_F32) {
            sd_dtype_convert(&half, s->grid, &v->value[i], SD_F32, 1);
            sd_dtype_convert(&v->value[i], SD_F32, &half, s->grid, 1);
        }
    }
    v->var.data = malloc((size_t)v->n * sizeof(float));
    memcpy((void *)v->var.data, v->value, (size_t)v->n * sizeof(float));
    if (kind == GRAD || kind == GRAD32 || kind == STATE)
        v->var.state = (void *)v->var.data;
    v->var.trainable = kind == GRAD || kind == GRAD32;
    if (kind == DATA)
        v->tensor = sd_graph_input(s->g, name, SD_F32, ndim, dim);
    else
        v->tensor = sd_graph_var(s->g, &v->var, kind == FROZEN ? s->dtype : v->var.dtype);
    return v->tensor;
}

#define DIMS(...)                                                   \
    sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]) \
    {                                                               \
        __VA_ARGS__                                                 \
    }
#define VAR(name, kind, ...) variable(s, name, kind, 0, DIMS(__VA_ARGS__))

/* The tensor in arena memory, so that what reads it may overwrite it; exact. */
static struct sd_tensor *fresh(struct session *s, struct sd_tensor *x)
{
    return sd_graph_scale(s->g, x, 0.5f);
}

static float *values(struct session *s)
{
    return s->v[s->n_v - 1].value;
}

typedef struct sd_tensor *builder(struct session *s, const int64_t *p);

/* rows, width */
static struct sd_tensor *build_fill(struct session *s, const int64_t *p)
{
    return sd_graph_fill(s->g, s->dtype, 2, p, 0.75f);
}

/* rows, width */
static struct sd_tensor *build_reshape(struct session *s, const int64_t *p)
{
    return sd_graph_reshape(s->g, fresh(s, VAR("x", GRAD, p[0], p[1])), 2, (int64_t[]){p[1], p[0]});
}

/* rows, width */
static struct sd_tensor *build_cast(struct session *s, const int64_t *p)
{
    return sd_graph_cast(s->g, VAR("x", GRAD, p[0], p[1]), SD_F32);
}

/* rows, widths of a and b */
static struct sd_tensor *build_concat(struct session *s, const int64_t *p)
{
    return sd_graph_concat(s->g, VAR("a", GRAD, p[0], p[1]), VAR("b", GRAD, p[0], p[2]));
}

/* rows, width, offset, length */
static struct sd_tensor *build_slice(struct session *s, const int64_t *p)
{
    return sd_graph_slice(s->g, VAR("x", GRAD, p[0], p[1]), p[2], p[3]);
}

/* rows, width, offset, length */
static struct sd_tensor *build_pad_channels(struct session *s, const int64_t *p)
{
    return sd_graph_pad_channels(s->g, VAR("x", GRAD, p[0], p[1]), p[2], p[3]);
}

/* N, H, W, C, new height, new width */
static struct sd_tensor *build_upsample(struct session *s, const int64_t *p)
{
    return sd_graph_upsample(s->g, VAR("x", GRAD, p[0], p[1], p[2], p[3]), p[4], p[5]);
}

/* A backward op of a gradient dy in f32, whatever the type of what went forward: so it is where paths of both
 * types met (pass/grad.c). */
static struct sd_tensor *build_bwd(struct session *s, enum sd_op op, struct sd_tensor *dy,
                                   struct sd_tensor *x, const struct sd_attr *attr, int ndim,
                                   const int64_t *dim)
{
    struct sd_node *n = sd_graph_node(s->g, op, (struct sd_tensor *[]){dy, x}, x ? 2 : 1, 1, 1, attr);
    return sd_graph_add_out(s->g, n, 0, s->dtype, ndim, dim);
}

/* N, H, W, C, larger height and width */
static struct sd_tensor *build_upsample_bwd(struct session *s, const int64_t *p)
{
    return build_bwd(s, SD_OP_upsample_bwd, VAR("dy", DATA, p[0], p[4], p[5], p[3]), NULL, NULL, 4, p);
}

/* a's dimensions, b's dimensions */
static struct sd_tensor *build_add(struct session *s, const int64_t *p)
{
    return sd_graph_add(s->g, fresh(s, VAR("a", GRAD, p[0], p[1], p[2], p[3])),
                        VAR("b", GRAD, p[4], p[5], p[6], p[7]), 0.75f);
}

/* a's dimensions, b's dimensions */
static struct sd_tensor *build_mul(struct session *s, const int64_t *p)
{
    return sd_graph_mul(s->g, fresh(s, VAR("a", GRAD, p[0], p[1], p[2], p[3])),
                        VAR("b", GRAD, p[4], p[5], p[6], p[7]));
}

/* rows, width */
static struct sd_tensor *build_scale(struct session *s, const int64_t *p)
{
    return sd_graph_scale(s->g, fresh(s, VAR("x", GRAD, p[0], p[1])), -1.25f);
}

/* activation, rows, width */
static struct sd_tensor *build_act(struct session *s, const int64_t *p)
{
    return sd_graph_act(s->g, fresh(s, variable(s, "x", GRAD, 0.5f, 2, p + 1)), (enum sd_act)p[0]);
}

/* activation, rows, width */
static struct sd_tensor *build_act_bwd(struct session *s, const int64_t *p)
{
    struct sd_tensor *dy = VAR("dy", DATA, p[1], p[2]), *x = variable(s, "x", FROZEN, 0.5f, 2, p + 1);
    return build_bwd(s, SD_OP_act_bwd, dy, x, &(struct sd_attr){.act = (enum sd_act)p[0]}, 2, p + 1);
}

/* rows, half width */
static struct sd_tensor *build_geglu(struct session *s, const int64_t *p)
{
    return sd_graph_geglu(s->g, VAR("x", GRAD, p[0], 2 * p[1]));
}

/* N, H, W, C, groups, activation, which of dx, dw, db */
static struct sd_tensor *build_group_norm_bwd(struct session *s, const int64_t *p)
{
    struct sd_attr attr = {.groups = p[4], .act = p[5] ? SD_ACT_SILU : SD_ACT_NONE};
    struct sd_tensor *dy = VAR("dy", DATA, p[0], p[1], p[2], p[3]), *x = variable(s, "x", FROZEN, 0, 4, p);
    struct sd_tensor *in[] = {dy, x, VAR("w", DATA, p[3]), VAR("b", DATA, p[3]),
                              VAR("stats", DATA, p[0], p[4], 2)};
    struct sd_node *n = sd_graph_node(s->g, SD_OP_group_norm_bwd, in, 5, 5, 3, &attr);
    return p[6] ? sd_graph_add_out(s->g, n, (int)p[6], SD_F32, 1, p + 3)
                : sd_graph_add_out(s->g, n, 0, s->dtype, 4, p);
}

/* N, T, C, which of dx, dw, db */
static struct sd_tensor *build_layer_norm_bwd(struct session *s, const int64_t *p)
{
    struct sd_tensor *dy = VAR("dy", DATA, p[0], p[1], p[2]), *x = variable(s, "x", FROZEN, 0, 3, p);
    struct sd_tensor *in[] = {dy, x, VAR("w", DATA, p[2]), VAR("stats", DATA, p[0] * p[1], 2)};
    struct sd_node *n = sd_graph_node(s->g, SD_OP_layer_norm_bwd, in, 4, 4, 3, &(struct sd_attr){0});
    return p[3] ? sd_graph_add_out(s->g, n, (int)p[3], SD_F32, 1, p + 2)
                : sd_graph_add_out(s->g, n, 0, s->dtype, 3, p);
}

/* rows, half width */
static struct sd_tensor *build_geglu_bwd(struct session *s, const int64_t *p)
{
    struct sd_tensor *dy = VAR("dy", DATA, p[0], p[1]), *x = VAR("x", FROZEN, p[0], 2 * p[1]);
    return build_bwd(s, SD_OP_geglu_bwd, dy, x, NULL, 2, x->dim);
}

/* x's dimensions, the result's dimensions */
static struct sd_tensor *build_reduce_to(struct session *s, const int64_t *p)
{
    return sd_graph_reduce_to(s->g, VAR("x", GRAD, p[0], p[1], p[2], p[3]),
                              VAR("like", DATA, p[4], p[5], p[6], p[7]));
}

/* M, K, N, transposed a, transposed b, bias, frozen b, residual added in place, scaled f32 result */
static struct sd_tensor *build_matmul(struct session *s, const int64_t *p)
{
    struct sd_tensor *a = p[3] ? VAR("a", GRAD, p[1], p[0]) : VAR("a", GRAD, p[0], p[1]);
    enum kind kind = p[6] ? FROZEN : GRAD;
    struct sd_tensor *b = p[4] ? VAR("b", kind, p[2], p[1]) : VAR("b", kind, p[1], p[2]);
    struct sd_tensor *bias = p[5] ? VAR("bias", GRAD32, p[2]) : NULL;
    struct sd_tensor *r = p[7] ? fresh(s, VAR("residual", GRAD, p[0], p[2])) : NULL, *y;
    if (p[8])
        y = sd_graph_matmul_scaled(s->g, a, b, bias, p[3], p[4], 0.25f, SD_F32);
    else
        y = sd_graph_matmul(s->g, a, b, bias, p[3], p[4]);
    return r ? sd_graph_add(s->g, y, r, 1) : y;
}

/* N, H, W, C, O, kernel, stride, padding top left, padding bottom right, flags: 1 bias, 2 frozen weight, 4
 * residual */
static struct sd_tensor *build_conv2d(struct session *s, const int64_t *p)
{
    struct sd_conv conv = {p[6], p[7], p[7], p[8], p[8]};
    struct sd_tensor *x = VAR("x", GRAD, p[0], p[1], p[2], p[3]);
    struct sd_tensor *w = VAR("w", p[9] & 2 ? FROZEN : GRAD, p[4], p[3], p[5], p[5]);
    struct sd_tensor *bias = p[9] & 1 ? VAR("bias", GRAD32, p[4]) : NULL;
    int64_t h = (p[1] + p[7] + p[8] - p[5]) / p[6] + 1, width = (p[2] + p[7] + p[8] - p[5]) / p[6] + 1;
    struct sd_tensor *r = p[9] & 4 ? fresh(s, VAR("residual", GRAD, p[0], h, width, p[4])) : NULL;
    struct sd_tensor *y = sd_graph_conv2d(s->g, x, w, bias, &conv);
    return r ? sd_graph_add(s->g, y, r, 1) : y;
}

/* N, H, W, C, groups, activation, offset of x */
static struct sd_tensor *build_group_norm(struct session *s, const int64_t *p)
{
    struct sd_tensor *x = variable(s, "x", GRAD, (float)p[6], 4, p);
    return sd_graph_group_norm(s->g, x, VAR("w", GRAD32, p[3]), VAR("b", GRAD32, p[3]), p[4], 1e-3f,
                               p[5] ? SD_ACT_SILU : SD_ACT_NONE);
}

/* N, T, C, offset of x */
static struct sd_tensor *build_layer_norm(struct session *s, const int64_t *p)
{
    struct sd_tensor *x = variable(s, "x", GRAD, (float)p[3], 3, p);
    return sd_graph_layer_norm(s->g, x, VAR("w", GRAD32, p[2]), VAR("b", GRAD32, p[2]), 1e-3f);
}

/* N, T, S, heads, channels a head, causal */
static struct sd_tensor *build_attention(struct session *s, const int64_t *p)
{
    struct sd_tensor *q = VAR("q", GRAD, p[0], p[1], p[3] * p[4]),
                     *k = VAR("k", GRAD, p[0], p[2], p[3] * p[4]);
    return sd_graph_attention(s->g, q, k, VAR("v", GRAD, p[0], p[2], p[3] * p[4]), p[3], 0.3f, p[5]);
}

/* V, C, N, T */
static struct sd_tensor *build_embedding(struct session *s, const int64_t *p)
{
    struct sd_tensor *table = VAR("table", GRAD, p[0], p[1]);
    struct variable *v = &s->v[s->n_v++];
    int32_t *ids = malloc((size_t)(p[2] * p[3]) * sizeof *ids);
    for (int64_t i = 0; i < p[2] * p[3]; i++)
        ids[i] = (int32_t)(sd_rng_u32(&s->rng) % (uint32_t)p[0]);
    v->var = (struct sd_var){.name = "ids", .dtype = SD_I32, .ndim = 2, .dim = {p[2], p[3]}, .data = ids};
    v->tensor = sd_graph_var(s->g, &v->var, SD_I32);
    return sd_graph_embedding(s->g, table, v->tensor);
}

/* Whole timesteps below limit. */
static struct sd_tensor *timesteps(struct session *s, int64_t n, uint32_t limit)
{
    struct sd_tensor *t = VAR("t", DATA, n);
    for (int64_t i = 0; i < n; i++)
        values(s)[i] = (float)(sd_rng_u32(&s->rng) % limit);
    return t;
}

/* N, dim, flip */
static struct sd_tensor *build_timestep_embedding(struct session *s, const int64_t *p)
{
    return sd_graph_timestep_embedding(s->g, timesteps(s, p[0], 1000), p[1], 10000, p[2]);
}

/* N, H, W, C (0: [N,H] only), threads, offset */
static struct sd_tensor *build_randn(struct session *s, const int64_t *p)
{
    struct variable *v = &s->v[s->n_v++];
    int32_t *state = malloc(4 * sizeof *state);
    memcpy(state, (int32_t[]){-559038737, 12345, (int32_t)p[5], 7}, 4 * sizeof *state);
    v->var = (struct sd_var){.name = "state", .dtype = SD_I32, .ndim = 1, .dim = {4}, .data = state};
    v->tensor = sd_graph_var(s->g, &v->var, SD_I32);
    return sd_graph_randn(s->g, v->tensor, p[4], p[3] ? 4 : 2, p);
}

/* N, H, W, C; 1: the latents raise the strength, -1: they lower it */
static struct sd_tensor *build_noise_offset(struct session *s, const int64_t *p)
{
    struct sd_tensor *x = fresh(s, VAR("x", DATA, p[0], p[1], p[2], p[3])),
                     *normal = VAR("normal", DATA, p[0], 1, 1, p[3]),
                     *latents = p[4] ? variable(s, "latents", DATA, 1, 4, p) : NULL,
                     *strength = VAR("strength", DATA, 2);
    values(s)[0] = 0.5f;
    values(s)[1] = p[4] < 0 ? -1 : 0.75f;
    return sd_graph_noise_offset(s->g, x, normal, strength, latents);
}

/* N, H, W, C; how many turns, each a part of the one before; rows of turns */
static struct sd_tensor *build_noise_levels(struct session *s, const int64_t *p)
{
    int64_t total = 0, h = p[1], w = p[2];
    float turns[16][3] = {{0}};
    for (int t = 0; t < p[4]; t++) {
        memcpy(turns[t], (float[]){(float)h, (float)w, powf(0.5f, (float)t)}, sizeof turns[t]);
        total += p[0] * p[3] * h * w;
        h = h > 2 ? h * 2 / 5 : 1;
        w = w > 3 ? w / 3 : 1;
    }
    struct sd_tensor *x = fresh(s, VAR("x", DATA, p[0], p[1], p[2], p[3])),
                     *levels = VAR("levels", DATA, total + 1), *rows = VAR("turns", DATA, p[5], 3);
    memcpy(values(s), turns, (size_t)p[5] * sizeof *turns);
    return sd_graph_noise_levels(s->g, x, levels, rows);
}

/* N, elements a sample */
static struct sd_tensor *build_mix(struct session *s, const int64_t *p)
{
    struct sd_tensor *x = VAR("x", DATA, p[0], p[1]), *noise = VAR("noise", DATA, p[0], p[1]);
    struct sd_tensor *t = timesteps(s, p[0], 10);
    return sd_graph_mix(s->g, x, noise, t, VAR("table", DATA, 10, 2));
}

/* N, elements a sample, terms, first coefficient, coefficients a sample, 1: limited */
static struct sd_tensor *build_combine(struct session *s, const int64_t *p)
{
    struct sd_tensor *x[SD_COMBINE_TERMS];
    for (int i = 0; i < p[2]; i++)
        x[i] = VAR("x", DATA, p[0], p[1]);
    struct sd_tensor *coef = VAR("coef", DATA, p[0], p[4]);
    for (int64_t i = 0; i < p[0] && p[5]; i++)
        values(s)[i * p[4] + p[3] + p[2]] = 0.5f + (float)i;
    return sd_graph_combine(s->g, (int)p[2], x, coef, p[3], p[5]);
}

/* N, elements a sample, kind */
static struct sd_tensor *build_loss(struct session *s, const int64_t *p)
{
    enum sd_loss kind = (enum sd_loss)p[2];
    /* Where slopes are measured, no difference is near l1's kink. */
    float away = kind == SD_LOSS_L1 && p[0] * p[1] < 4000 ? 6 : 0;
    struct sd_tensor *x = VAR("pred", GRAD, p[0], p[1]), *target = variable(s, "target", DATA, away, 2, p);
    struct sd_tensor *weight = VAR("weight", DATA, p[0]), *delta = NULL;
    if (kind == SD_LOSS_SMOOTH_L1 || kind == SD_LOSS_HUBER) {
        delta = VAR("delta", DATA, p[0]);
        for (int64_t i = 0; i < p[0]; i++)
            values(s)[i] = fabsf(values(s)[i]) + 0.125f;
    }
    return sd_graph_loss(s->g, kind, x, target, weight, delta);
}

/* elements */
static struct sd_tensor *build_assign(struct session *s, const int64_t *p)
{
    struct sd_tensor *var = VAR("var", STATE, p[0]);
    sd_graph_assign(s->g, var, VAR("x", DATA, p[0]));
    return NULL;
}

/* Pairs of a state and what goes into it: elements of the first, pairs, elements from one to the next. */
static int build_pairs(struct session *s, const int64_t *p, struct sd_tensor **to, struct sd_tensor **from)
{
    for (int i = 0; i < p[1]; i++) {
        to[i] = VAR("sum", STATE, p[0] + i * p[2]);
        from[i] = VAR("x", DATA, p[0] + i * p[2]);
        if (i % 3) /* of another type; the cast back is left out */
            from[i] = sd_graph_cast(s->g, from[i], s->dtype);
        if (i % 3 == 2)
            from[i] = sd_graph_cast(s->g, from[i], SD_F32);
    }
    return (int)p[1];
}

static struct sd_tensor *build_accumulate(struct session *s, const int64_t *p)
{
    struct sd_tensor *to[VARIABLES], *from[VARIABLES];
    sd_graph_accumulate(s->g, build_pairs(s, p, to, from), to, from);
    return NULL;
}

static struct sd_tensor *build_ema(struct session *s, const int64_t *p)
{
    struct sd_tensor *to[VARIABLES], *from[VARIABLES], *rate = VAR("rate", DATA, 1);
    *values(s) = 0.375f;
    sd_graph_ema(s->g, build_pairs(s, p, to, from), to, from, rate);
    return NULL;
}

/* elements of the first tensor, tensors, elements from one to the next, 1000 times the maximal norm; then 1:
 * the gradients are scaled, 2: and one is infinite */
static struct sd_tensor *build_clip(struct session *s, const int64_t *p)
{
    struct sd_tensor *x[VARIABLES];
    for (int i = 0; i < p[1]; i++)
        x[i] = VAR("grad", DATA, p[0] + i * p[2]);
    if (p[4] == 2)
        values(s)[0] = INFINITY;
    struct sd_tensor *scale = p[4] ? variable(s, "scale", DATA, 4, 1, &(int64_t){1}) : NULL;
    struct sd_tensor *clip = sd_graph_clip(s->g, x, (int)p[1], (float)p[3] / 1000, scale);
    return p[4] == 2 ? sd_graph_slice(s->g, clip, SD_CLIP_SKIP, 1) : clip; /* the rest is infinite or NaN */
}

/* A result of sd_graph_clip. */
static struct sd_tensor *clipping(struct session *s, bool skip)
{
    struct sd_tensor *clip = VAR("clip", DATA, SD_CLIP_RESULTS);
    values(s)[SD_CLIP_COEFFICIENT] = 0.75f;
    values(s)[SD_CLIP_SKIP] = skip;
    return clip;
}

/* A moment of n elements: f32, or codes. */
static struct sd_tensor *moment(struct session *s, const char *name, float offset, int64_t n, bool codes)
{
    if (!codes)
        return variable(s, name, STATE, offset, 1, &n);
    struct variable *v = &s->v[s->n_v++];
    uint8_t *memory = malloc((size_t)n);
    for (int64_t i = 0; i < n; i++)
        memory[i] = (uint8_t)sd_rng_u32(&s->rng);
    v->n = n;
    v->var =
        (struct sd_var){.name = name, .dtype = SD_U8, .ndim = 1, .dim = {n}, .data = memory, .state = memory};
    return v->tensor = sd_graph_var(s->g, &v->var, SD_U8);
}

/* The maps of codes. */
static struct sd_tensor *code_maps(struct session *s, int moments)
{
    struct sd_tensor *maps = VAR("maps", DATA, moments, SD_QUANT_CODES);
    for (int i = 0; i < moments; i++)
        sd_dynamic_map(!i, values(s) + (size_t)i * SD_QUANT_CODES);
    return maps;
}

/* Numbers of a rule's row, in its columns' order; a sign that rounding turns should cost little. */
static const float hyper_of[SD_RULE_COUNT][SD_STEP_HYPER] = {
    [SD_RULE_adam] = {1, 0.999f, 0.01f, 0.9f, 0.1f, 0.99f, 0.01f, 1e-6f, 0.0369f, 0.01f, 5.8f},
    [SD_RULE_amsgrad] = {1, 0.999f, 0.01f, 0.9f, 0.1f, 0.99f, 0.01f, 1e-6f, 0.0369f, 0.01f, 5.8f},
    [SD_RULE_lion] = {1, 0.999f, 0.9f, 0.1f, 0.99f, 0.01f, 0.001f},
    [SD_RULE_sgd] = {1, 0.999f, 0.01f, 0.9f, 0.8f, 0.0369f, 0.0333f},
    [SD_RULE_rmsprop] = {1, 0.01f, 0.9f, 0.1f, 1e-6f, 0.0369f},
    [SD_RULE_rmsprop_full] = {1, 0.01f, 0.9f, 0.1f, 1e-2f, 0.0369f, 0.05f, 0.8f},
    [SD_RULE_adadelta] = {1, 0.01f, 0.9f, 0.1f, 1e-3f, 0.5f},
    [SD_RULE_adamax] = {1, 0.01f, 0.9f, 0.1f, 0.99f, 1e-6f, 0.0369f},
    [SD_RULE_rprop] = {1, 1.2f, 0.5f, 1e-3f, 4},
};

/* Rows of hyper, no two alike. */
static struct sd_tensor *hypers(struct session *s, int64_t n, const float *hyper, bool idle)
{
    struct sd_tensor *h = VAR("hyper", DATA, n, SD_STEP_HYPER);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < SD_STEP_HYPER; k++)
            values(s)[i * SD_STEP_HYPER + k] =
                k == SD_STEP_LIVE ? !(idle && i % 2) : hyper[k] * (1 - (float)i / 1024);
    return h;
}

/* elements of the first parameter, parameters, elements from one to the next; then 1: the update is skipped,
 * 2: every second parameter is idle; then 1: moments are codes; then the rule */
static struct sd_tensor *build_step(struct session *s, const int64_t *p)
{
    /* squares are above zero; what is no square may be anything */
    static const bool positive[SD_RULE_COUNT][SD_STEP_MOMENTS] = {
        [SD_RULE_adam] = {false, true},    [SD_RULE_amsgrad] = {false, true, true},
        [SD_RULE_rmsprop] = {true},        [SD_RULE_rmsprop_full] = {true},
        [SD_RULE_adadelta] = {true, true}, [SD_RULE_adamax] = {false, true},
        [SD_RULE_rprop] = {false, true}};
    struct sd_tensor *t[VARIABLES];
    enum sd_rule rule = (enum sd_rule)p[5];
    int moments = sd_rules[rule].moments, at = 0;
    for (int i = 0; i < p[1]; i++) {
        int64_t n = p[0] + i * p[2];
        t[at++] = VAR("param", STATE, n);
        t[at++] = VAR("grad", STATE, n);
        for (int j = 0; j < moments; j++)
            t[at++] = moment(s, "moment", positive[rule][j] ? 6 : 0, n, p[4]);
        for (int j = 0; j < moments && p[4]; j++)
            t[at++] = variable(s, "max", STATE, 6, 1, &(int64_t){(n + SD_QUANT_BLOCK - 1) / SD_QUANT_BLOCK});
    }
    struct sd_tensor *clip = clipping(s, p[3] == 1), *h = hypers(s, p[1], hyper_of[rule], p[3] == 2);
    sd_graph_step(s->g, rule, (int)p[1], t, clip, h, p[4] ? code_maps(s, moments) : NULL);
    return NULL;
}

/* dimensions of the first parameter (0: it has fewer); parameters; what the last dimension grows by from one
 * to the next; 1: they have a first moment; 1: the update is skipped */
static struct sd_tensor *build_adafactor(struct session *s, const int64_t *p)
{
    static const float hyper[SD_STEP_HYPER] = {
        [SD_ADAFACTOR_RATE] = 0.0369f, [SD_ADAFACTOR_LEAST] = 1e-3f, [SD_ADAFACTOR_EPS] = 1e-6f,
        [SD_ADAFACTOR_KEEP] = 0.9f,    [SD_ADAFACTOR_NEW] = 0.1f,    [SD_ADAFACTOR_MOST] = 0.5f,
        [SD_ADAFACTOR_BETA1] = 0.8f,   [SD_ADAFACTOR_NEW1] = 0.2f,   [SD_ADAFACTOR_DECAY] = 0.01f};
    struct sd_adafactor_tensors t[VARIABLES / 5];
    int n = 1;
    while (n < SD_MAX_DIMS && p[n])
        n++;
    for (int i = 0; i < p[4]; i++) {
        int64_t dim[SD_MAX_DIMS] = {p[0], p[1], p[2], p[3]}, columns[SD_MAX_DIMS];
        dim[n - 1] += i * p[5];
        memcpy(columns, dim, sizeof dim);
        t[i] = (struct sd_adafactor_tensors){.param = variable(s, "param", STATE, 0, n, dim),
                                             .grad = variable(s, "grad", STATE, 0, n, dim),
                                             .rows = variable(s, "rows", STATE, 6, n > 1 ? n - 1 : n, dim)};
        if (n > 1) {
            columns[n - 2] = dim[n - 1];
            t[i].columns = variable(s, "columns", STATE, 6, n - 1, columns);
        }
        t[i].m = p[6] ? variable(s, "m", STATE, 0, n, dim) : NULL;
    }
    struct sd_tensor *clip = clipping(s, p[7]), *rows = hypers(s, p[4], hyper, false);
    for (int i = 0; i < p[4]; i++) { /* kinds of parameters in turn */
        float *row = values(s) + (size_t)i * SD_STEP_HYPER;
        row[SD_STEP_LIVE] = i % 5 != 3;
        row[SD_ADAFACTOR_SCALED] = i % 3 != 1;
        row[SD_ADAFACTOR_MOST] *= i % 2 ? 100 : 1;
    }
    return sd_graph_adafactor(s->g, (int)p[4], t, clip, rows);
}

/* Rows of hyper of rules that adapt the step size. */
static struct sd_tensor *adapt_hypers(struct session *s, int64_t n, bool idle, bool first)
{
    static const float hyper[SD_ADAPT_HYPER] = {
        [SD_ADAPT_RATE] = 0.9f,  [SD_ADAPT_BETA1] = 0.9f, [SD_ADAPT_NEW1] = 0.1f,
        [SD_ADAPT_BETA2] = 0.8f, [SD_ADAPT_NEW2] = 0.2f,  [SD_ADAPT_BETA3] = 0.7f,
        [SD_ADAPT_NEW3] = 0.3f,  [SD_ADAPT_EPS] = 1e-2f,  [SD_ADAPT_DECAY] = 0.04f,
        [SD_ADAPT_LOSE] = 0.05f, [SD_ADAPT_PROX] = 0.06f, [SD_ADAPT_MAX_NORM] = 0.5f};
    struct sd_tensor *h = VAR("hyper", DATA, n, SD_ADAPT_HYPER);
    for (int64_t i = 0; i < n; i++) {
        float *row = values(s) + i * SD_ADAPT_HYPER;
        for (int64_t k = 0; k < SD_ADAPT_HYPER; k++)
            row[k] = hyper[k] * (1 - (float)i / 1024);
        row[SD_ADAPT_LIVE] = !(idle && i % 2);
        row[SD_ADAPT_FIRST] = first && i % 3 == 0;
    }
    return h;
}

/* In the middle of a training, or before its first update. */
static struct sd_tensor *adapt_state(struct session *s, enum kind kind, bool start)
{
    struct sd_tensor *state = VAR("state", kind, SD_ADAPT_STATE);
    float *v = values(s);
    for (int i = 0; i < SD_ADAPT_STATE; i++)
        v[i] = start ? 0 : i < SD_ADAPT_TOTALS ? 0.03f + fabsf(v[i]) / 64 : v[i] / (i % 2 ? 1 << 26 : 1);
    v[SD_ADAPT_D] = start ? 0.03f : v[SD_ADAPT_D];
    v[SD_ADAPT_MOST] = v[SD_ADAPT_D] + !start;
    return state;
}

/* elements of the first parameter, parameters, elements from one to the next; then 1: the update is skipped,
 * 2: every second parameter is idle, 3: it is the first of some and of all; then the rule */
static struct sd_tensor *build_adapt_step(struct session *s, const int64_t *p)
{
    static const int square[SD_ADAPT_RULES] = {
        [SD_ADAPT_preprint] = 1, [SD_ADAPT_adam] = 1, [SD_ADAPT_adan] = 2,    [SD_ADAPT_adan_ip] = 2,
        [SD_ADAPT_lion] = -1,    [SD_ADAPT_sgd] = -1, [SD_ADAPT_prodigy] = 1, [SD_ADAPT_prodigy_move] = 1};
    struct sd_tensor *t[VARIABLES];
    enum sd_adapt_rule rule = (enum sd_adapt_rule)p[4];
    const struct sd_adapt_info *r = &sd_adapt_rules[rule];
    int at = 0;
    for (int i = 0; i < p[1]; i++) {
        int64_t n = p[0] + i * p[2];
        t[at++] = VAR("param", STATE, n);
        if (r->sums)
            t[at++] = VAR("grad", STATE, n);
        for (int j = 0; j < r->moments; j++)
            t[at++] = moment(s, "moment", j == square[rule] ? 6 : 0, n, false);
    }
    struct sd_tensor *clip = clipping(s, p[3] == 1), *h = adapt_hypers(s, p[1], p[3] == 2, p[3] == 3);
    return sd_graph_adapt_step(s->g, rule, (int)p[1], t, clip, h, adapt_state(s, DATA, p[3] == 3));
}

/* 0: as DAdaptAdan, 1: as DAdaptAdaGrad, 2: as DAdaptSGD, 3: as Prodigy; then 1: after a skipped update, 2:
 * after the first, 3: at a rate of 0, 4: after one without gradients; 1000 times the growth rate, or 0 */
static struct sd_tensor *build_adapt(struct session *s, const int64_t *p)
{
    struct sd_adaptation how = {
        .keep = 0.9f, .fresh = 0.1f, .of_top = -0.1f, .of_squares = 1, .of_size = 0.1f};
    how.d0 = 0.03f;
    how.growth = p[2] ? (double)p[2] / 1000 : (double)INFINITY;
    how.squared = p[0] < 2;
    how.tracked = p[0] == 1;
    how.rooted = p[0] == 2;
    how.prodigy = p[0] == 3;
    struct sd_tensor *state = adapt_state(s, STATE, p[1] == 2), *clip = clipping(s, p[1] == 1),
                     *hyper = adapt_hypers(s, 2, true, false);
    values(s)[SD_ADAPT_RATE] = p[1] == 3 ? 0 : 0.9f;
    struct sd_tensor *sums = VAR("sums", DATA, SD_ADAPT_SUMS, 2);
    for (int i = 0; i < 2 * SD_ADAPT_SUMS; i++)
        values(s)[i] = p[1] == 4 ? 0 : (fabsf(values(s)[i]) + 1) / (i % 2 ? 1 << 26 : 1);
    return sd_graph_adapt(s->g, state, sums, clip, hyper, &how);
}

/* 1: after a skipped update; the streak before it, the interval, 1: no larger scale is finite */
static struct sd_tensor *build_loss_scale(struct session *s, const int64_t *p)
{
    struct sd_loss_scaling scaling = SD_LOSS_SCALING_DEFAULT;
    struct sd_tensor *scale = VAR("scale", STATE, 1);
    *values(s) = p[3] ? 0x1p127f : 64;
    struct sd_tensor *streak = VAR("streak", STATE, 1);
    *values(s) = (float)p[1];
    scaling.interval = p[2];
    sd_graph_loss_scale(s->g, scale, streak, clipping(s, p[0]), &scaling);
    return NULL;
}

#endif
