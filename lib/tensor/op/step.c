/* Steps of optimizers. */
#include "tensor/op.h"
#include "tensor/rule.h"

const struct sd_rule_info sd_rules[SD_RULE_COUNT] = {
#define RULE(name, moments, codes, what) {#name, moments, codes},
#include "tensor/rules.def"
#undef RULE
};

/* Whether input number k of a parameter's is what it should be; with codes there are two for each moment. */
static bool fits(struct sd_tensor *const *in, int k, int moments, bool codes)
{
    int64_t n = in[0] ? sd_tensor_count(in[0]) : 0;
    if (k >= 2 + moments)
        return sd_op_state(in[k], SD_F32) &&
               sd_tensor_count(in[k]) == (n + SD_QUANT_BLOCK - 1) / SD_QUANT_BLOCK;
    return sd_op_state(in[k], codes && k >= 2 ? SD_U8 : SD_F32) && sd_tensor_count(in[k]) == n;
}

static bool is_f32(const struct sd_tensor *t, int64_t count)
{
    return t && t->dtype == SD_F32 && sd_tensor_count(t) == count;
}

void sd_graph_step(struct sd_graph *g, enum sd_rule rule, int n, struct sd_tensor *const *vars,
                   struct sd_tensor *clip, struct sd_tensor *hyper, struct sd_tensor *maps)
{
    int moments = sd_rules[rule].moments, each = 2 + moments * (maps ? 2 : 1), count = each * n;
    if (!n || g->err.code)
        return;
    struct sd_tensor **in = sd_graph_alloc(g, (size_t)count + SD_STEP_IN_COMMON, sizeof *in);
    if (!in)
        return;
    for (int i = 0; i < count; i++) {
        in[i] = vars[i];
        if (!fits(vars + i - i % each, i % each, moments, maps)) {
            sd_graph_fail(g, SD_OP_step, "takes mutable variables: f32 of one shape%s",
                          maps ? ", but moments u8, and f32 for their blocks" : "");
            return;
        }
    }
    in[count + SD_STEP_IN_CLIP] = clip;
    in[count + SD_STEP_IN_HYPER] = hyper;
    in[count + SD_STEP_IN_MAPS] = maps;
    if (!is_f32(clip, SD_CLIP_RESULTS) || !is_f32(hyper, (int64_t)n * SD_STEP_HYPER))
        sd_graph_fail(g, SD_OP_step, "takes f32 clip [%d] and hyper [%d,%d]", SD_CLIP_RESULTS, n,
                      SD_STEP_HYPER);
    else if (maps && !sd_rules[rule].codes)
        sd_graph_fail(g, SD_OP_step, "the moments of %s cannot be codes", sd_rules[rule].name);
    else if (maps && !is_f32(maps, (int64_t)moments * SD_QUANT_CODES))
        sd_graph_fail(g, SD_OP_step, "takes f32 maps [%d,%d]", moments, SD_QUANT_CODES);
    else if (!sd_op_once(g, SD_OP_step, in, count))
        sd_graph_node(g, SD_OP_step, in, count + SD_STEP_IN_COMMON, count + SD_STEP_IN_MAPS, 0,
                      &(struct sd_attr){.rule = rule});
}
