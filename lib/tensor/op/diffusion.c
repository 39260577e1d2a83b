/* Noise, the forward diffusion, steps back and the loss (Ho et al., DDPM, 2020). */
#include "tensor/op.h"

struct sd_tensor *sd_graph_randn(struct sd_graph *g, struct sd_tensor *state, int64_t threads, int ndim,
                                 const int64_t *dim)
{
    if (!state)
        return NULL;
    if (state->dtype != SD_I32 || sd_tensor_count(state) != 4 || threads < 0 || threads % 256)
        return sd_graph_fail(g, SD_OP_randn, "takes a state [4] i32 and a multiple of 256 threads");
    struct sd_node *node =
        sd_graph_node(g, SD_OP_randn, &state, 1, 1, 1, &(struct sd_attr){.threads = threads});
    return sd_graph_add_out(g, node, 0, SD_F32, ndim, dim);
}

struct sd_tensor *sd_graph_mix(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *noise,
                               struct sd_tensor *t, struct sd_tensor *table)
{
    if (!x || !noise || !t || !table)
        return NULL;
    if (!sd_tensor_same_shape(x, noise) || x->dtype != SD_F32 || noise->dtype != SD_F32 ||
        t->dtype != SD_F32 || t->ndim != 1 || t->dim[0] != x->dim[0] || table->ndim != 2 ||
        table->dim[1] != 2 || table->dtype != SD_F32)
        return sd_graph_fail(g, SD_OP_mix, "takes x and noise [N,...], t [N] and a table [T,2], all f32");
    struct sd_node *node =
        sd_graph_node(g, SD_OP_mix, (struct sd_tensor *[]){x, noise, t, table}, 4, 4, 1, NULL);
    return sd_graph_add_out(g, node, 0, SD_F32, x->ndim, x->dim);
}

struct sd_tensor *sd_graph_combine(struct sd_graph *g, int n, struct sd_tensor *const *x,
                                   struct sd_tensor *coef, int64_t offset, bool limited)
{
    struct sd_tensor *in[SD_COMBINE_TERMS + 1] = {coef};
    if (n < 1 || n > SD_COMBINE_TERMS)
        return sd_graph_fail(g, SD_OP_combine, "takes 1 to %d terms", SD_COMBINE_TERMS);
    if (!coef || !x[0])
        return NULL;
    for (int i = 0; i < n; i++) {
        in[i + 1] = x[i];
        if (x[i] && (!sd_tensor_same_shape(x[i], x[0]) || x[i]->dtype != SD_F32))
            return sd_graph_fail(g, SD_OP_combine, "takes f32 terms of one shape");
    }
    if (coef->dtype != SD_F32 || coef->ndim != 2 || coef->dim[0] != x[0]->dim[0] || offset < 0 ||
        offset > coef->dim[1] - n - limited)
        return sd_graph_fail(g, SD_OP_combine, "takes f32 coefficients [%lld,%lld or more]",
                             (long long)x[0]->dim[0], (long long)(offset + n + limited));
    struct sd_node *node = sd_graph_node(g, SD_OP_combine, in, n + 1, n + 1, 1,
                                         &(struct sd_attr){.offset = offset, .limited = limited});
    return sd_graph_add_out(g, node, 0, SD_F32, x[0]->ndim, x[0]->dim);
}

static bool is_row(const struct sd_tensor *t, int64_t n)
{
    return t->ndim == 1 && t->dim[0] == n && t->dtype == SD_F32;
}

struct sd_tensor *sd_graph_loss(struct sd_graph *g, enum sd_loss kind, struct sd_tensor *pred,
                                struct sd_tensor *target, struct sd_tensor *weight, struct sd_tensor *delta)
{
    if (!pred || !target || !weight)
        return NULL;
    if (!sd_tensor_same_shape(pred, target) || target->dtype != SD_F32 || !is_row(weight, pred->dim[0]))
        return sd_graph_fail(g, SD_OP_loss, "takes pred and target [N,...] and weight [N] f32");
    bool bends = kind == SD_LOSS_SMOOTH_L1 || kind == SD_LOSS_HUBER;
    if (bends != (delta != NULL) || (delta && !is_row(delta, pred->dim[0])))
        return sd_graph_fail(g, SD_OP_loss, "takes delta [N] f32 for smooth l1 and huber, and none else");
    struct sd_node *node = sd_graph_node(g, SD_OP_loss, (struct sd_tensor *[]){pred, target, weight, delta},
                                         4, 3, 1, &(struct sd_attr){.loss = kind});
    return sd_graph_add_out(g, node, 0, SD_F32, 1, (int64_t[]){1});
}

void sd_grad_loss(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                  struct sd_tensor **dx)
{
    struct sd_tensor *pred = node->in[0];
    struct sd_tensor *in[] = {dy[0], pred, node->in[1], node->in[2], node->in[3]};
    struct sd_node *bwd = sd_graph_node(g, SD_OP_loss_bwd, in, 5, 4, 1, &node->attr);
    dx[0] = sd_graph_add_out(g, bwd, 0, pred->dtype, pred->ndim, pred->dim);
}
