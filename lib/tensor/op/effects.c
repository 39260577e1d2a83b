/* Effects: nodes that write variables. They have no outputs that gradients could flow to. */
#include "tensor/op.h"

static bool is_state(const struct sd_tensor *t, enum sd_dtype dtype)
{
    return t && t->node->op == SD_OP_var && t->node->attr.var->state && t->dtype == dtype;
}

static bool writable(const struct sd_tensor *t)
{
    return is_state(t, SD_F32);
}

/* The variables among a node's inputs are written by as many threads as a device has: each must be there
 * once. */
static int check_once(struct sd_graph *g, enum sd_op op, struct sd_tensor *const *in, int n)
{
    bool *seen = sd_graph_alloc(g, (size_t)g->n_tensors, sizeof *seen);
    for (int i = 0; seen && i < n; i++) {
        if (!is_state(in[i], in[i]->dtype))
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

/* Whether input number k of a parameter's is what it should be; two for each moment where those are codes. */
static bool fits(struct sd_tensor *const *in, int k, int moments, bool codes)
{
    int64_t n = in[0] ? sd_tensor_count(in[0]) : 0;
    if (k >= 2 + moments)
        return writable(in[k]) && sd_tensor_count(in[k]) == (n + SD_QUANT_BLOCK - 1) / SD_QUANT_BLOCK;
    return is_state(in[k], codes && k >= 2 ? SD_U8 : SD_F32) && sd_tensor_count(in[k]) == n;
}

/* A node that steps n parameters, each with so many moments; hyper has `width` numbers a row. */
static void update(struct sd_graph *g, enum sd_op op, int n, int moments, int width,
                   struct sd_tensor *const *vars, struct sd_tensor *clip, struct sd_tensor *hyper,
                   struct sd_tensor *maps)
{
    int each = 2 + moments * (maps ? 2 : 1), count = each * n;
    struct sd_tensor **in = n ? sd_graph_alloc(g, (size_t)count + 3, sizeof *in) : NULL;
    if (!in)
        return;
    for (int i = 0; i < count; i++) {
        in[i] = vars[i];
        if (!fits(vars + i - i % each, i % each, moments, maps)) {
            sd_graph_fail(g, op, "takes mutable variables: f32 of one shape%s",
                          maps ? ", but moments u8, and f32 for their blocks" : "");
            return;
        }
    }
    in[count] = clip;
    in[count + 1] = hyper;
    in[count + 2] = maps;
    if (!clip || !hyper || clip->dtype != SD_F32 || hyper->dtype != SD_F32 ||
        sd_tensor_count(clip) != SD_CLIP_RESULTS || sd_tensor_count(hyper) != (int64_t)n * width)
        sd_graph_fail(g, op, "takes f32 clip [3] and hyper [%d,%d]", n, width);
    else if (maps && (maps->dtype != SD_F32 || sd_tensor_count(maps) != (int64_t)moments * SD_QUANT_CODES))
        sd_graph_fail(g, op, "takes f32 maps [%d,%d]", moments, SD_QUANT_CODES);
    else if (!check_once(g, op, in, count))
        sd_graph_node(g, op, in, count + 3, count + 2, 0, NULL);
}

/* The structs of the interface are these pointers in a row. */
_Static_assert(sizeof(struct sd_adamw_tensors) == 4 * sizeof(struct sd_tensor *) &&
                   sizeof(struct sd_adamw8_tensors) == 6 * sizeof(struct sd_tensor *) &&
                   sizeof(struct sd_momentum_tensors) == 3 * sizeof(struct sd_tensor *) &&
                   sizeof(struct sd_momentum8_tensors) == 4 * sizeof(struct sd_tensor *),
               "no gaps");

void sd_graph_adamw(struct sd_graph *g, int n, const struct sd_adamw_tensors *t, struct sd_tensor *clip,
                    struct sd_tensor *hyper)
{
    update(g, SD_OP_adamw, n, 2, SD_ADAMW_HYPER, (struct sd_tensor *const *)t, clip, hyper, NULL);
}

void sd_graph_adamw8(struct sd_graph *g, int n, const struct sd_adamw8_tensors *t, struct sd_tensor *clip,
                     struct sd_tensor *hyper, struct sd_tensor *maps)
{
    if (maps)
        update(g, SD_OP_adamw, n, 2, SD_ADAMW_HYPER, (struct sd_tensor *const *)t, clip, hyper, maps);
}

void sd_graph_lion(struct sd_graph *g, int n, const struct sd_momentum_tensors *t, struct sd_tensor *clip,
                   struct sd_tensor *hyper)
{
    update(g, SD_OP_lion, n, 1, SD_LION_HYPER, (struct sd_tensor *const *)t, clip, hyper, NULL);
}

void sd_graph_lion8(struct sd_graph *g, int n, const struct sd_momentum8_tensors *t, struct sd_tensor *clip,
                    struct sd_tensor *hyper, struct sd_tensor *maps)
{
    if (maps)
        update(g, SD_OP_lion, n, 1, SD_LION_HYPER, (struct sd_tensor *const *)t, clip, hyper, maps);
}

void sd_graph_sgd(struct sd_graph *g, int n, const struct sd_momentum_tensors *t, struct sd_tensor *clip,
                  struct sd_tensor *hyper)
{
    update(g, SD_OP_sgd, n, 1, SD_SGD_HYPER, (struct sd_tensor *const *)t, clip, hyper, NULL);
}

void sd_graph_sgd8(struct sd_graph *g, int n, const struct sd_momentum8_tensors *t, struct sd_tensor *clip,
                   struct sd_tensor *hyper, struct sd_tensor *maps)
{
    if (maps)
        update(g, SD_OP_sgd, n, 1, SD_SGD_HYPER, (struct sd_tensor *const *)t, clip, hyper, maps);
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
