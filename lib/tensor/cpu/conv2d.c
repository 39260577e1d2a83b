/* conv2d and its gradients through oneDNN: NHWC activations, weights packed into whatever the primitive asks
 * for. */
#include "tensor/cpu/dnnl.h"
#include "tensor/cpu/kernels.h"

#include <string.h>

struct geometry {
    dnnl_memory_desc_t x, w, w_any, bias, y; /* w: as stored, [O,C,kh,kw] */
    dnnl_dims_t stride, pad_l, pad_r;
};

static dnnl_memory_desc_t image(const struct sd_tensor *t, enum sd_dtype type)
{
    dnnl_memory_desc_t md;
    dnnl_memory_desc_init_by_tag(&md, 4, (dnnl_dims_t){t->dim[0], t->dim[3], t->dim[1], t->dim[2]},
                                 sd_dnnl_type(type), dnnl_nhwc);
    return md;
}

static void geometry_of(struct geometry *g, const struct sd_tensor *x, const struct sd_tensor *w,
                        const struct sd_tensor *y, enum sd_dtype w_type, const struct sd_attr *a)
{
    dnnl_dims_t wd = {w->dim[0], w->dim[1], w->dim[2], w->dim[3]};
    g->x = image(x, x->dtype);
    g->y = image(y, y->dtype);
    dnnl_memory_desc_init_by_tag(&g->w, 4, wd, sd_dnnl_type(w_type), dnnl_oihw);
    dnnl_memory_desc_init_by_tag(&g->w_any, 4, wd, sd_dnnl_type(w_type), dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&g->bias, 1, (dnnl_dims_t){w->dim[0]}, dnnl_f32, dnnl_x);
    g->stride[0] = g->stride[1] = a->stride;
    g->pad_l[0] = a->pad_top;
    g->pad_l[1] = a->pad_left;
    g->pad_r[0] = a->pad_bottom;
    g->pad_r[1] = a->pad_right;
    /* Rows and columns that no filter position reaches: oneDNN wants the padding to fit exactly. */
    for (int i = 0; i < 2; i++) {
        dnnl_dim_t reach = (y->dim[1 + i] - 1) * a->stride + w->dim[2 + i];
        g->pad_r[i] = reach - x->dim[1 + i] - g->pad_l[i];
    }
}

static int forward_desc(const struct geometry *g, bool with_bias, dnnl_convolution_desc_t *d)
{
    return dnnl_convolution_forward_desc_init(d, dnnl_forward_inference, dnnl_convolution_direct, &g->x,
                                              &g->w_any, with_bias ? &g->bias : NULL, &g->y, g->stride,
                                              g->pad_l, g->pad_r);
}

/* Frozen weights are packed now, once for all plans. */
static int bind_weights(struct sd_call *c, struct sd_dnnl *d, int arg, int in, const struct geometry *g,
                        const dnnl_memory_desc_t *md, struct sd_err *err)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    struct sd_var *var = sd_frozen_var(c->node->in[in]);
    if (!var)
        return 0;
    const void *data = sd_dnnl_packed(cpu, var, c->node->in[in]->dtype, &g->w, md, err);
    if (!data)
        return -1;
    sd_dnnl_set(d, arg, data);
    c->in_unused[in] = true;
    return 0;
}

enum { ARG_SRC, ARG_WEIGHTS, ARG_DST, ARG_BIAS };

static int plan_forward(struct sd_call *c, struct sd_err *err)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    const struct sd_node *n = c->node;
    struct geometry g;
    geometry_of(&g, n->in[0], n->in[1], n->out[0], n->in[1]->dtype, &n->attr);
    if (!sd_frozen_var(n->in[1]))
        g.w_any = g.w; /* weights that change are used as they lie */
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    if (sd_dnnl_attr(&attr, n->in[3] != NULL, err))
        return -1;
    dnnl_status_t st = forward_desc(&g, n->in[2] != NULL, &desc);
    if (!st)
        st = dnnl_primitive_desc_create(&pd, &desc, attr, cpu->engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    if (sd_dnnl_status(err, st, "convolution"))
        return -1;
    dnnl_memory_desc_t w = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    struct sd_dnnl *d = sd_dnnl_new(c, pd, err);
    if (!d || sd_dnnl_arg(c, d, DNNL_ARG_SRC, &g.x, err) < 0 ||
        sd_dnnl_arg(c, d, DNNL_ARG_WEIGHTS, &w, err) < 0 || sd_dnnl_arg(c, d, DNNL_ARG_DST, &g.y, err) < 0 ||
        (n->in[2] && sd_dnnl_arg(c, d, DNNL_ARG_BIAS, &g.bias, err) < 0))
        return -1;
    return bind_weights(c, d, d->scratch + 1 + ARG_WEIGHTS, 1, &g, &w, err);
}

static void run_forward(const struct sd_call *c)
{
    struct sd_dnnl *d = c->state;
    int first = d->scratch + 1;
    if (c->in[3] && c->in[3] != c->out[0])
        memcpy(c->out[0], c->in[3], sd_tensor_bytes(c->node->out[0]));
    sd_dnnl_set(d, first + ARG_SRC, c->in[0]);
    if (!c->in_unused[1])
        sd_dnnl_set(d, first + ARG_WEIGHTS, c->in[1]);
    sd_dnnl_set(d, first + ARG_DST, c->out[0]);
    if (c->in[2])
        sd_dnnl_set(d, first + ARG_BIAS, c->in[2]);
    sd_dnnl_run(c, d);
}

