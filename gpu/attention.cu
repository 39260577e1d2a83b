/* attention and attention_bwd: by cuDNN's fused kernels where they take the case, else by products, over as
 * many heads and queries at a time as fit a bound:
 *     forward    S = q k^T; p, lse = softmax(scale S); o = p v
 *     backward   p = exp(scale S - lse); dv = p^T do; dp = do v^T; ds = p (dp - delta);
 *                dq = scale ds k; dk = scale ds^T q */
#include "dnn.h"
#include "gemm.h"
#include "softmax.h"

#include <stdlib.h>

namespace
{

constexpr size_t BOUND =
    sd_cuda_bound(256); /* bytes of scores, probabilities and their gradients at a time */

/* Some heads of a sample, all queries of each; or some queries of one head. */
struct block {
    int64_t n, h, heads, t, queries;
};

/* The products of a block of a certain size. */
struct products {
    sd_cuda_gemm_plan scores, out;      /* forward; scores for the backward too */
    sd_cuda_gemm_plan dv, dp, dq, dk;   /* backward */
    sd_cuda_gemm_plan dv_more, dk_more; /* added to those of the queries before */
};

struct state {
    int64_t n, heads, t, s, d, c; /* c = heads*d */
    sd_dtype type;
    float scale;
    bool causal, backward;
    const sd_cudnn_plan *cudnn;
    int64_t samples_at_once; /* by cuDNN */
    int64_t row;             /* elements from one row of scores to the next */
    int64_t heads_at_once;   /* all queries of these */
    int64_t queries_at_once;
    bool sums; /* dk and dv of a head come from several blocks, summed in f32 */
    products whole, rest;
    /* offsets in scratch */
    size_t probabilities, gradients, delta, dk, dv, gemm;
};

size_t size_of(const state *s)
{
    return sd_dtype_size(s->type);
}

/* --- planning --- */

/* Heads side by side in rows of c; matrices of scores one after the other. */
sd_cuda_gemm base(const state *s, const block *b, int64_t m, int64_t n, int64_t k, bool ta, bool tb,
                  sd_dtype in, sd_dtype out)
{
    sd_cuda_gemm g = sd_cuda_gemm_dense(m, n, k, ta, tb, in, out);
    g.batch = b->heads;
    /* What run() passes starts at some head of some query: a multiple of d, or of c, elements. */
    int64_t each = s->d * static_cast<int64_t>(size_of(s)) | 16;
    g.align = static_cast<int>(each & -each);
    return g;
}

void factor(int64_t *ld, int64_t *step, int64_t row, int64_t matrix)
{
    *ld = row;
    *step = matrix;
}

sd_cuda_gemm scores_of(const state *s, const block *b)
{
    sd_cuda_gemm g = base(s, b, b->queries, s->s, s->d, false, true, s->type, SD_F32);
    factor(&g.lda, &g.step_a, s->c, s->d);
    factor(&g.ldb, &g.step_b, s->c, s->d);
    factor(&g.ldy, &g.step_y, s->row, b->queries * s->row);
    return g;
}

/* p v, ds k: probabilities or their gradient times keys' rows. */
sd_cuda_gemm by_keys(const state *s, const block *b, float scale)
{
    sd_cuda_gemm g = base(s, b, b->queries, s->d, s->s, false, false, s->type, s->type);
    factor(&g.lda, &g.step_a, s->row, b->queries * s->row);
    factor(&g.ldb, &g.step_b, s->c, s->d);
    factor(&g.ldy, &g.step_y, s->c, s->d);
    g.scale = scale;
    return g;
}

/* p^T do, ds^T q: a sum over queries, to f32 [s,d] of one head or to the result. */
sd_cuda_gemm by_queries(const state *s, const block *b, float scale, bool more)
{
    sd_cuda_gemm g = base(s, b, s->s, s->d, b->queries, true, false, s->type, s->sums ? SD_F32 : s->type);
    factor(&g.lda, &g.step_a, s->row, b->queries * s->row);
    factor(&g.ldb, &g.step_b, s->c, s->d);
    factor(&g.ldy, &g.step_y, s->sums ? s->d : s->c, s->d);
    g.scale = scale;
    g.acc = more;
    return g;
}

int plan_one(sd_call *c, sd_cuda_gemm g, sd_cuda_gemm_plan *plan, size_t *need, sd_err *err)
{
    if (sd_cuda_gemm_prepare(sd_cuda_of(c), &g, plan, err))
        return -1;
    *need = plan->scratch_bytes > *need ? plan->scratch_bytes : *need;
    return 0;
}

int plan_block(sd_call *c, const state *s, const block *b, products *p, size_t *need, sd_err *err)
{
    if (plan_one(c, scores_of(s, b), &p->scores, need, err))
        return -1;
    if (!s->backward)
        return plan_one(c, by_keys(s, b, 1), &p->out, need, err);
    if (plan_one(c, scores_of(s, b), &p->dp, need, err) ||
        plan_one(c, by_keys(s, b, s->scale), &p->dq, need, err) ||
        plan_one(c, by_queries(s, b, 1, false), &p->dv, need, err) ||
        plan_one(c, by_queries(s, b, s->scale, false), &p->dk, need, err))
        return -1;
    return !s->sums ? 0
           : plan_one(c, by_queries(s, b, 1, true), &p->dv_more, need, err) ||
                   plan_one(c, by_queries(s, b, s->scale, true), &p->dk_more, need, err)
               ? -1
               : 0;
}

/* Scores in f32, beside them probabilities in the tensors' type, over which their gradient is written; f32
 * probabilities lie over the scores, but dp then needs a place. */
void size_blocks(state *s)
{
    int64_t pack = static_cast<int64_t>(16 / size_of(s));
    s->row = (s->s + pack - 1) / pack * pack;
    int64_t each = s->type != SD_F32 ? 6 : s->backward ? 8 : 4;
    int64_t rows = static_cast<int64_t>(BOUND) / (each * s->row);
    rows = rows < 1 ? 1 : rows;
    if (rows >= s->t) {
        s->heads_at_once = rows / s->t < s->heads ? rows / s->t : s->heads;
        s->queries_at_once = s->t;
    } else {
        s->heads_at_once = 1;
        s->queries_at_once = rows < 16 ? rows : rows / 16 * 16;
    }
    s->sums = s->backward && s->queries_at_once < s->t;
}

int plan_products(sd_call *c, state *s, sd_err *err)
{
    size_blocks(s);
    block whole = {0, 0, s->heads_at_once, 0, s->queries_at_once}, rest = whole;
    if (s->queries_at_once < s->t)
        rest.queries = s->t % s->queries_at_once;
    else
        rest.heads = s->heads % s->heads_at_once;
    size_t need = 0, elements = static_cast<size_t>(whole.heads * whole.queries * s->row);
    if (plan_block(c, s, &whole, &s->whole, &need, err))
        return -1;
    if (rest.heads && rest.queries && (rest.heads < whole.heads || rest.queries < whole.queries) &&
        plan_block(c, s, &rest, &s->rest, &need, err))
        return -1;
    size_t at = sd_cuda_round_up(elements * sizeof(float));
    s->probabilities = s->type == SD_F32 ? 0 : at;
    at += s->type == SD_F32 ? 0 : sd_cuda_round_up(elements * size_of(s));
    s->gradients = s->type == SD_F32 ? at : 0; /* dp: in place of the scores, unless p lies there */
    if (s->backward) {
        at += s->type == SD_F32 ? sd_cuda_round_up(elements * sizeof(float)) : 0;
        s->delta = at;
        at += sd_cuda_round_up(static_cast<size_t>(s->n * s->heads * s->t) * sizeof(float));
        size_t sum = s->sums ? sd_cuda_round_up(static_cast<size_t>(s->s * s->d) * sizeof(float)) : 0;
        s->dk = at;
        s->dv = at + sum;
        at += 2 * sum;
    }
    s->gemm = at;
    c->scratch_bytes = at + need;
    return 0;
}

/* cuDNN's backward keeps a number a query and key in its workspace, so that its sums have a fixed order: it
 * is given as many samples, or heads of one, at a time as keep that within a bound, where one head does. */
void size_cudnn(state *s)
{
    constexpr size_t bound = 128 << 20;
    size_t head =
        2 * static_cast<size_t>((s->t + 127) / 128 * 128) * static_cast<size_t>((s->s + 127) / 128 * 128);
    size_t fit = s->backward ? bound / head : SIZE_MAX, heads = static_cast<size_t>(s->heads);
    s->samples_at_once = fit / heads >= static_cast<size_t>(s->n) ? s->n : 1;
    s->heads_at_once = s->heads;
    while (s->samples_at_once == 1 && s->heads_at_once > 1 &&
           (s->heads % s->heads_at_once || static_cast<size_t>(s->heads_at_once) > fit))
        s->heads_at_once--;
}

bool find_cudnn(sd_call *c, state *s)
{
    sd_cuda *cuda = sd_cuda_of(c);
    size_t workspace = 0;
    if (!sd_cuda_allows(cuda, SD_CUDA_CUDNN) || !sd_cuda_allows(cuda, SD_CUDA_SDPA))
        return false;
    size_cudnn(s);
    bool whole = s->samples_at_once == s->n && s->heads_at_once == s->heads;
    if (s->backward && !whole && s->t % 4) /* a part's lse would not lie on 16 bytes */
        return false;
    sd_cudnn_attention_case k = {c->node->op, s->samples_at_once, s->heads_at_once, s->t, s->s, s->d, s->c,
                                 s->type,     s->scale,           s->causal};
    if (!(s->cudnn = sd_cudnn_attention(cuda, &k, &workspace)))
        return false;
    size_t at = sd_cuda_round_up(workspace),
           numbers = sd_cuda_round_up(static_cast<size_t>(s->n * s->heads * s->t) * sizeof(float));
    size_t queries = sd_cuda_round_up(static_cast<size_t>(s->n * s->t * s->c) * size_of(s)),
           keys = sd_cuda_round_up(static_cast<size_t>(s->n * s->s * s->c) * size_of(s));
    s->delta = at; /* or lse, where nobody wants it */
    at += s->backward || !c->node->out[1] ? numbers : 0;
    /* It writes all three gradients. */
    s->gradients = at;
    at += s->backward && !c->node->out[0] ? queries : 0;
    s->dk = at;
    at += s->backward && !c->node->out[1] ? keys : 0;
    s->dv = at;
    at += s->backward && !c->node->out[2] ? keys : 0;
    c->scratch_bytes = at;
    return true;
}

int plan(sd_call *c, sd_err *err)
{
    const sd_node *n = c->node;
    bool backward = n->op == SD_OP_attention_bwd;
    const sd_tensor *q = n->in[backward], *k = n->in[backward + 1];
    if (sd_cuda_make_state(c, sizeof(state), err))
        return -1;
    state *s = static_cast<state *>(c->state);
    s->n = q->dim[0];
    s->heads = n->attr.heads;
    s->t = q->dim[1];
    s->s = k->dim[1];
    s->c = q->dim[2];
    s->d = s->c / s->heads;
    s->type = q->dtype;
    s->scale = n->attr.scale;
    s->causal = n->attr.causal;
    s->backward = backward;
    if (s->n == 0 || s->t == 0 || s->s == 0 || s->c == 0)
        return 0;
    if (s->type == SD_F32) /* cuDNN has none */
        return plan_products(c, s, err);
    if (sd_cuda_require(sd_cuda_of(c), SD_CUDA_CUDNN, err))
        return -1;
    if (find_cudnn(c, s))
        return 0;
    return plan_products(c, s, err);
}

/* --- running --- */

bool next(const state *s, block *b)
{
    b->t += b->queries;
    if (b->t >= s->t) {
        b->t = 0;
        b->h += b->heads;
    }
    if (b->h >= s->heads) {
        b->h = 0;
        b->n++;
    }
    b->heads = s->heads - b->h < s->heads_at_once ? s->heads - b->h : s->heads_at_once;
    b->queries = s->t - b->t < s->queries_at_once ? s->t - b->t : s->queries_at_once;
    return b->n < s->n;
}

block first_block(const state *s)
{
    return {0, 0, s->heads_at_once, 0, s->queries_at_once};
}

const products *products_of(const state *s, const block *b)
{
    return b->heads == s->heads_at_once && b->queries == s->queries_at_once ? &s->whole : &s->rest;
}

sd_softmax rows_of(const state *s, const block *b)
{
    sd_softmax r = {};
    r.rows = b->heads * b->queries;
    r.cols = s->s;
    r.stride = s->row;
    r.queries = s->t;
    r.first = b->t;
    r.scale = s->scale;
    r.causal = s->causal;
    return r;
}

/* A block's part of a tensor [n,t,c] (queries) or [n,s,c] (keys), and of one [n,heads,t] f32. */
char *queries_of(const state *s, const block *b, const void *p)
{
    int64_t at = (b->n * s->t + b->t) * s->c + b->h * s->d;
    return static_cast<char *>(const_cast<void *>(p)) + at * static_cast<int64_t>(size_of(s));
}

char *keys_of(const state *s, const block *b, const void *p)
{
    int64_t at = b->n * s->s * s->c + b->h * s->d;
    return static_cast<char *>(const_cast<void *>(p)) + at * static_cast<int64_t>(size_of(s));
}

float *statistics(const state *s, const block *b, void *p)
{
    return p ? static_cast<float *>(p) + (b->n * s->heads + b->h) * s->t + b->t : NULL;
}

void forward_block(const sd_call *c, const state *s, const block *b)
{
    sd_cuda *cuda = sd_cuda_of(c);
    const products *p = products_of(s, b);
    char *base = static_cast<char *>(c->scratch), *prob = base + s->probabilities, *work = base + s->gemm;
    sd_softmax rows = rows_of(s, b);
    sd_cuda_gemm_run(cuda, &p->scores, queries_of(s, b, c->in[0]), keys_of(s, b, c->in[1]), NULL, NULL, base,
                     work);
    sd_cuda_softmax(cuda->stream, &rows, base, SD_F32, prob, s->type, statistics(s, b, c->out[1]));
    sd_cuda_gemm_run(cuda, &p->out, prob, keys_of(s, b, c->in[2]), NULL, NULL, queries_of(s, b, c->out[0]),
                     work);
}

void run_forward_cudnn(const sd_call *c, const state *s)
{
    void *lse = c->out[1] ? c->out[1] : static_cast<char *>(c->scratch) + s->delta;
    const sd_cudnn_address a[] = {{SD_CUDNN_Q, c->in[0]},
                                  {SD_CUDNN_K, c->in[1]},
                                  {SD_CUDNN_V, c->in[2]},
                                  {SD_CUDNN_O, c->out[0]},
                                  {SD_CUDNN_LSE, lse}};
    sd_cudnn_run(sd_cuda_of(c), s->cudnn, a, 5, c->scratch);
}

void run_forward(const sd_call *c)
{
    const state *s = static_cast<const state *>(c->state);
    if (s->n == 0 || s->t == 0 || s->s == 0 || s->c == 0)
        return;
    if (s->cudnn) {
        run_forward_cudnn(c, s);
        return;
    }
    block b = first_block(s);
    do
        forward_block(c, s, &b);
    while (next(s, &b));
}

/* A head's f32 [s,d] into its columns of the result. */
template <typename T>
__global__ void attention_store_kernel(int64_t n, int64_t d, int64_t c, const float *from, T *to)
{
    for (int64_t i = sd_first(); i < n; i += sd_stride())
        to[i / d * c + i % d] = from_f32<T>(from[i]);
}

void store_sum(const sd_call *c, const state *s, const block *b, const void *sum, void *result)
{
    sd_by_type(s->type, [&](auto t) {
        using T = decltype(t);
        sd_launch(sd_cuda_stream(c), sd_grid(s->s * s->d), SD_THREADS, 0, attention_store_kernel<T>,
                  s->s * s->d, s->d, s->c, static_cast<const float *>(sum),
                  reinterpret_cast<T *>(keys_of(s, b, result)));
    });
}

/* dk or dv of a block, straight to the result or added to the sum of the blocks before it. */
void key_gradient(const sd_call *c, const state *s, const block *b, const sd_cuda_gemm_plan *plan,
                  const sd_cuda_gemm_plan *more, const void *weights, const void *rows, size_t sum_offset,
                  void *result)
{
    char *base = static_cast<char *>(c->scratch), *sum = base + sum_offset;
    if (!result)
        return;
    if (!s->sums) {
        sd_cuda_gemm_run(sd_cuda_of(c), plan, weights, queries_of(s, b, rows), NULL, NULL,
                         keys_of(s, b, result), base + s->gemm);
        return;
    }
    sd_cuda_gemm_run(sd_cuda_of(c), b->t ? more : plan, weights, queries_of(s, b, rows), NULL,
                     b->t ? sum : NULL, sum, base + s->gemm);
    if (b->t + b->queries == s->t)
        store_sum(c, s, b, sum, result);
}

void backward_block(const sd_call *c, const state *s, const block *b)
{
    sd_cuda *cuda = sd_cuda_of(c);
    const products *p = products_of(s, b);
    const void *dy = c->in[0], *q = c->in[1], *k = c->in[2], *v = c->in[3];
    char *base = static_cast<char *>(c->scratch), *prob = base + s->probabilities, *dp = base + s->gradients,
         *work = base + s->gemm;
    sd_softmax rows = rows_of(s, b);
    sd_cuda_gemm_run(cuda, &p->scores, queries_of(s, b, q), keys_of(s, b, k), NULL, NULL, base, work);
    sd_cuda_softmax_again(cuda->stream, &rows, base, SD_F32, prob, s->type, statistics(s, b, c->in[5]));
    key_gradient(c, s, b, &p->dv, &p->dv_more, prob, dy, s->dv, c->out[2]);
    sd_cuda_gemm_run(cuda, &p->dp, queries_of(s, b, dy), keys_of(s, b, v), NULL, NULL, dp, work);
    sd_cuda_softmax_bwd(cuda->stream, &rows, prob, s->type, dp, SD_F32, statistics(s, b, base + s->delta),
                        prob);
    if (c->out[0])
        sd_cuda_gemm_run(cuda, &p->dq, prob, keys_of(s, b, k), NULL, NULL, queries_of(s, b, c->out[0]), work);
    key_gradient(c, s, b, &p->dk, &p->dk_more, prob, q, s->dk, c->out[1]);
}

void run_backward_cudnn(const sd_call *c, const state *s)
{
    char *base = static_cast<char *>(c->scratch);
    void *dq = c->out[0] ? c->out[0] : base + s->gradients, *dk = c->out[1] ? c->out[1] : base + s->dk,
         *dv = c->out[2] ? c->out[2] : base + s->dv;
    for (int64_t n = 0; n < s->n; n += s->samples_at_once)
        for (int64_t h = 0; h < s->heads; h += s->heads_at_once) {
            block b = {n, h, s->heads_at_once, 0, s->t};
            const sd_cudnn_address a[] = {{SD_CUDNN_DO, queries_of(s, &b, c->in[0])},
                                          {SD_CUDNN_Q, queries_of(s, &b, c->in[1])},
                                          {SD_CUDNN_K, keys_of(s, &b, c->in[2])},
                                          {SD_CUDNN_V, keys_of(s, &b, c->in[3])},
                                          {SD_CUDNN_O, queries_of(s, &b, c->in[4])},
                                          {SD_CUDNN_LSE, statistics(s, &b, c->in[5])},
                                          {SD_CUDNN_DELTA, statistics(s, &b, base + s->delta)},
                                          {SD_CUDNN_DQ, queries_of(s, &b, dq)},
                                          {SD_CUDNN_DK, keys_of(s, &b, dk)},
                                          {SD_CUDNN_DV, keys_of(s, &b, dv)}};
            sd_cudnn_run(sd_cuda_of(c), s->cudnn, a, 10, base);
        }
}

void run_backward(const sd_call *c)
{
    const state *s = static_cast<const state *>(c->state);
    if (s->n == 0 || s->t == 0 || s->s == 0 || s->c == 0)
        return;
    if (s->cudnn) {
        run_backward_cudnn(c, s);
        return;
    }
    sd_cuda_softmax_delta(sd_cuda_stream(c), s->n, s->t, s->heads, s->d, c->in[0], c->in[4], s->type,
                          reinterpret_cast<float *>(static_cast<char *>(c->scratch) + s->delta));
    block b = first_block(s);
    do
        backward_block(c, s, &b);
    while (next(s, &b));
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_attention = {.plan = plan, .run = run_forward, .drop = sd_cuda_drop_state};
const struct sd_kernel sd_cuda_attention_bwd = {
    .plan = plan, .run = run_backward, .drop = sd_cuda_drop_state};
}
