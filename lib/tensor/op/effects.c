/* Effects: nodes that write variables. They have no outputs that gradients could flow to. */
#include "tensor/op.h"

static bool writable(const struct sd_tensor *t)
{
    return t && t->node->op == SD_OP_var && t->node->attr.var->state && t->dtype == SD_F32;
}

void sd_graph_accumulate(struct sd_graph *g, struct sd_tensor *acc, struct sd_tensor *x)
{
    x = sd_graph_cast(g, x, SD_F32);
    if (!x)
        return;
    if (!writable(acc) || sd_tensor_count(acc) != sd_tensor_count(x))
        sd_graph_fail(g, SD_OP_accumulate, "takes a mutable f32 variable and a tensor of its shape");
    sd_graph_node(g, SD_OP_accumulate, (struct sd_tensor *[]){acc, x}, 2, 2, 0, NULL);
}

struct sd_tensor *sd_graph_clip(struct sd_graph *g, struct sd_tensor **grads, int n, float max_norm)
{
    for (int i = 0; i < n; i++)
        if (grads[i] && grads[i]->dtype != SD_F32)
            return sd_graph_fail(g, SD_OP_clip, "gradient %d is not f32", i);
    struct sd_node *node = sd_graph_node(g, SD_OP_clip, grads, n, n, 1, &(struct sd_attr){.scale = max_norm});
    return sd_graph_add_out(g, node, 0, SD_F32, 1, (int64_t[]){2});
}

void sd_graph_adamw(struct sd_graph *g, struct sd_tensor *param, struct sd_tensor *grad, struct sd_tensor *m,
                    struct sd_tensor *v, struct sd_tensor *clip, struct sd_tensor *hyper)
{
    struct sd_tensor *in[] = {param, grad, m, v, clip, hyper};
    for (int i = 0; i < 4; i++)
        if (!writable(in[i]) || sd_tensor_count(in[i]) != sd_tensor_count(param)) {
            sd_graph_fail(g, SD_OP_adamw, "takes four mutable f32 variables of one shape");
            return;
        }
    if (!clip || !hyper || sd_tensor_count(clip) != 2 || sd_tensor_count(hyper) != SD_ADAMW_HYPER) {
        sd_graph_fail(g, SD_OP_adamw, "takes clip [2] and hyper [8]");
        return;
    }
    sd_graph_node(g, SD_OP_adamw, in, 6, 6, 0, NULL);
}
