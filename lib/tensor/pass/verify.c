#include "tensor/op.h"
#include "tensor/pass.h"

#include <stdlib.h>

static int verify_node(const struct sd_node *n, const bool *made, struct sd_err *err)
{
    const char *op = sd_op_name(n->op);
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] && !made[n->in[k]->id])
            return sd_err_set(err, SD_ERR_DATA, "graph: input %d of %s is used before it is made", k, op);
    for (int k = 0; k < n->n_out; k++)
        if (n->out[k] && (n->out[k]->node != n || n->out[k]->index != k))
            return sd_err_set(err, SD_ERR_DATA, "graph: output %d of %s belongs to another node", k, op);
    if (n->op == SD_OP_reshape && sd_tensor_bytes(n->in[0]) != sd_tensor_bytes(n->out[0]))
        return sd_err_set(err, SD_ERR_DATA, "graph: a reshape changes the size");
    bool product = n->op == SD_OP_matmul || n->op == SD_OP_conv2d;
    if (product && n->in[3] &&
        (sd_tensor_count(n->in[3]) != sd_tensor_count(n->out[0]) || n->in[3]->dtype != n->out[0]->dtype))
        return sd_err_set(err, SD_ERR_DATA, "graph: %s adds to a tensor of another size or type", op);
    return 0;
}

int sd_graph_verify(const struct sd_graph *g, struct sd_err *err)
{
    if (sd_graph_error(g, err))
        return -1;
    bool *made = calloc((size_t)g->n_tensors + 1, sizeof *made);
    if (!made)
        return sd_err_memory(err, (size_t)g->n_tensors);
    int bad = 0;
    for (int i = 0; i < g->n_nodes && !bad; i++) {
        bad = verify_node(g->nodes[i], made, err);
        for (int k = 0; k < g->nodes[i]->n_out; k++)
            if (g->nodes[i]->out[k])
                made[g->nodes[i]->out[k]->id] = true;
    }
    free(made);
    return bad;
}
