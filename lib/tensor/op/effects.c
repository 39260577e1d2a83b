/* Effects: nodes that write variables. They have no outputs that gradients could flow to. */
#include "tensor/op.h"

static bool writable(const struct sd_tensor *t)
{
    return t && t->node->op == SD_OP_var && t->node->attr.var->state && t->dtype == SD_F32;
}

/* The variables among a node's inputs are written by as many threads as a device has: each must be there
 * once. */
static int check_once(struct sd_graph *g, enum sd_op op, struct sd_tensor *const *in, int n)
{
    bool *seen = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *seen);
    for (int i = 0; seen && i < n; i++) {
        if (!writable(in[i]))
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
        if (!from[i] || !writable(to[i]) || sd_tensor_count(to[i]) != sd_tensor_count(from[i])) {
            sd_graph_fail(g, op, "takes mutable f32 variables and tensors of their shapes");
            return;
        }
    }
    int count = 2 * n + (more != NULL);
    if (!in || check_once(g, op, in, 2 * n))
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

/* A node that steps n parameters, each with `each` variables of one shape; hyper has `width` numbers a row.
 */
static void update(struct sd_graph *g, enum sd_op op, int n, int each, struct sd_tensor *const *vars,
                   struct sd_tensor *clip, struct sd_tensor *hyper, int width)
{
    int count = each * n;
    struct sd_tensor **in = n ? sd_graph_alloc(g, (size_t)count + 2, sizeof *in) : NULL;
    if (!in)
        return;
    for (int i = 0; i < count; i++) {
        in[i] = vars[i];
        if (!writable(vars[i]) || sd_tensor_count(vars[i]) != sd_tensor_count(in[i - i % each])) {
            sd_graph_fail(g, op, "takes %d mutable f32 variables of one shape", each);
            return;
        }
    }
    in[count] = clip;
    in[count + 1] = hyper;
    if (!clip || !hyper || sd_tensor_count(clip) != SD_CLIP_RESULTS ||
        sd_tensor_count(hyper) != (int64_t)n * width)
        sd_graph_fail(g, op, "takes clip [3] and hyper [%d,%d]", n, width);
    if (!check_once(g, op, in, count))
        sd_graph_node(g, op, in, count + 2, count + 2, 0, NULL);
}

/* The structs of the interface are these pointers in a row. */
_Static_assert(sizeof(struct sd_adamw_tensors) == 4 * sizeof(struct sd_tensor *) &&
                   sizeof(struct sd_momentum_tensors) == 3 * sizeof(struct sd_tensor *),
               "no gaps");

void sd_graph_adamw(struct sd_graph *g, int n, const struct sd_adamw_tensors *t, struct sd_tensor *clip,
                    struct sd_tensor *hyper)
{
    update(g, SD_OP_adamw, n, 4, (struct sd_tensor *const *)t, clip, hyper, SD_ADAMW_HYPER);
}

void sd_graph_lion(struct sd_graph *g, int n, const struct sd_momentum_tensors *t, struct sd_tensor *clip,
                   struct sd_tensor *hyper)
{
    update(g, SD_OP_lion, n, 3, (struct sd_tensor *const *)t, clip, hyper, SD_LION_HYPER);
}

void sd_graph_sgd(struct sd_graph *g, int n, const struct sd_momentum_tensors *t, struct sd_tensor *clip,
                  struct sd_tensor *hyper)
{
    update(g, SD_OP_sgd, n, 3, (struct sd_tensor *const *)t, clip, hyper, SD_SGD_HYPER);
}

void sd_graph_loss_scale(struct sd_graph *g, struct sd_tensor *scale, struct sd_tensor *streak,
                         struct sd_tensor *clip, const struct sd_loss_scaling *scaling)
{
    struct sd_tensor *in[] = {scale, streak, clip};
    if (!writable(scale) || !writable(streak) || !clip || sd_tensor_count(scale) != 1 ||
        sd_tensor_count(streak) != 1 || sd_tensor_count(clip) != SD_CLIP_RESULTS)
        sd_graph_fail(g, SD_OP_loss_scale, "takes two mutable f32 variables of one element and clip [3]");
    else if (!check_once(g, SD_OP_loss_scale, in, 2))
        sd_graph_node(g, SD_OP_loss_scale, in, 3, 3, 0, &(struct sd_attr){.scaling = *scaling});
}
