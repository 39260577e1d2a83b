/* Passes over graphs: gradients, checkpointing, fusion, verification. Each leaves a graph that verifies. */
#ifndef SD_TENSOR_PASS_H
#define SD_TENSOR_PASS_H

#include "tensor/graph.h"

/* Adds the backward nodes of the scalar loss, its gradient being seed [1] f32. Afterwards sd_graph_grad_of tells the
 * gradient of any tensor that needs one (NULL: none reached it). Reverse-mode differentiation, one walk. */
int sd_graph_grad(struct sd_graph *g, struct sd_tensor *loss, struct sd_tensor *seed, struct sd_tensor ***grads);
/* *grads is an array by tensor id, owned by the graph, of n_tensors entries at the time of the call. */

/* Gradient checkpointing (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016) as a graph transform:
 * forward tensors that backward nodes use are recomputed just before their first use, from the nearest tensors that are
 * kept (sd_graph_keep), inputs and variables. The numbers stay the same to the bit. Call after the effects were added. */
int sd_graph_checkpoint(struct sd_graph *g);

/* Rewrites add(matmul | conv2d, residual) into the product's acc input, and act(group_norm) into its act. */
int sd_graph_fuse(struct sd_graph *g);

/* Removes nodes whose results nobody uses. */
int sd_graph_prune(struct sd_graph *g);

/* Checks that every input is made before it is used, by the graph's own nodes, with shapes the op accepts. */
int sd_graph_verify(const struct sd_graph *g, struct sd_err *err);

#endif