/* oneDNN's backward primitives are made with the forward one as a hint. */
static dnnl_primitive_desc_t backward_pd(struct sd_cpu *cpu, const struct geometry *g, const void *desc,
                                         struct sd_err *err)
{
    dnnl_convolution_desc_t fwd;
    dnnl_primitive_desc_t hint = NULL, pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    if (sd_dnnl_attr(&attr, false, err))
        return NULL;
    dnnl_status_t st =
        dnnl_convolution_forward_desc_init(&fwd, dnnl_forward_training, dnnl_convolution_direct, &g->x,
                                           &g->w_any, NULL, &g->y, g->stride, g->pad_l, g->pad_r);
    if (!st)
        st = dnnl_primitive_desc_create(&hint, &fwd, NULL, cpu->engine, NULL);
    if (!st)
        st = dnnl_primitive_desc_create(&pd, desc, attr, cpu->engine, hint);
    dnnl_primitive_desc_destroy(hint);
    dnnl_primitive_attr_destroy(attr);
    sd_dnnl_status(err, st, "convolution gradient");
    return st ? NULL : pd;
}

static int plan_dx(struct sd_call *c, struct sd_err *err)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    const struct sd_node *n = c->node;
    struct geometry g;
    geometry_of(&g, n->out[0], n->in[1], n->in[0], n->in[1]->dtype, &n->attr);
    if (!sd_frozen_var(n->in[1]))
        g.w_any = g.w;
    dnnl_convolution_desc_t desc;
    dnnl_status_t st = dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &g.x,
                                                                &g.w_any, &g.y, g.stride, g.pad_l, g.pad_r);
    dnnl_primitive_desc_t pd = st ? NULL : backward_pd(cpu, &g, &desc, err);
    if (!pd) {
        if (st)
            sd_dnnl_status(err, st, "convolution gradient");
        return -1;
    }
    dnnl_memory_desc_t w = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    struct sd_dnnl *d = sd_dnnl_new(c, pd, err);
    if (!d || sd_dnnl_arg(c, d, DNNL_ARG_DIFF_DST, &g.y, err) < 0 ||
        sd_dnnl_arg(c, d, DNNL_ARG_WEIGHTS, &w, err) < 0 ||
        sd_dnnl_arg(c, d, DNNL_ARG_DIFF_SRC, &g.x, err) < 0)
        return -1;
    return bind_weights(c, d, d->scratch + 1 + ARG_WEIGHTS, 1, &g, &w, err);
}

static void run_dx(const struct sd_call *c)
{
    struct sd_dnnl *d = c->state;
    int first = d->scratch + 1;
    sd_dnnl_set(d, first + ARG_SRC, c->in[0]);
    if (!c->in_unused[1])
        sd_dnnl_set(d, first + ARG_WEIGHTS, c->in[1]);
    sd_dnnl_set(d, first + ARG_DST, c->out[0]);
    sd_dnnl_run(c, d);
}

static int plan_dw(struct sd_call *c, struct sd_err *err)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    const struct sd_node *n = c->node;
    struct geometry g;
    geometry_of(&g, n->in[0], n->out[0], n->in[1], SD_F32, &n->attr);
    g.w_any = g.w; /* the gradient is wanted in the order of the weights */
    dnnl_convolution_desc_t desc;
    dnnl_status_t st = dnnl_convolution_backward_weights_desc_init(
        &desc, dnnl_convolution_direct, &g.x, &g.w_any, NULL, &g.y, g.stride, g.pad_l, g.pad_r);
    /* The hint's weights are of the activations' type. */
    geometry_of(&g, n->in[0], n->out[0], n->in[1], n->in[0]->dtype, &n->attr);
    dnnl_primitive_desc_t pd = st ? NULL : backward_pd(cpu, &g, &desc, err);
    if (!pd) {
        if (st)
            sd_dnnl_status(err, st, "convolution gradient");
        return -1;
    }
    dnnl_memory_desc_t w = *dnnl_primitive_desc_query_md(pd, dnnl_query_diff_weights_md, 0);
    struct sd_dnnl *d = sd_dnnl_new(c, pd, err);
    return !d || sd_dnnl_arg(c, d, DNNL_ARG_SRC, &g.x, err) < 0 ||
                   sd_dnnl_arg(c, d, DNNL_ARG_DIFF_DST, &g.y, err) < 0 ||
                   sd_dnnl_arg(c, d, DNNL_ARG_DIFF_WEIGHTS, &w, err) < 0
               ? -1
               : 0;
}

static void run_dw(const struct sd_call *c)
{
    struct sd_dnnl *d = c->state;
    int first = d->scratch + 1;
    for (int i = 0; i < 2; i++)
        sd_dnnl_set(d, first + i, c->in[i]);
    sd_dnnl_set(d, first + 2, c->out[0]);
    sd_dnnl_run(c, d);
}

const struct sd_kernel sd_cpu_conv2d = {plan_forward, run_forward, sd_dnnl_drop};
const struct sd_kernel sd_cpu_conv2d_dx = {plan_dx, run_dx, sd_dnnl_drop};
const struct sd_kernel sd_cpu_conv2d_dw = {plan_dw, run_dw, sd_dnnl_drop};
