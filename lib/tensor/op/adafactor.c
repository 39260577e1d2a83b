#include "tensor/adafactor.h"
#include "tensor/op.h"

/* Whether t is a mutable f32 variable of param's shape without dimension number `without` (-1: of all). */
static bool is_like(const struct sd_tensor *t, const struct sd_tensor *param, int without)
{
    int d = 0;
    if (!sd_op_state(t, SD_F32) || t->ndim != param->ndim - (without >= 0))
        return false;
    for (int i = 0; i < param->ndim; i++)
        if (i != without && t->dim[d++] != param->dim[i])
            return false;
    return true;
}

static bool fits(const struct sd_adafactor_tensors *t, bool moment)
{
    int n = t->param ? t->param->ndim : 0;
    if (n < (t->columns ? 2 : 1) || !is_like(t->param, t->param, -1) || !is_like(t->grad, t->param, -1))
        return false;
    if (moment ? !is_like(t->m, t->param, -1) : t->m != NULL)
        return false;
    if (!t->columns)
        return is_like(t->rows, t->param, -1);
    return is_like(t->rows, t->param, n - 1) && is_like(t->columns, t->param, n - 2);
}

struct sd_tensor *sd_graph_adafactor(struct sd_graph *g, int n, const struct sd_adafactor_tensors *t,
                                     struct sd_tensor *clip, struct sd_tensor *hyper)
{
    int count = SD_ADAFACTOR_EACH * n;
    struct sd_tensor **in = n > 0 ? sd_graph_alloc(g, (size_t)count + 2, sizeof *in) : NULL;
    if (!in || !clip || !hyper)
        return NULL;
    for (int i = 0; i < n; i++) {
        if (!fits(&t[i], t[0].m))
            return sd_graph_fail(g, SD_OP_adafactor,
                                 "parameter %d and its moments are no f32 variables that fit", i);
        struct sd_tensor **each = in + (size_t)i * SD_ADAFACTOR_EACH;
        each[SD_ADAFACTOR_PARAM] = t[i].param;
        each[SD_ADAFACTOR_GRAD] = t[i].grad;
        each[SD_ADAFACTOR_ROWS] = t[i].rows;
        each[SD_ADAFACTOR_COLUMNS] = t[i].columns;
        each[SD_ADAFACTOR_M] = t[i].m;
    }
    in[count] = clip;
    in[count + 1] = hyper;
    if (clip->dtype != SD_F32 || hyper->dtype != SD_F32 || sd_tensor_count(clip) != SD_CLIP_RESULTS ||
        sd_tensor_count(hyper) != (int64_t)n * SD_STEP_HYPER)
        return sd_graph_fail(g, SD_OP_adafactor, "takes f32 clip [3] and hyper [%d,%d]", n, SD_STEP_HYPER);
    if (sd_op_once(g, SD_OP_adafactor, in, count))
        return NULL;
    struct sd_node *node = sd_graph_node(g, SD_OP_adafactor, in, count + 2, 0, 1, NULL);
    return sd_graph_add_out(g, node, 0, SD_F32, 1, (int64_t[]){n});
}
