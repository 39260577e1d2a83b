/* Gradient checkpointing: copies of forward nodes, placed just before the backward nodes that need them.
 *
 * Recomputation stops at kept tensors, so between two of them lies one segment; since the backward walks the
 * segments from the last to the first, the copies of one segment die before those of the next are made. */
#include "tensor/op.h"
#include "tensor/pass.h"

#include <stdlib.h>
#include <string.h>

struct pass {
    struct sd_graph *g;
    struct sd_tensor **copy; /* by id of the original tensor */
    int n_original;
    const bool *forward; /* by tensor id: made by a forward node */
};

static bool is_leaf(const struct sd_tensor *t)
{
    enum sd_op op = t->node->op;
    return op == SD_OP_input || op == SD_OP_var;
}

/* A reshape of something stored is stored. */
static bool stored(const struct sd_tensor *t)
{
    while (!t->keep && !t->output && t->node->op == SD_OP_reshape)
        t = t->node->in[0];
    return t->keep || t->output || is_leaf(t);
}

static struct sd_tensor *recompute(struct pass *p, struct sd_tensor *t);

static int copy_node(struct pass *p, const struct sd_node *old)
{
    struct sd_tensor **in = sd_graph_alloc(p->g, (size_t)old->n_in, sizeof *in);
    if (!in)
        return -1;
    for (int i = 0; i < old->n_in; i++)
        in[i] = old->in[i] ? recompute(p, old->in[i]) : NULL;
    struct sd_node *node = sd_graph_node(p->g, old->op, in, old->n_in, 0, old->n_out, &old->attr);
    for (int i = 0; i < old->n_out; i++)
        if (old->out[i])
            p->copy[old->out[i]->id] =
                sd_graph_add_out(p->g, node, i, old->out[i]->dtype, old->out[i]->ndim, old->out[i]->dim);
    return p->g->err.code ? -1 : 0;
}

static struct sd_tensor *recompute(struct pass *p, struct sd_tensor *t)
{
    if (t->id >= p->n_original || !p->forward[t->id] || stored(t))
        return t;
    if (!p->copy[t->id] && copy_node(p, t->node))
        return t;
    return p->copy[t->id];
}

static void rewrite(struct pass *p, struct sd_node **nodes, int n)
{
    struct sd_graph *g = p->g;
    g->n_nodes = 0;
    for (int i = 0; i < n; i++) {
        struct sd_node *node = nodes[i];
        if (i >= g->n_forward)
            for (int k = 0; k < node->n_in; k++)
                if (node->in[k])
                    node->in[k] = recompute(p, node->in[k]); /* appends the copies before the node itself */
        if (g->err.code)
            return;
        if (g->n_nodes == g->cap_nodes) { /* room comes from sd_graph_node's growth; one more slot here */
            struct sd_node **more = realloc(g->nodes, ((size_t)g->cap_nodes * 2 + 1) * sizeof *more);
            if (!more) {
                sd_err_memory(&g->err, (size_t)g->cap_nodes * 2 * sizeof *more);
                return;
            }
            g->nodes = more;
            g->cap_nodes = g->cap_nodes * 2 + 1;
        }
        g->nodes[g->n_nodes++] = node;
    }
}

int sd_graph_checkpoint(struct sd_graph *g)
{
    if (g->err.code || g->n_forward < 0)
        return -1;
    int n = g->n_nodes;
    struct pass p = {.g = g, .n_original = g->n_tensors};
    struct sd_node **nodes = sd_graph_alloc(g, (size_t)n, sizeof *nodes);
    bool *forward = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *forward);
    p.copy = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *p.copy);
    if (!nodes || !forward || !p.copy)
        return -1;
    memcpy(nodes, g->nodes, (size_t)n * sizeof *nodes);
    for (int i = 0; i < g->n_forward; i++)
        for (int k = 0; k < nodes[i]->n_out; k++)
            if (nodes[i]->out[k])
                forward[nodes[i]->out[k]->id] = true;
    p.forward = forward;
    rewrite(&p, nodes, n);
    return g->err.code ? -1 : sd_graph_prune(g);
}
