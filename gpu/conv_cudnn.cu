/* Convolutions by cuDNN: one operation, forward with bias and sum after it where there are any. */
#include "graph_cudnn.h"

namespace
{

/* [n,h,w,c] as cuDNN counts, [n,c,h,w], with the strides of what lies in memory. */
sd_cudnn_desc image(sd_cudnn_graph *g, sd_cudnn_tensor which, cudnnDataType_t type, int64_t n, int64_t h,
                    int64_t w, int64_t c)
{
    const int64_t dim[4] = {n, c, h, w}, stride[4] = {h * w * c, 1, w * c, c};
    return sd_cudnn_tensor_desc(g, which, type, dim, stride);
}

void build(sd_cudnn_graph *g, const sd_cudnn_conv_case *c)
{
    const sd_conv_shape *s = &c->s;
    cudnnDataType_t type = sd_cudnn_type(c->type);
    sd_cudnn_desc x = image(g, SD_CUDNN_X, type, s->n, s->h, s->w, s->c),
                  w = image(g, SD_CUDNN_W, sd_cudnn_type(c->w_type), s->o, s->kh, s->kw, s->c),
                  y = image(g, SD_CUDNN_Y, type, s->n, s->p, s->q, s->o);
    if (!c->bias && !c->acc) {
        sd_cudnn_convolution(g, c->op, s, x, w, y);
        return;
    }
    /* The sum before the bias: cuDNN's kernels that need no compiler at run time know this order only. */
    sd_cudnn_desc conv = image(g, SD_CUDNN_VIRTUAL, CUDNN_DATA_FLOAT, s->n, s->p, s->q, s->o);
    sd_cudnn_convolution(g, c->op, s, x, w, conv);
    if (c->acc) {
        sd_cudnn_desc sum =
            c->bias ? image(g, SD_CUDNN_VIRTUAL, CUDNN_DATA_FLOAT, s->n, s->p, s->q, s->o) : y;
        sd_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, conv, image(g, SD_CUDNN_ACC, type, s->n, s->p, s->q, s->o),
                           NULL, sum);
        conv = sum;
    }
    if (c->bias)
        sd_cudnn_pointwise(g, CUDNN_POINTWISE_ADD, conv,
                           image(g, SD_CUDNN_BIAS, sd_cudnn_type(c->bias_type), 1, 1, 1, s->o), NULL, y);
}

} // namespace

sd_cudnn_desc sd_cudnn_conv_make(const struct sd_cudnn *dnn, const struct sd_cudnn_conv_case *c, bool tf32,
                                 size_t *workspace)
{
    sd_cudnn_graph g;
    sd_cudnn_graph_begin(&g, dnn);
    build(&g, c);
    /* Kernels compiled at run time would be a little faster, and the first step many seconds later. */
    const sd_cudnn_terms terms = {c->type == SD_F32 && !tf32, false, 256 << 20};
    sd_cudnn_desc plan = sd_cudnn_graph_plan(&g, &terms, workspace);
    sd_cudnn_graph_end(&g);
    return plan;
}

const struct sd_cudnn_plan *sd_cudnn_conv(struct sd_cuda *cuda, const struct sd_cudnn_conv_case *c,
                                          size_t *workspace)
{
    const sd_conv_shape *s = &c->s;
    const int64_t key[SD_CUDNN_KEY] = {
        c->op,     s->n,   s->h,    s->w,      s->c,     s->o,    s->kh,        s->kw,     s->p,    s->q,
        s->stride, s->top, s->left, s->bottom, s->right, c->type, c->bias_type, c->w_type, c->bias, c->acc};
    const struct sd_cudnn *dnn = sd_cudnn_of(cuda);
    bool made = false;
    struct sd_cudnn_plan *plan = dnn ? sd_cudnn_lookup(cuda, key, &made) : NULL;
    if (plan && !made) {
        size_t bytes = 0;
        sd_cudnn_desc desc = sd_cudnn_conv_make(dnn, c, cuda->base.tf32, &bytes);
        const sd_cudnn_numbers none = {};
        sd_cudnn_fill(plan, desc, bytes, &none);
    }
    return sd_cudnn_usable(plan, workspace);
}
