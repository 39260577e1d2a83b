#include "tensor/op.h"
#include "tensor/pass.h"

static bool is_effect(const struct sd_node *n)
{
    switch (n->op) {
    case SD_OP_assign:
    case SD_OP_accumulate:
    case SD_OP_step:
    case SD_OP_adafactor:
    case SD_OP_adapt_step:
    case SD_OP_adapt:
    case SD_OP_loss_scale:
    case SD_OP_ema:
        return true;
    default:
        return false;
    }
}

int sd_graph_prune(struct sd_graph *g)
{
    if (g->err.code)
        return -1;
    bool *used = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *used);
    bool *live = sd_graph_alloc(g, (size_t)g->n_nodes, sizeof *live);
    if (!used || !live)
        return -1;
    for (int i = g->n_nodes; i-- > 0;) {
        const struct sd_node *n = g->nodes[i];
        live[i] = is_effect(n) || n->op == SD_OP_input;
        for (int k = 0; k < n->n_out; k++)
            live[i] |= n->out[k] && (n->out[k]->output || used[n->out[k]->id]);
        if (live[i])
            for (int k = 0; k < n->n_in; k++)
                if (n->in[k])
                    used[n->in[k]->id] = true;
    }
    int kept = 0, forward = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (!live[i])
            continue;
        g->nodes[kept++] = g->nodes[i];
        forward += i < g->n_forward;
    }
    g->n_nodes = kept;
    if (g->n_forward >= 0)
        g->n_forward = forward;
    return 0;
}
