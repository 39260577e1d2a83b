/* Group norm (Wu and He, 2018) with an optional SiLU, and layer norm (Ba et al., 2016). */
#include "tensor/op.h"

static int check_affine(struct sd_graph *g, enum sd_op op, struct sd_tensor *x, struct sd_tensor *w,
                        struct sd_tensor *b)
{
    if (!x || !w || !b)
        return -1;
    int64_t c = x->dim[x->ndim - 1];
    if (sd_tensor_count(w) == c && sd_tensor_count(b) == c && w->dtype == SD_F32 && b->dtype == SD_F32)
        return 0;
    sd_graph_fail(g, op, "weight and bias are not [%lld] f32", (long long)c);
    return -1;
}

struct sd_tensor *sd_graph_group_norm(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *weight,
                                      struct sd_tensor *bias, int64_t groups, float eps, enum sd_act act)
{
    if (check_affine(g, SD_OP_group_norm, x, weight, bias))
        return NULL;
    if (groups < 1 || x->dim[x->ndim - 1] % groups || (act != SD_ACT_NONE && act != SD_ACT_SILU))
        return sd_graph_fail(g, SD_OP_group_norm,
                             "%lld channels do not make %lld groups, or the activation is not silu",
                             (long long)x->dim[x->ndim - 1], (long long)groups);
    struct sd_attr attr = {.groups = groups, .eps = eps, .act = act};
    struct sd_node *node =
        sd_graph_node(g, SD_OP_group_norm, (struct sd_tensor *[]){x, weight, bias}, 3, 3, 2, &attr);
    sd_graph_add_out(g, node, 1, SD_F32, 3, (int64_t[]){x->dim[0], groups, 2});
    return sd_graph_add_out(g, node, 0, x->dtype, x->ndim, x->dim);
}

/* Outputs dx, dw, db of a norm's backward node, only those that are wanted. */
static void norm_outs(struct sd_graph *g, const struct sd_node *node, struct sd_node *bwd,
                      struct sd_tensor **dx)
{
    for (int i = 0; i < 3; i++) {
        const struct sd_tensor *x = node->in[i];
        if (x->needs_grad)
            dx[i] = sd_graph_add_out(g, bwd, i, x->dtype, x->ndim, x->dim);
    }
}

void sd_grad_group_norm(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                        struct sd_tensor **dx)
{
    struct sd_tensor *in[] = {dy[0], node->in[0], node->in[1], node->in[2], node->out[1]};
    norm_outs(g, node, sd_graph_node(g, SD_OP_group_norm_bwd, in, 5, 5, 3, &node->attr), dx);
}

struct sd_tensor *sd_graph_layer_norm(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *weight,
                                      struct sd_tensor *bias, float eps)
{
    if (check_affine(g, SD_OP_layer_norm, x, weight, bias))
        return NULL;
    struct sd_node *node = sd_graph_node(g, SD_OP_layer_norm, (struct sd_tensor *[]){x, weight, bias}, 3, 3,
                                         2, &(struct sd_attr){.eps = eps});
    sd_graph_add_out(g, node, 1, SD_F32, 2, (int64_t[]){sd_tensor_count(x) / x->dim[x->ndim - 1], 2});
    return sd_graph_add_out(g, node, 0, x->dtype, x->ndim, x->dim);
}

void sd_grad_layer_norm(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                        struct sd_tensor **dx)
{
    struct sd_tensor *in[] = {dy[0], node->in[0], node->in[1], node->out[1]};
    norm_outs(g, node, sd_graph_node(g, SD_OP_layer_norm_bwd, in, 4, 4, 3, &node->attr), dx);
}
