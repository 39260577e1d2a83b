/* Reverse-mode differentiation over the node list. */
#include "tensor/op.h"
#include "tensor/pass.h"

#include <string.h>

/* The pass makes tensors while it walks; grads is by id of the tensors that existed before. */
static void add_grad(struct sd_graph *g, struct sd_tensor **grads, const struct sd_tensor *x,
                     struct sd_tensor *d)
{
    if (!d)
        return;
    struct sd_tensor *have = grads[x->id];
    if (have && have->dtype != d->dtype) { /* one path came in f32, see matmul: the sum is f32 */
        have = sd_graph_cast(g, have, SD_F32);
        d = sd_graph_cast(g, d, SD_F32);
    }
    grads[x->id] = have ? sd_graph_add(g, have, d, 1) : d;
}

static int back_node(struct sd_graph *g, const struct sd_node *node, struct sd_tensor **grads)
{
    bool reached = false, wanted = false;
    struct sd_tensor *dy[4] = {0};
    for (int i = 0; i < node->n_out && i < 4; i++) {
        dy[i] = node->out[i] ? grads[node->out[i]->id] : NULL;
        reached |= dy[i] != NULL;
    }
    for (int i = 0; i < node->n_in; i++)
        wanted |= node->in[i] && node->in[i]->needs_grad;
    if (!reached || !wanted)
        return 0;
    if (!sd_op_info[node->op].grad) {
        sd_graph_fail(g, node->op, "has no gradient");
        return -1;
    }
    struct sd_tensor **dx = sd_graph_alloc(g, (size_t)node->n_in, sizeof *dx);
    if (!dx)
        return -1;
    sd_op_info[node->op].grad(g, node, dy, dx);
    for (int i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->needs_grad)
            add_grad(g, grads, node->in[i], dx[i]);
    return g->err.code ? -1 : 0;
}

int sd_graph_grad(struct sd_graph *g, struct sd_tensor *loss, struct sd_tensor *seed,
                  struct sd_tensor ***grads)
{
    if (!loss || !seed || g->err.code)
        return -1;
    struct sd_tensor **d = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *d);
    if (!d)
        return -1;
    g->n_forward = g->n_nodes;
    d[loss->id] = seed;
    for (int i = g->n_forward; i-- > 0;)
        if (back_node(g, g->nodes[i], d))
            return -1;
    *grads = d;
    return 0;
}
