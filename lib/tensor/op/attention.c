/* Multi-head attention that never stores its score matrix; the log-sum-exp of each row is kept for the
 * backward. */
#include "tensor/op.h"

struct sd_tensor *sd_graph_attention(struct sd_graph *g, struct sd_tensor *q, struct sd_tensor *k,
                                     struct sd_tensor *v, int64_t heads, float scale, bool causal)
{
    if (!q || !k || !v)
        return NULL;
    if (q->ndim != 3 || k->ndim != 3 || !sd_tensor_same_shape(k, v) || q->dim[0] != k->dim[0] ||
        q->dim[2] != k->dim[2] || heads < 1 || q->dim[2] % heads || q->dtype != k->dtype ||
        q->dtype != v->dtype)
        return sd_graph_fail(g, SD_OP_attention,
                             "takes q [N,T,C], k and v [N,S,C] of one type, C divisible by %lld heads",
                             (long long)heads);
    struct sd_attr attr = {.heads = heads, .scale = scale, .causal = causal};
    struct sd_node *node = sd_graph_node(g, SD_OP_attention, (struct sd_tensor *[]){q, k, v}, 3, 3, 2, &attr);
    sd_graph_add_out(g, node, 1, SD_F32, 3, (int64_t[]){q->dim[0], heads, q->dim[1]});
    return sd_graph_add_out(g, node, 0, q->dtype, 3, q->dim);
}

void sd_grad_attention(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                       struct sd_tensor **dx)
{
    struct sd_tensor *d = sd_graph_cast(g, dy[0], node->out[0]->dtype);
    struct sd_tensor *in[] = {d, node->in[0], node->in[1], node->in[2], node->out[0], node->out[1]};
    struct sd_node *bwd = sd_graph_node(g, SD_OP_attention_bwd, in, 6, 6, 3, &node->attr);
    for (int i = 0; i < 3; i++)
        if (node->in[i]->needs_grad)
            dx[i] = sd_graph_add_out(g, bwd, i, node->in[i]->dtype, 3, node->in[i]->dim);
}
