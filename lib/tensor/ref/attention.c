/* softmax(scale q k^T) v by heads, one query at a time, its scores in scratch. Backward, with p the
 * probabilities: dv = p^T do; dp = do v^T; ds = p (dp - sum(do o)); dq = scale ds k; dk = scale ds^T q. */
#include "tensor/ref/array.h"

#include <math.h>

struct heads {
    int64_t n, t, s, heads, d; /* q [n,t,heads*d], k and v [n,s,heads*d] */
};

static struct heads heads_of(const struct sd_call *c, struct array q, struct array k)
{
    int64_t h = c->node->attr.heads;
    return (struct heads){q.dim[0], q.dim[1], k.dim[1], h, last(q) / h};
}

static int64_t q_at(const struct heads *v, int64_t n, int64_t t, int64_t h)
{
    return ((n * v->t + t) * v->heads + h) * v->d;
}

static int64_t k_at(const struct heads *v, int64_t n, int64_t s, int64_t h)
{
    return ((n * v->s + s) * v->heads + h) * v->d;
}

static double dot(struct array a, int64_t i, struct array b, int64_t j, int64_t len)
{
    double sum = 0;
    for (int64_t k = 0; k < len; k++)
        sum += ld(a, i + k) * ld(b, j + k);
    return sum;
}

static int64_t keys_seen(const struct sd_call *c, const struct heads *v, int64_t t)
{
    return c->node->attr.causal && t + 1 < v->s ? t + 1 : v->s;
}

static void attend(const struct sd_call *c, const struct heads *v, int64_t n, int64_t h, int64_t t)
{
    struct array q = in(c, 0), k = in(c, 1), value = in(c, 2), o = out(c, 0), lse = out(c, 1);
    double *p = c->scratch, max = -INFINITY, sum = 0;
    int64_t keys = keys_seen(c, v, t);
    for (int64_t s = 0; s < keys; s++) {
        p[s] = c->node->attr.scale * dot(q, q_at(v, n, t, h), k, k_at(v, n, s, h), v->d);
        max = fmax(max, p[s]);
    }
    for (int64_t s = 0; s < keys; s++)
        sum += p[s] = exp(p[s] - max);
    for (int64_t i = 0; i < v->d; i++) {
        double y = 0;
        for (int64_t s = 0; s < keys; s++)
            y += p[s] * ld(value, k_at(v, n, s, h) + i);
        st(o, q_at(v, n, t, h) + i, y / sum);
    }
    if (lse.data)
        st(lse, (n * v->heads + h) * v->t + t, max + log(sum));
}

static void attention(const struct sd_call *c)
{
    struct heads v = heads_of(c, in(c, 0), in(c, 1));
    for (int64_t n = 0; n < v.n; n++)
        for (int64_t h = 0; h < v.heads; h++)
            for (int64_t t = 0; t < v.t; t++)
                attend(c, &v, n, h, t);
}

static int attention_plan(struct sd_call *c, struct sd_err *err)
{
    (void)err;
    c->scratch_bytes = (size_t)c->node->in[1]->dim[1] * sizeof(double);
    return 0;
}
const struct sd_kernel sd_ref_attention = {.plan = attention_plan, .run = attention};

struct backward {
    struct heads v;
    struct array dy, q, k, value, o, lse, dq, dk, dv;
    double scale;
};

/* Probability of key s for query t, and the gradient of its score before scaling. */
static double probability(const struct backward *b, int64_t n, int64_t h, int64_t t, int64_t s, double *ds)
{
    const struct heads *v = &b->v;
    int64_t qi = q_at(v, n, t, h), ki = k_at(v, n, s, h);
    double score = b->scale * dot(b->q, qi, b->k, ki, v->d);
    double p = exp(score - ld(b->lse, (n * v->heads + h) * v->t + t));
    *ds = p * (dot(b->dy, qi, b->value, ki, v->d) - dot(b->dy, qi, b->o, qi, v->d));
    return p;
}

/* The gradients of one head, through scratch: dq, dk, dv as doubles. */
static void head_backward(const struct sd_call *c, const struct backward *b, int64_t n, int64_t h)
{
    const struct heads *v = &b->v;
    double *dq = c->scratch, *dk = dq + v->t * v->d, *dv = dk + v->s * v->d, ds;
    for (int64_t i = 0; i < (v->t + 2 * v->s) * v->d; i++)
        dq[i] = 0;
    for (int64_t t = 0; t < v->t; t++)
        for (int64_t s = 0; s < keys_seen(c, v, t); s++) {
            double p = probability(b, n, h, t, s, &ds);
            for (int64_t i = 0; i < v->d; i++) {
                dq[t * v->d + i] += b->scale * ds * ld(b->k, k_at(v, n, s, h) + i);
                dk[s * v->d + i] += b->scale * ds * ld(b->q, q_at(v, n, t, h) + i);
                dv[s * v->d + i] += p * ld(b->dy, q_at(v, n, t, h) + i);
            }
        }
    for (int64_t i = 0; i < v->t * v->d && b->dq.data; i++)
        st(b->dq, q_at(v, n, i / v->d, h) + i % v->d, dq[i]);
    for (int64_t i = 0; i < v->s * v->d && b->dk.data; i++)
        st(b->dk, k_at(v, n, i / v->d, h) + i % v->d, dk[i]);
    for (int64_t i = 0; i < v->s * v->d && b->dv.data; i++)
        st(b->dv, k_at(v, n, i / v->d, h) + i % v->d, dv[i]);
}

static void attention_bwd(const struct sd_call *c)
{
    struct backward b = {heads_of(c, in(c, 1), in(c, 2)),
                         in(c, 0),
                         in(c, 1),
                         in(c, 2),
                         in(c, 3),
                         in(c, 4),
                         in(c, 5),
                         out(c, 0),
                         out(c, 1),
                         out(c, 2),
                         c->node->attr.scale};
    for (int64_t n = 0; n < b.v.n; n++)
        for (int64_t h = 0; h < b.v.heads; h++)
            head_backward(c, &b, n, h);
}

static int attention_bwd_plan(struct sd_call *c, struct sd_err *err)
{
    (void)err;
    const struct sd_tensor *q = c->node->in[1], *k = c->node->in[2];
    size_t d = (size_t)(q->dim[2] / c->node->attr.heads);
    c->scratch_bytes = ((size_t)q->dim[1] + 2 * (size_t)k->dim[1]) * d * sizeof(double);
    return 0;
}
const struct sd_kernel sd_ref_attention_bwd = {.plan = attention_bwd_plan, .run = attention_bwd};
