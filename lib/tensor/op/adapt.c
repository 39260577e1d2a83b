/* Steps of optimizers that adapt their step size, and the adaptation. */
#include "tensor/adapt.h"
#include "tensor/op.h"

const struct sd_adapt_info sd_adapt_rules[SD_ADAPT_RULES] = {
#define RULE(name, sums, moments, written, what) {#name, sums, moments, written},
#include "tensor/adapt.def"
#undef RULE
};

static bool is_f32(const struct sd_tensor *t, int64_t count)
{
    return t && t->dtype == SD_F32 && sd_tensor_count(t) == count;
}

static int copy_vars(struct sd_graph *g, struct sd_tensor **in, struct sd_tensor *const *vars, int count,
                     int each)
{
    for (int i = 0; i < count; i++) {
        in[i] = vars[i];
        if (!sd_op_state(vars[i], SD_F32) || !is_f32(vars[i], sd_tensor_count(vars[i - i % each]))) {
            sd_graph_fail(g, SD_OP_adapt_step, "takes mutable f32 variables of one shape");
            return -1;
        }
    }
    return sd_op_once(g, SD_OP_adapt_step, in, count);
}

struct sd_tensor *sd_graph_adapt_step(struct sd_graph *g, enum sd_adapt_rule rule, int n,
                                      struct sd_tensor *const *vars, struct sd_tensor *clip,
                                      struct sd_tensor *hyper, struct sd_tensor *state)
{
    const struct sd_adapt_info *r = &sd_adapt_rules[rule];
    int each = 1 + r->sums + r->moments, count = each * n, n_in = count + SD_ADAPT_IN_COMMON;
    struct sd_tensor **in = g->err.code ? NULL : sd_graph_alloc(g, (size_t)n_in, sizeof *in);
    if (!in || copy_vars(g, in, vars, count, each))
        return NULL;
    if (!is_f32(clip, SD_CLIP_RESULTS) || !is_f32(hyper, (int64_t)n * SD_ADAPT_HYPER) ||
        !is_f32(state, SD_ADAPT_STATE))
        return sd_graph_fail(g, SD_OP_adapt_step, "takes f32 clip [%d], hyper [%d,%d] and state [%d]",
                             SD_CLIP_RESULTS, n, SD_ADAPT_HYPER, SD_ADAPT_STATE);
    in[count + SD_ADAPT_IN_CLIP] = clip;
    in[count + SD_ADAPT_IN_HYPER] = hyper;
    in[count + SD_ADAPT_IN_STATE] = state;
    struct sd_node *node =
        sd_graph_node(g, SD_OP_adapt_step, in, n_in, n_in, r->sums, &(struct sd_attr){.adapt_rule = rule});
    return r->sums ? sd_graph_add_out(g, node, 0, SD_F32, 2, (int64_t[]){SD_ADAPT_SUMS, 2}) : NULL;
}

struct sd_tensor *sd_graph_adapt(struct sd_graph *g, struct sd_tensor *state, struct sd_tensor *sums,
                                 struct sd_tensor *clip, struct sd_tensor *hyper,
                                 const struct sd_adaptation *how)
{
    struct sd_tensor *in[] = {state, sums, clip, hyper};
    if (g->err.code)
        return NULL;
    if (!sd_op_state(state, SD_F32) || !is_f32(state, SD_ADAPT_STATE) || !is_f32(sums, 2 * SD_ADAPT_SUMS) ||
        !is_f32(clip, SD_CLIP_RESULTS) || !hyper || hyper->dtype != SD_F32 ||
        sd_tensor_count(hyper) < SD_ADAPT_HYPER)
        return sd_graph_fail(g, SD_OP_adapt,
                             "takes a mutable f32 state [%d], sums [%d,2], clip [%d] and rows of hyper",
                             SD_ADAPT_STATE, SD_ADAPT_SUMS, SD_CLIP_RESULTS);
    struct sd_node *node = sd_graph_node(g, SD_OP_adapt, in, 4, 4, 1, &(struct sd_attr){.adaptation = *how});
    return sd_graph_add_out(g, node, 0, SD_F32, 1, (int64_t[]){1});
}
