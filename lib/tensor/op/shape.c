/* Ops that move elements: reshape, cast, concat, slice, pad_channels, upsample, assign. */
#include "tensor/op.h"

#include <string.h>

static struct sd_tensor *unary(struct sd_graph *g, enum sd_op op, struct sd_tensor *x,
                               const struct sd_attr *attr, enum sd_dtype dtype, int ndim, const int64_t *dim)
{
    struct sd_node *node = sd_graph_node(g, op, &x, 1, 1, 1, attr);
    return sd_graph_add_out(g, node, 0, dtype, ndim, dim);
}

struct sd_tensor *sd_graph_reshape(struct sd_graph *g, struct sd_tensor *x, int ndim, const int64_t *dim)
{
    if (!x)
        return NULL;
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= dim[i];
    if (n != sd_tensor_count(x))
        return sd_graph_fail(g, SD_OP_reshape, "%lld elements cannot become %lld",
                             (long long)sd_tensor_count(x), (long long)n);
    return unary(g, SD_OP_reshape, x, NULL, x->dtype, ndim, dim);
}

void sd_grad_reshape(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                     struct sd_tensor **dx)
{
    dx[0] = sd_graph_reshape(g, dy[0], node->in[0]->ndim, node->in[0]->dim);
}

static bool is_float(enum sd_dtype t)
{
    return t == SD_F32 || t == SD_BF16 || t == SD_F16;
}

struct sd_tensor *sd_graph_cast(struct sd_graph *g, struct sd_tensor *x, enum sd_dtype dtype)
{
    if (!x || x->dtype == dtype)
        return x;
    if (!is_float(x->dtype) || !is_float(dtype))
        return sd_graph_fail(g, SD_OP_cast, "only float types are cast, not %s to %s",
                             sd_dtype_name(x->dtype), sd_dtype_name(dtype));
    return unary(g, SD_OP_cast, x, NULL, dtype, x->ndim, x->dim);
}

void sd_grad_cast(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                  struct sd_tensor **dx)
{
    dx[0] = sd_graph_cast(g, dy[0], node->in[0]->dtype);
}

struct sd_tensor *sd_graph_concat(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b)
{
    if (!a || !b)
        return NULL;
    int last = a->ndim - 1;
    if (a->ndim != b->ndim || a->dtype != b->dtype || memcmp(a->dim, b->dim, (size_t)last * sizeof *a->dim))
        return sd_graph_fail(g, SD_OP_concat, "the operands differ in more than the last dimension");
    int64_t dim[SD_MAX_DIMS];
    memcpy(dim, a->dim, sizeof dim);
    dim[last] += b->dim[last];
    struct sd_node *node = sd_graph_node(g, SD_OP_concat, (struct sd_tensor *[]){a, b}, 2, 2, 1, NULL);
    return sd_graph_add_out(g, node, 0, a->dtype, a->ndim, dim);
}

void sd_grad_concat(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                    struct sd_tensor **dx)
{
    int64_t at = 0;
    for (int i = 0; i < 2; i++) {
        struct sd_tensor *x = node->in[i];
        int64_t len = x->dim[x->ndim - 1];
        if (x->needs_grad)
            dx[i] = sd_graph_slice(g, dy[0], at, len);
        at += len;
    }
}

struct sd_tensor *sd_graph_slice(struct sd_graph *g, struct sd_tensor *x, int64_t offset, int64_t len)
{
    if (!x)
        return NULL;
    int64_t dim[SD_MAX_DIMS], width = x->dim[x->ndim - 1];
    if (offset < 0 || len < 1 || offset > width - len)
        return sd_graph_fail(g, SD_OP_slice, "%lld channels from %lld do not fit in %lld", (long long)len,
                             (long long)offset, (long long)width);
    memcpy(dim, x->dim, sizeof dim);
    dim[x->ndim - 1] = len;
    return unary(g, SD_OP_slice, x, &(struct sd_attr){.offset = offset}, x->dtype, x->ndim, dim);
}

void sd_grad_slice(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                   struct sd_tensor **dx)
{
    const struct sd_tensor *x = node->in[0];
    dx[0] = sd_graph_pad_channels(g, dy[0], node->attr.offset, x->dim[x->ndim - 1]);
}

struct sd_tensor *sd_graph_pad_channels(struct sd_graph *g, struct sd_tensor *x, int64_t offset, int64_t len)
{
    if (!x)
        return NULL;
    int64_t dim[SD_MAX_DIMS], width = x->dim[x->ndim - 1];
    if (offset < 0 || len < width || offset > len - width)
        return sd_graph_fail(g, SD_OP_pad_channels, "%lld channels at %lld do not fit in %lld",
                             (long long)width, (long long)offset, (long long)len);
    memcpy(dim, x->dim, sizeof dim);
    dim[x->ndim - 1] = len;
    return unary(g, SD_OP_pad_channels, x, &(struct sd_attr){.offset = offset}, x->dtype, x->ndim, dim);
}

void sd_grad_pad_channels(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                          struct sd_tensor **dx)
{
    const struct sd_tensor *x = node->in[0];
    dx[0] = sd_graph_slice(g, dy[0], node->attr.offset, x->dim[x->ndim - 1]);
}

struct sd_tensor *sd_graph_upsample(struct sd_graph *g, struct sd_tensor *x, int64_t height, int64_t width)
{
    if (!x)
        return NULL;
    if (x->ndim != 4 || height < x->dim[1] || width < x->dim[2])
        return sd_graph_fail(g, SD_OP_upsample, "takes [N,H,W,C] to a larger size");
    return unary(g, SD_OP_upsample, x, NULL, x->dtype, 4, (int64_t[]){x->dim[0], height, width, x->dim[3]});
}

void sd_grad_upsample(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                      struct sd_tensor **dx)
{
    const struct sd_tensor *x = node->in[0];
    dx[0] = unary(g, SD_OP_upsample_bwd, dy[0], NULL, x->dtype, 4, x->dim);
}

void sd_graph_assign(struct sd_graph *g, struct sd_tensor *var, struct sd_tensor *x)
{
    if (!var || !x)
        return;
    if (var->node->op != SD_OP_var || !var->node->attr.var->state || var == x || x->dtype != var->dtype ||
        sd_tensor_count(x) != sd_tensor_count(var))
        sd_graph_fail(g, SD_OP_assign, "takes a mutable variable and another tensor of its type and size");
    else
        sd_graph_node(g, SD_OP_assign, (struct sd_tensor *[]){var, x}, 2, 2, 0, NULL);
}
