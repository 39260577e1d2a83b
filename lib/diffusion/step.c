#include "diffusion/step.h"

struct sd_tensor *sd_step_input(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *coef, bool guided)
{
    struct sd_tensor *in = sd_graph_combine(g, 1, &x, coef, SD_STEP_IN, false);
    if (!in || !guided)
        return in;
    int64_t dim[SD_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++)
        dim[i] = x->dim[i] * (i == 0 ? 2 : 1);
    in = sd_graph_reshape(g, in, 1, (int64_t[]){sd_tensor_count(x)});
    return sd_graph_reshape(g, sd_graph_concat(g, in, in), x->ndim, dim);
}

/* The samples' first or second answers, as x. */
static struct sd_tensor *half(struct sd_graph *g, const struct sd_tensor *x, struct sd_tensor *out, int which)
{
    int64_t n = sd_tensor_count(x);
    struct sd_tensor *flat = sd_graph_reshape(g, out, 1, (int64_t[]){2 * n});
    return sd_graph_reshape(g, sd_graph_slice(g, flat, which * n, n), x->ndim, x->dim);
}

struct sd_tensor *sd_step_update(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *coef,
                                 struct sd_tensor *out)
{
    if (!x || !out)
        return NULL;
    if (out->dim[0] == 2 * x->dim[0])
        out = sd_graph_combine(g, 2, (struct sd_tensor *[]){half(g, x, out, 0), half(g, x, out, 1)}, coef,
                               SD_STEP_FREE, false);
    struct sd_tensor *x0 =
        sd_graph_combine(g, 2, (struct sd_tensor *[]){x, out}, coef, SD_STEP_X0_OF_X, true);
    struct sd_tensor *next =
        sd_graph_combine(g, 3, (struct sd_tensor *[]){x, out, x0}, coef, SD_STEP_X, false);
    sd_graph_assign(g, x, next);
    return next;
}
