#include "tensor/graph.h"

static double conv_flops(const struct sd_tensor *y, const struct sd_tensor *w)
{
    return 2.0 * (double)(sd_tensor_count(y) / y->dim[y->ndim - 1]) * (double)sd_tensor_count(w);
}

double sd_node_flops(const struct sd_node *n)
{
    switch (n->op) {
    case SD_OP_matmul: { /* k is the size of a over the rows of y */
        const struct sd_tensor *y = n->out[0];
        int64_t cols = y->dim[y->ndim - 1];
        return 2.0 * (double)sd_tensor_count(n->in[0]) * (double)cols;
    }
    case SD_OP_conv2d:
        return conv_flops(n->out[0], n->in[1]);
    case SD_OP_conv2d_dx:
        return conv_flops(n->in[0], n->in[1]);
    case SD_OP_conv2d_dw:
        return conv_flops(n->in[1], n->out[0]);
    case SD_OP_attention: /* q k^T and p v */
        return 4.0 * (double)sd_tensor_count(n->in[0]) * (double)n->in[1]->dim[1];
    case SD_OP_attention_bwd: /* q k^T again, dp, dv, dq, dk */
        return 10.0 * (double)sd_tensor_count(n->in[1]) * (double)n->in[2]->dim[1];
    default:
        return 0;
    }
}

double sd_graph_flops(const struct sd_graph *g)
{
    double sum = 0;
    for (int i = 0; i < g->n_nodes; i++)
        sum += sd_node_flops(g->nodes[i]);
    return sum;
}
