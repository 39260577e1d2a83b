/* Leaves: inputs, variables and constants. */
#include "base/arena.h"
#include "tensor/op.h"

#include <string.h>

struct sd_tensor *sd_graph_input(struct sd_graph *g, const char *name, enum sd_dtype dtype, int ndim,
                                 const int64_t *dim)
{
    struct sd_node *node = sd_graph_node(g, SD_OP_input, NULL, 0, 0, 1, NULL);
    struct sd_tensor *t = sd_graph_add_out(g, node, 0, dtype, ndim, dim);
    if (t)
        t->name = sd_arena_strdup(g->arena, name);
    return t;
}

struct sd_tensor *sd_graph_var(struct sd_graph *g, struct sd_var *var, enum sd_dtype dtype)
{
    for (int i = 0; i < g->n_nodes; i++) {
        struct sd_node *n = g->nodes[i];
        if (n->op == SD_OP_var && n->attr.var == var && n->out[0]->dtype == dtype)
            return n->out[0];
    }
    if (var->state && dtype != var->dtype)
        return sd_graph_fail(g, SD_OP_var, "%s is trained as %s, use a cast for %s", var->name,
                             sd_dtype_name(var->dtype), sd_dtype_name(dtype));
    struct sd_node *node = sd_graph_node(g, SD_OP_var, NULL, 0, 0, 1, &(struct sd_attr){.var = var});
    struct sd_tensor *t = sd_graph_add_out(g, node, 0, dtype, var->ndim, var->dim);
    if (t) {
        t->name = var->name;
        t->needs_grad = var->trainable;
    }
    return t;
}

struct sd_tensor *sd_graph_fill(struct sd_graph *g, enum sd_dtype dtype, int ndim, const int64_t *dim,
                                float value)
{
    struct sd_node *node = sd_graph_node(g, SD_OP_fill, NULL, 0, 0, 1, &(struct sd_attr){.scale = value});
    return sd_graph_add_out(g, node, 0, dtype, ndim, dim);
}
