/* What lib/tensor/op/ tells about each op beside its builder: its gradient. For the passes in lib/tensor
 * only. */
#ifndef SD_TENSOR_OP_H
#define SD_TENSOR_OP_H

#include "tensor/graph.h"

/* Adds the nodes that turn the gradients dy of the node's outputs (NULL: not needed) into gradients dx of its
 * inputs; dx[i] is set only where node->in[i]->needs_grad. Errors stay in the graph. */
typedef void sd_grad_rule(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                          struct sd_tensor **dx);

struct sd_op_info {
    const char *name, *formula;
    unsigned inplace;   /* bit i: out[0] may share memory with in[i] */
    sd_grad_rule *grad; /* NULL: not differentiable */
};

extern const struct sd_op_info sd_op_info[SD_OP_COUNT];

/* Views a as [outer, mid, inner] such that b is [outer, 1, inner]; -1 when b does not broadcast to a that
 * way. */
int sd_op_broadcast(const struct sd_tensor *a, const struct sd_tensor *b, int64_t *outer, int64_t *mid,
                    int64_t *inner);

/* Whether a tensor is a variable of this type that nodes may write. */
bool sd_op_state(const struct sd_tensor *t, enum sd_dtype dtype);
/* The variables among a node's inputs are written by as many threads as a device has: each must be there
 * once. -1, and the graph's error, if not. */
int sd_op_once(struct sd_graph *g, enum sd_op op, struct sd_tensor *const *in, int n);

/* Gradient rules that exist, defined beside their builders in lib/tensor/op/. */
#define GRAD(name) sd_grad_rule sd_grad_##name;
GRAD(reshape)
GRAD(cast)
GRAD(concat)
GRAD(slice)
GRAD(pad_channels)
GRAD(upsample)
GRAD(add)
GRAD(mul)
GRAD(scale)
GRAD(act)
GRAD(geglu)
GRAD(reduce_to)
GRAD(matmul)
GRAD(conv2d)
GRAD(group_norm)
GRAD(layer_norm)
GRAD(attention)
GRAD(embedding)
GRAD(loss)
#undef GRAD

#endif
