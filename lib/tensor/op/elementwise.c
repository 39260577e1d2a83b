/* Elementwise ops: add with broadcast and its transpose, mul with broadcast, scale, activations, GEGLU. */
#include "tensor/op.h"

#include <string.h>

struct sd_tensor *sd_graph_add(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b, float scale)
{
    if (!a || !b)
        return NULL;
    int64_t outer, mid, inner;
    if (a->dtype != b->dtype)
        return sd_graph_fail(g, SD_OP_add, "%s and %s do not add", sd_dtype_name(a->dtype),
                             sd_dtype_name(b->dtype));
    if (sd_op_broadcast(a, b, &outer, &mid, &inner))
        return sd_graph_fail(g, SD_OP_add, "the second operand does not broadcast to the first");
    struct sd_node *node =
        sd_graph_node(g, SD_OP_add, (struct sd_tensor *[]){a, b}, 2, 2, 1, &(struct sd_attr){.scale = scale});
    return sd_graph_add_out(g, node, 0, a->dtype, a->ndim, a->dim);
}

void sd_grad_add(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                 struct sd_tensor **dx)
{
    struct sd_tensor *a = node->in[0], *b = node->in[1];
    if (a->needs_grad)
        dx[0] = dy[0];
    if (b->needs_grad)
        dx[1] = sd_graph_scale(g, sd_graph_reduce_to(g, dy[0], b), node->attr.scale);
}

struct sd_tensor *sd_graph_mul(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b)
{
    if (!a || !b)
        return NULL;
    int64_t outer, mid, inner;
    if (a->dtype != b->dtype)
        return sd_graph_fail(g, SD_OP_mul, "%s and %s do not multiply", sd_dtype_name(a->dtype),
                             sd_dtype_name(b->dtype));
    if (sd_op_broadcast(a, b, &outer, &mid, &inner))
        return sd_graph_fail(g, SD_OP_mul, "the second operand does not broadcast to the first");
    struct sd_node *node = sd_graph_node(g, SD_OP_mul, (struct sd_tensor *[]){a, b}, 2, 2, 1, NULL);
    return sd_graph_add_out(g, node, 0, a->dtype, a->ndim, a->dim);
}

void sd_grad_mul(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                 struct sd_tensor **dx)
{
    struct sd_tensor *a = node->in[0], *b = node->in[1];
    if (a->needs_grad)
        dx[0] = sd_graph_mul(g, dy[0], b);
    if (b->needs_grad)
        dx[1] = sd_graph_reduce_to(g, sd_graph_mul(g, dy[0], a), b);
}

struct sd_tensor *sd_graph_scale(struct sd_graph *g, struct sd_tensor *x, float scale)
{
    if (!x || scale == 1)
        return x;
    struct sd_node *node = sd_graph_node(g, SD_OP_scale, &x, 1, 1, 1, &(struct sd_attr){.scale = scale});
    return sd_graph_add_out(g, node, 0, x->dtype, x->ndim, x->dim);
}

void sd_grad_scale(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                   struct sd_tensor **dx)
{
    dx[0] = sd_graph_scale(g, dy[0], node->attr.scale);
}

struct sd_tensor *sd_graph_reduce_to(struct sd_graph *g, struct sd_tensor *x, const struct sd_tensor *like)
{
    if (!x || !like)
        return NULL;
    int64_t outer, mid, inner;
    if (sd_op_broadcast(x, like, &outer, &mid, &inner))
        return sd_graph_fail(g, SD_OP_reduce_to, "the wanted shape is no block of the given one");
    if (mid == 1)
        return sd_graph_reshape(g, x, like->ndim, like->dim);
    struct sd_node *node = sd_graph_node(g, SD_OP_reduce_to, &x, 1, 1, 1, NULL);
    return sd_graph_add_out(g, node, 0, x->dtype, like->ndim, like->dim);
}

void sd_grad_reduce_to(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                       struct sd_tensor **dx)
{
    const struct sd_tensor *x = node->in[0];
    dx[0] = sd_graph_add(g, sd_graph_fill(g, x->dtype, x->ndim, x->dim, 0), dy[0], 1);
}

struct sd_tensor *sd_graph_act(struct sd_graph *g, struct sd_tensor *x, enum sd_act act)
{
    if (!x || act == SD_ACT_NONE)
        return x;
    struct sd_node *node = sd_graph_node(g, SD_OP_act, &x, 1, 1, 1, &(struct sd_attr){.act = act});
    return sd_graph_add_out(g, node, 0, x->dtype, x->ndim, x->dim);
}

void sd_grad_act(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                 struct sd_tensor **dx)
{
    struct sd_tensor *x = node->in[0];
    struct sd_node *bwd =
        sd_graph_node(g, SD_OP_act_bwd, (struct sd_tensor *[]){dy[0], x}, 2, 2, 1, &node->attr);
    dx[0] = sd_graph_add_out(g, bwd, 0, x->dtype, x->ndim, x->dim);
}

struct sd_tensor *sd_graph_geglu(struct sd_graph *g, struct sd_tensor *x)
{
    if (!x)
        return NULL;
    int64_t dim[SD_MAX_DIMS], width = x->dim[x->ndim - 1];
    if (width % 2)
        return sd_graph_fail(g, SD_OP_geglu, "the last dimension, %lld, is odd", (long long)width);
    memcpy(dim, x->dim, sizeof dim);
    dim[x->ndim - 1] = width / 2;
    struct sd_node *node = sd_graph_node(g, SD_OP_geglu, &x, 1, 1, 1, NULL);
    return sd_graph_add_out(g, node, 0, x->dtype, x->ndim, dim);
}

void sd_grad_geglu(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                   struct sd_tensor **dx)
{
    struct sd_tensor *x = node->in[0];
    struct sd_node *bwd = sd_graph_node(g, SD_OP_geglu_bwd, (struct sd_tensor *[]){dy[0], x}, 2, 2, 1, NULL);
    dx[0] = sd_graph_add_out(g, bwd, 0, x->dtype, x->ndim, x->dim);
}
