/* Attention by cuDNN: the graphs of products and row sums that its fused kernels are found by. All between
 * them is virtual: neither scores nor probabilities are ever stored. */
#include "graph_cudnn.h"

#include <float.h>
#include <math.h>
#include <string.h>

namespace
{

/* The tensors of a case, over which both graphs are written. */
struct builder {
    sd_cudnn_graph g;
    const sd_cudnn_attention_case *c;
    cudnnDataType_t type;
};

/* Heads side by side in rows: [n,heads,rows,d], or with the last two exchanged. */
sd_cudnn_desc by_heads(builder *b, sd_cudnn_tensor which, int64_t rows, bool transposed)
{
    int64_t d = b->c->d, row = b->c->row;
    const int64_t dim[4] = {b->c->n, b->c->heads, transposed ? d : rows, transposed ? rows : d},
                  stride[4] = {rows * row, d, transposed ? 1 : row, transposed ? row : 1};
    return sd_cudnn_tensor_desc(&b->g, which, b->type, dim, stride);
}

/* A number a query: [n,heads,t,1] f32. */
sd_cudnn_desc by_queries(builder *b, sd_cudnn_tensor which)
{
    const int64_t dim[4] = {b->c->n, b->c->heads, b->c->t, 1},
                  stride[4] = {b->c->heads * b->c->t, b->c->t, 1, 1};
    return sd_cudnn_tensor_desc(&b->g, which, CUDNN_DATA_FLOAT, dim, stride);
}

/* A number a query and key: [n,heads,t,s]. */
sd_cudnn_desc scores(builder *b, cudnnDataType_t type)
{
    int64_t t = b->c->t, s = b->c->s, h = b->c->heads;
    const int64_t dim[4] = {b->c->n, h, t, s}, stride[4] = {h * t * s, t * s, s, 1};
    return sd_cudnn_tensor_desc(&b->g, SD_CUDNN_VIRTUAL, type, dim, stride);
}

/* The same values, seen as [n,heads,s,t]. */
sd_cudnn_desc scores_transposed(builder *b)
{
    int64_t t = b->c->t, s = b->c->s, h = b->c->heads;
    const int64_t dim[4] = {b->c->n, h, s, t}, stride[4] = {h * t * s, t * s, 1, s};
    return sd_cudnn_tensor_desc(&b->g, SD_CUDNN_VIRTUAL, b->type, dim, stride);
}

sd_cudnn_desc pointwise(builder *b, cudnnPointwiseMode_t mode, sd_cudnn_desc x, sd_cudnn_desc with)
{
    sd_cudnn_desc y = scores(b, CUDNN_DATA_FLOAT);
    sd_cudnn_pointwise(&b->g, mode, x, with, NULL, y);
    return y;
}

/* scale * q k^T. */
sd_cudnn_desc scaled_scores(builder *b, sd_cudnn_desc q, sd_cudnn_desc k, sd_cudnn_desc scale)
{
    sd_cudnn_desc s = scores(b, CUDNN_DATA_FLOAT);
    sd_cudnn_matmul(&b->g, q, k, s);
    return pointwise(b, CUDNN_POINTWISE_MUL, s, scale);
}

/* Keys after their query out of sight. */
sd_cudnn_desc mask(builder *b, sd_cudnn_desc s)
{
    if (!b->c->causal)
        return s;
    sd_cudnn_desc row = scores(b, CUDNN_DATA_INT32), col = scores(b, CUDNN_DATA_INT32),
                  seen = scores(b, CUDNN_DATA_BOOLEAN), masked = scores(b, CUDNN_DATA_FLOAT);
    sd_cudnn_index(&b->g, 2, s, row);
    sd_cudnn_index(&b->g, 3, s, col);
    sd_cudnn_not_below(&b->g, row, col, seen);
    sd_cudnn_pointwise(&b->g, CUDNN_POINTWISE_BINARY_SELECT, s, sd_cudnn_number(&b->g, SD_CUDNN_HIDDEN), seen,
                       masked);
    return masked;
}

void build_forward(builder *b)
{
    sd_cudnn_graph *g = &b->g;
    const sd_cudnn_attention_case *c = b->c;
    sd_cudnn_desc q = by_heads(b, SD_CUDNN_Q, c->t, false), k = by_heads(b, SD_CUDNN_K, c->s, true),
                  scale = sd_cudnn_number(g, SD_CUDNN_SCALE);
    sd_cudnn_desc s = mask(b, scaled_scores(b, q, k, scale));
    sd_cudnn_desc max = by_queries(b, SD_CUDNN_VIRTUAL), sum = by_queries(b, SD_CUDNN_VIRTUAL),
                  log = by_queries(b, SD_CUDNN_VIRTUAL), p = scores(b, b->type);
    sd_cudnn_reduce(g, CUDNN_REDUCE_TENSOR_MAX, s, max);
    sd_cudnn_desc e = pointwise(b, CUDNN_POINTWISE_EXP, pointwise(b, CUDNN_POINTWISE_SUB, s, max), NULL);
    sd_cudnn_reduce(g, CUDNN_REDUCE_TENSOR_ADD, e, sum);
    sd_cudnn_pointwise(g, CUDNN_POINTWISE_LOG, sum, NULL, NULL, log);
    sd_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, max, log, NULL, by_queries(b, SD_CUDNN_LSE));
    sd_cudnn_pointwise(g, CUDNN_POINTWISE_DIV, e, sum, NULL, p);
    sd_cudnn_matmul(g, p, by_heads(b, SD_CUDNN_V, c->s, false), by_heads(b, SD_CUDNN_O, c->t, false));
}

