/* conv2d, NHWC activations with PyTorch's [O,C,kh,kw] weights, and its two gradients. */
#include "tensor/op.h"

struct sd_tensor *sd_graph_conv2d(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *w,
                                  struct sd_tensor *bias, const struct sd_conv *conv)
{
    if (!x || !w)
        return NULL;
    if (x->ndim != 4 || w->ndim != 4 || x->dim[3] != w->dim[1] || x->dtype != w->dtype)
        return sd_graph_fail(g, SD_OP_conv2d, "[N,H,W,%lld] %s and [O,%lld,kh,kw] %s do not fit",
                             (long long)x->dim[x->ndim - 1], sd_dtype_name(x->dtype), (long long)w->dim[1],
                             sd_dtype_name(w->dtype));
    if (bias && (sd_tensor_count(bias) != w->dim[0] || bias->dtype != SD_F32))
        return sd_graph_fail(g, SD_OP_conv2d, "the bias is not [%lld] f32", (long long)w->dim[0]);
    int64_t h = x->dim[1] + conv->pad_top + conv->pad_bottom - w->dim[2];
    int64_t v = x->dim[2] + conv->pad_left + conv->pad_right - w->dim[3];
    if (conv->stride < 1 || h < 0 || v < 0)
        return sd_graph_fail(g, SD_OP_conv2d, "a %lldx%lld picture is too small for the filter",
                             (long long)x->dim[2], (long long)x->dim[1]);
    struct sd_attr attr = {.stride = conv->stride,
                           .pad_top = conv->pad_top,
                           .pad_left = conv->pad_left,
                           .pad_bottom = conv->pad_bottom,
                           .pad_right = conv->pad_right,
                           .scale = 1};
    struct sd_node *node =
        sd_graph_node(g, SD_OP_conv2d, (struct sd_tensor *[]){x, w, bias, NULL}, 4, 2, 1, &attr);
    return sd_graph_add_out(g, node, 0, x->dtype, 4,
                            (int64_t[]){x->dim[0], h / conv->stride + 1, v / conv->stride + 1, w->dim[0]});
}

void sd_grad_conv2d(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                    struct sd_tensor **dx)
{
    struct sd_tensor *x = node->in[0], *w = node->in[1], *bias = node->in[2], *acc = node->in[3];
    struct sd_tensor *d = sd_graph_cast(g, dy[0], x->dtype);
    if (x->needs_grad) {
        struct sd_node *n =
            sd_graph_node(g, SD_OP_conv2d_dx, (struct sd_tensor *[]){d, w}, 2, 2, 1, &node->attr);
        dx[0] = sd_graph_add_out(g, n, 0, x->dtype, 4, x->dim);
    }
    if (w->needs_grad) {
        struct sd_node *n =
            sd_graph_node(g, SD_OP_conv2d_dw, (struct sd_tensor *[]){x, d}, 2, 2, 1, &node->attr);
        dx[1] = sd_graph_cast(g, sd_graph_add_out(g, n, 0, SD_F32, 4, w->dim),
                              w->node->op == SD_OP_cast ? SD_F32 : w->dtype);
    }
    if (bias && bias->needs_grad)
        dx[2] = sd_graph_reduce_to(g, sd_graph_cast(g, dy[0], SD_F32), bias);
    if (acc && acc->needs_grad)
        dx[3] = dy[0];
}
