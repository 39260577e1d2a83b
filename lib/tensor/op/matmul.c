/* matmul: one op, closed under differentiation.
 *     y = scale * op(a) op(b) + bias + acc
 *     da = scale * dy op(b)^T (or its transpose), db = scale * op(a)^T dy (or its transpose), dbias = sum of
 * dy's rows */
#include "tensor/op.h"

#include <string.h>

/* Rows and columns of a matrix whose columns are its last dimension; 1x1 convolution weights count as
 * matrices. */
static void as_matrix(const struct sd_tensor *t, int64_t *rows, int64_t *cols)
{
    int last = t->ndim - 1;
    while (last > 1 && t->dim[last] == 1 && t->node->op == SD_OP_var)
        last--;
    *cols = t->dim[last];
    *rows = sd_tensor_count(t) / *cols;
}

struct sd_tensor *sd_graph_matmul_scaled(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b,
                                         struct sd_tensor *bias, bool trans_a, bool trans_b, float scale,
                                         enum sd_dtype out)
{
    if (!a || !b)
        return NULL;
    int64_t ar, ac, br, bc;
    as_matrix(a, &ar, &ac);
    as_matrix(b, &br, &bc);
    int64_t m = trans_a ? ac : ar, k = trans_a ? ar : ac, kb = trans_b ? bc : br, n = trans_b ? br : bc;
    if (k != kb || a->dtype != b->dtype)
        return sd_graph_fail(g, SD_OP_matmul, "[%lld,%lld] %s times [%lld,%lld] %s do not fit", (long long)m,
                             (long long)k, sd_dtype_name(a->dtype), (long long)kb, (long long)n,
                             sd_dtype_name(b->dtype));
    if (bias && (sd_tensor_count(bias) != n || bias->dtype != SD_F32))
        return sd_graph_fail(g, SD_OP_matmul, "the bias is not [%lld] f32", (long long)n);
    int64_t dim[SD_MAX_DIMS];
    int ndim = trans_a ? 2 : a->ndim;
    memcpy(dim, a->dim, sizeof dim);
    if (trans_a)
        dim[0] = m;
    dim[ndim - 1] = n;
    struct sd_attr attr = {.trans_a = trans_a, .trans_b = trans_b, .scale = scale};
    struct sd_node *node =
        sd_graph_node(g, SD_OP_matmul, (struct sd_tensor *[]){a, b, bias, NULL}, 4, 2, 1, &attr);
    return sd_graph_add_out(g, node, 0, out, ndim, dim);
}

struct sd_tensor *sd_graph_matmul(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b,
                                  struct sd_tensor *bias, bool trans_a, bool trans_b)
{
    return a ? sd_graph_matmul_scaled(g, a, b, bias, trans_a, trans_b, 1, a->dtype) : NULL;
}

/* A gradient that will only be cast to f32 is made as f32: no rounding in between. */
static enum sd_dtype grad_dtype(const struct sd_tensor *x)
{
    return x->node->op == SD_OP_cast && x->node->in[0]->dtype == SD_F32 ? SD_F32 : x->dtype;
}

static struct sd_tensor *like(struct sd_graph *g, struct sd_tensor *d, const struct sd_tensor *x)
{
    return !d || sd_tensor_same_shape(d, x) ? d : sd_graph_reshape(g, d, x->ndim, x->dim);
}

void sd_grad_matmul(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                    struct sd_tensor **dx)
{
    struct sd_tensor *a = node->in[0], *b = node->in[1], *bias = node->in[2], *acc = node->in[3];
    bool ta = node->attr.trans_a, tb = node->attr.trans_b;
    float s = node->attr.scale;
    struct sd_tensor *d = sd_graph_cast(g, dy[0], a->dtype), *da, *db;
    if (a->needs_grad) {
        /* a [M,K]: dy op(b)^T; stored transposed [K,M]: op(b) dy^T */
        da = ta ? sd_graph_matmul_scaled(g, b, d, NULL, tb, true, s, grad_dtype(a))
                : sd_graph_matmul_scaled(g, d, b, NULL, false, !tb, s, grad_dtype(a));
        dx[0] = like(g, da, a);
    }
    if (b->needs_grad) {
        /* stored [N,K]: dy^T op(a); [K,N]: op(a)^T dy */
        db = tb ? sd_graph_matmul_scaled(g, d, a, NULL, true, ta, s, grad_dtype(b))
                : sd_graph_matmul_scaled(g, a, d, NULL, !ta, false, s, grad_dtype(b));
        dx[1] = like(g, db, b);
    }
    if (bias && bias->needs_grad)
        dx[2] = sd_graph_reduce_to(g, sd_graph_cast(g, dy[0], SD_F32), bias);
    if (acc && acc->needs_grad)
        dx[3] = dy[0];
}