/* dout * o summed over a head's channels, into DELTA. */
sd_cudnn_desc delta(builder *b, sd_cudnn_desc dout)
{
    int64_t t = b->c->t, d = b->c->d, h = b->c->heads;
    const int64_t dim[4] = {b->c->n, h, t, d}, stride[4] = {h * t * d, t * d, d, 1};
    sd_cudnn_desc product = sd_cudnn_tensor_desc(&b->g, SD_CUDNN_VIRTUAL, CUDNN_DATA_FLOAT, dim, stride),
                  sum = by_queries(b, SD_CUDNN_VIRTUAL), result = by_queries(b, SD_CUDNN_DELTA);
    sd_cudnn_pointwise(&b->g, CUDNN_POINTWISE_MUL, dout, by_heads(b, SD_CUDNN_O, t, false), NULL, product);
    sd_cudnn_reduce(&b->g, CUDNN_REDUCE_TENSOR_ADD, product, sum);
    sd_cudnn_pointwise(&b->g, CUDNN_POINTWISE_MUL, sum, sd_cudnn_number(&b->g, SD_CUDNN_ONE), NULL, result);
    return result;
}

/* gradient = weights^T rows, for k and v. */
void key_gradient(builder *b, sd_cudnn_desc weights, sd_cudnn_desc rows, sd_cudnn_tensor gradient)
{
    sd_cudnn_desc transposed = scores_transposed(b);
    sd_cudnn_reshape(&b->g, weights, transposed);
    sd_cudnn_matmul(&b->g, transposed, rows, by_heads(b, gradient, b->c->s, false));
}

void build_backward(builder *b)
{
    sd_cudnn_graph *g = &b->g;
    const sd_cudnn_attention_case *c = b->c;
    sd_cudnn_desc q = by_heads(b, SD_CUDNN_Q, c->t, false), k = by_heads(b, SD_CUDNN_K, c->s, true),
                  v = by_heads(b, SD_CUDNN_V, c->s, true), dout = by_heads(b, SD_CUDNN_DO, c->t, false),
                  scale = sd_cudnn_number(g, SD_CUDNN_SCALE);
    sd_cudnn_desc sum = delta(b, dout), s = scaled_scores(b, q, k, scale);
    s = mask(b, pointwise(b, CUDNN_POINTWISE_SUB, s, by_queries(b, SD_CUDNN_LSE)));
    sd_cudnn_desc p = pointwise(b, CUDNN_POINTWISE_EXP, s, NULL);
    key_gradient(b, p, dout, SD_CUDNN_DV);
    sd_cudnn_desc dp = scores(b, CUDNN_DATA_FLOAT);
    sd_cudnn_matmul(g, dout, v, dp);
    sd_cudnn_desc ds = pointwise(b, CUDNN_POINTWISE_MUL, pointwise(b, CUDNN_POINTWISE_SUB, dp, sum), p);
    ds = pointwise(b, CUDNN_POINTWISE_MUL, ds, scale);
    key_gradient(b, ds, q, SD_CUDNN_DK);
    sd_cudnn_desc keys = by_heads(b, SD_CUDNN_VIRTUAL, c->s, false);
    sd_cudnn_reshape(g, k, keys);
    sd_cudnn_matmul(g, ds, keys, by_heads(b, SD_CUDNN_DQ, c->t, false));
}

