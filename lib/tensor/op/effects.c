/* Effects: nodes that write variables. They have no outputs that gradients could flow to. */
#include "tensor/op.h"

bool sd_op_state(const struct sd_tensor *t, enum sd_dtype dtype)
{
    return t && t->node->op == SD_OP_var && t->node->attr.var->state && t->dtype == dtype;
}

int sd_op_once(struct sd_graph *g, enum sd_op op, struct sd_tensor *const *in, int n)
{
    bool *seen = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *seen);
    for (int i = 0; seen && i < n; i++) {
        if (!in[i] || !sd_op_state(in[i], in[i]->dtype))
            continue;
        if (seen[in[i]->id])
            sd_graph_fail(g, op, "a variable is given twice");
        seen[in[i]->id] = true;
    }
    return g->err.code ? -1 : 0;
}

/* Halves are widened as they are added: a cast to f32 before that would only cost memory and a pass. */
static struct sd_tensor *uncast(struct sd_tensor *x)
{
    return x && x->dtype == SD_F32 && x->node->op == SD_OP_cast ? x->node->in[0] : x;
}

/* A node on n pairs of a mutable variable and what goes into it, and one more input. */
static void pairs(struct sd_graph *g, enum sd_op op, int n, struct sd_tensor *const *to,
                  struct sd_tensor *const *from, struct sd_tensor *more)
{
    struct sd_tensor **in = n ? sd_graph_alloc(g, 2 * (size_t)n + 1, sizeof *in) : NULL;
    for (int i = 0; in && i < n; i++) {
        in[2 * i] = to[i];
        in[2 * i + 1] = uncast(from[i]);
        if (!from[i] || !sd_op_state(to[i], SD_F32) || sd_tensor_count(to[i]) != sd_tensor_count(from[i])) {
            sd_graph_fail(g, op, "takes mutable f32 variables and tensors of their shapes");
            return;
        }
    }
    int count = 2 * n + (more != NULL);
    if (!in || sd_op_once(g, op, in, 2 * n))
        return;
    in[2 * n] = more;
    sd_graph_node(g, op, in, count, count, 0, NULL);
}

void sd_graph_accumulate(struct sd_graph *g, int n, struct sd_tensor *const *acc, struct sd_tensor *const *x)
{
    pairs(g, SD_OP_accumulate, n, acc, x, NULL);
}

void sd_graph_ema(struct sd_graph *g, int n, struct sd_tensor *const *shadow, struct sd_tensor *const *param,
                  struct sd_tensor *rate)
{
    if (!rate)
        return;
    if (rate->dtype != SD_F32 || sd_tensor_count(rate) != 1)
        sd_graph_fail(g, SD_OP_ema, "the rate is not one f32");
    else
        pairs(g, SD_OP_ema, n, shadow, param, rate);
}

struct sd_tensor *sd_graph_clip(struct sd_graph *g, struct sd_tensor *const *grads, int n, float max_norm,
                                struct sd_tensor *scale)
{
    struct sd_tensor **in = sd_graph_alloc(g, (size_t)n + 1, sizeof *in);
    if (!in)
        return NULL;
    for (int i = 0; i < n; i++)
        if (grads[i] && grads[i]->dtype != SD_F32)
            return sd_graph_fail(g, SD_OP_clip, "gradient %d is not f32", i);
    if (scale && (scale->dtype != SD_F32 || sd_tensor_count(scale) != 1))
        return sd_graph_fail(g, SD_OP_clip, "the scale is not one f32");
    for (int i = 0; i < n; i++)
        in[i] = grads[i];
    in[n] = scale;
    struct sd_node *node =
        sd_graph_node(g, SD_OP_clip, in, n + 1, n, 1, &(struct sd_attr){.scale = max_norm});
    return sd_graph_add_out(g, node, 0, SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS});
}

void sd_graph_loss_scale(struct sd_graph *g, struct sd_tensor *scale, struct sd_tensor *streak,
                         struct sd_tensor *clip, const struct sd_loss_scaling *scaling)
{
    struct sd_tensor *in[] = {scale, streak, clip};
    if (!sd_op_state(scale, SD_F32) || !sd_op_state(streak, SD_F32) || !clip || sd_tensor_count(scale) != 1 ||
        sd_tensor_count(streak) != 1 || sd_tensor_count(clip) != SD_CLIP_RESULTS)
        sd_graph_fail(g, SD_OP_loss_scale, "takes two mutable f32 variables of one element and clip [3]");
    else if (!sd_op_once(g, SD_OP_loss_scale, in, 2))
        sd_graph_node(g, SD_OP_loss_scale, in, 3, 3, 0, &(struct sd_attr){.scaling = *scaling});
}
