/* Passes over graphs: gradients, checkpointing, fusion, verification. Each leaves a graph that verifies. */
#ifndef SD_TENSOR_PASS_H
#define SD_TENSOR_PASS_H

#include "tensor/graph.h"

/* Adds the backward nodes of the scalar loss, its gradient being seed [1] f32: reverse-mode differentiation,
 * one walk. *grads becomes an array by tensor id, owned by the graph, with one entry for each tensor that
 * existed at the call: its gradient, or NULL where none reached it. */
int sd_graph_grad(struct sd_graph *g, struct sd_tensor *loss, struct sd_tensor *seed,
                  struct sd_tensor ***grads);

/* Gradient checkpointing (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016) as a graph
 * transform: forward tensors that backward nodes use are recomputed just before their first use, from the
 * nearest tensors that are kept (sd_graph_keep), inputs and variables. The numbers stay the same to the bit.
 * Call after the effects were added and sums were fused: what is recomputed is then what was computed. */
int sd_graph_checkpoint(struct sd_graph *g);

/* Rewrites add(matmul | conv2d, residual) into the product's acc input: a sum that costs no pass over memory.
 */
int sd_graph_fuse(struct sd_graph *g);

/* Removes nodes whose results nobody uses. */
int sd_graph_prune(struct sd_graph *g);

/* Checks that every input is made before it is used, by the graph's own nodes, with shapes the op accepts. */
int sd_graph_verify(const struct sd_graph *g, struct sd_err *err);

#endif