/* What cuDNN says it takes and what is known to be wrong in some versions, after the support notes of
 * NVIDIA's cudnn-frontend 1.23 (sdpa_support_surface.h, scaled_dot_product_flash_attention.h). */
bool is_safe(const sd_cudnn *dnn, const sd_cudnn_attention_case *c)
{
    bool hopper = dnn->major == 9, backward = c->op == SD_OP_attention_bwd;
    if (c->type == SD_F32 || c->d % 8 || dnn->version == 91000 || dnn->version == 91001)
        return false;
    if (!backward)
        return (c->d <= 128 || (c->d <= 256 && (hopper || dnn->version > 90900))) &&
               (c->t > 1 || !c->causal || dnn->version > 90900);
    /* Up to 9.15.0 keys past a last block of fewer than 128 were not hidden; Blackwell's kernels of data
     * centres are deterministic with engines and knobs of their choice only. */
    return c->d <= (hopper ? 256 : 128) && (c->t > 1 || c->s > 1) &&
           (c->s % 128 == 0 || dnn->version > 91500) && dnn->major != 10;
}

} // namespace

sd_cudnn_desc sd_cudnn_attention_make(const struct sd_cudnn *dnn, const struct sd_cudnn_attention_case *c,
                                      size_t *workspace)
{
    if (!is_safe(dnn, c))
        return NULL;
    builder b;
    sd_cudnn_graph_begin(&b.g, dnn);
    b.c = c;
    b.type = sd_cudnn_type(c->type);
    if (c->op == SD_OP_attention)
        build_forward(&b);
    else
        build_backward(&b);
    const sd_cudnn_terms terms = {false, true, size_t(1) << 30};
    sd_cudnn_desc plan = sd_cudnn_graph_plan(&b.g, &terms, workspace);
    sd_cudnn_graph_end(&b.g);
    return plan;
}

const struct sd_cudnn_plan *sd_cudnn_attention(struct sd_cuda *cuda, const struct sd_cudnn_attention_case *c,
                                               size_t *workspace)
{
    int32_t scale;
    memcpy(&scale, &c->scale, sizeof scale);
    const int64_t key[SD_CUDNN_KEY] = {c->op, c->n,   c->heads, c->t,      c->s,
                                       c->d,  c->row, c->type,  c->causal, scale};
    const struct sd_cudnn *dnn = sd_cudnn_of(cuda);
    bool made = false;
    struct sd_cudnn_plan *plan = dnn ? sd_cudnn_lookup(cuda, key, &made) : NULL;
    if (plan && !made) {
        size_t bytes = 0;
        sd_cudnn_desc desc = is_safe(dnn, c) ? sd_cudnn_cached(dnn, key, &bytes) : NULL;
        if (!desc && (desc = sd_cudnn_attention_make(dnn, c, &bytes)))
            sd_cudnn_cache(dnn, key, desc);
        /* Older kernels take the least number for a hidden key, and make NaN of infinity. */
        const sd_cudnn_numbers numbers = {{true, c->op == SD_OP_attention_bwd, c->causal},
                                          {c->scale, 1, dnn->version < 91000 ? -FLT_MAX : -INFINITY}};
        sd_cudnn_fill(plan, desc, bytes, &numbers);
    }
    return sd_cudnn_usable(plan, workspace);
}
