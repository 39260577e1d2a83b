/* conv2d and its gradients: 1x1 filters as one product, else by cuDNN, else by im2col. */
#include "im2col.h"

#include <stdlib.h>

namespace
{

enum path { PRODUCT, CUDNN, IM2COL };

struct state {
    path how;
    sd_conv_shape s;
    sd_cuda_gemm_plan gemm;
    sd_im2col im2col;
    const sd_cudnn_plan *cudnn;
    bool fused;       /* cuDNN's plan adds bias and acc */
    sd_dtype dw_type; /* of the filter's gradient as cuDNN makes it */
    sd_cuda_bias bias;
    sd_filter_shape filter;
    sd_filter layout;
    const void *packed;         /* a frozen filter */
    size_t bias_bytes;          /* of scratch, before temp: the bias in the type that cuDNN's plan wants */
    size_t temp_offset, offset; /* of scratch, after the filter packed in run(): cuDNN's result; the rest */
};

/* y = conv + bias + acc; any of bias (float or T) and acc may be NULL, y may be conv or acc. */
template <typename T, typename B>
__global__ void conv_sum_kernel(int64_t n, int64_t o, const T *conv, const B *bias, const T *acc, T *y)
{
    for (int64_t i = sd_first(); i < n; i += sd_stride()) {
        float x = to_f32(conv[i]);
        if (bias)
            x += to_f32(bias[i % o]);
        if (acc)
            x += to_f32(acc[i]);
        y[i] = from_f32<T>(x);
    }
}

void run_sum(const sd_call *c, const state *s, const void *conv, const void *bias)
{
    const sd_tensor *y = c->node->out[0];
    int64_t n = sd_tensor_count(y);
    sd_by_type(y->dtype, [&](auto t) {
        sd_by_type(s->bias.type, [&](auto b) {
            using T = decltype(t);
            using B = decltype(b);
            sd_launch(sd_cuda_stream(c), sd_grid(n), SD_THREADS, 0, conv_sum_kernel<T, B>, n, s->s.o,
                      static_cast<const T *>(conv), static_cast<const B *>(bias),
                      static_cast<const T *>(c->in[3]), static_cast<T *>(c->out[0]));
        });
    });
}

sd_conv_shape shape_of(const sd_node *n)
{
    const sd_tensor *x = n->op == SD_OP_conv2d_dx ? n->out[0] : n->in[0];
    const sd_tensor *w = n->op == SD_OP_conv2d_dw ? n->out[0] : n->in[1];
    const sd_tensor *y = n->op == SD_OP_conv2d ? n->out[0] : n->in[n->op == SD_OP_conv2d_dw];
    const sd_attr *a = &n->attr;
    return {x->dim[0], x->dim[1], x->dim[2], x->dim[3],  w->dim[0],   w->dim[2],     w->dim[3],
            y->dim[1], y->dim[2], a->stride, a->pad_top, a->pad_left, a->pad_bottom, a->pad_right};
}

bool is_product(const sd_conv_shape *s)
{
    return s->kh == 1 && s->kw == 1 && s->stride == 1 && !s->top && !s->left && !s->bottom && !s->right;
}

bool is_empty(const sd_node *n)
{
    return sd_tensor_count(n->out[0]) == 0;
}

/* --- planning --- */

int plan_product(sd_call *c, state *s, sd_err *err)
{
    const sd_node *n = c->node;
    const sd_conv_shape *v = &s->s;
    int64_t rows = v->n * v->h * v->w;
    sd_dtype in = n->in[0]->dtype, out = n->out[0]->dtype;
    sd_cuda_gemm g = n->op == SD_OP_conv2d      ? sd_cuda_gemm_dense(rows, v->o, v->c, false, true, in, out)
                     : n->op == SD_OP_conv2d_dx ? sd_cuda_gemm_dense(rows, v->c, v->o, false, false, in, out)
                                                : sd_cuda_gemm_dense(v->o, v->c, rows, true, false, in, out);
    if (n->op == SD_OP_conv2d) {
        g.bias = n->in[2] != NULL;
        g.bias_type = s->bias.type;
        g.acc = n->in[3] != NULL;
    }
    s->how = PRODUCT;
    if (sd_cuda_gemm_prepare(sd_cuda_of(c), &g, &s->gemm, err))
        return -1;
    c->scratch_bytes = s->gemm.scratch_bytes;
    return 0;
}

/* The filter that cuDNN or im2col takes: packed now when frozen, else in run() at the start of scratch. */
int plan_filter(sd_call *c, state *s, sd_err *err)
{
    if (c->node->op == SD_OP_conv2d_dw)
        return 0;
    sd_dtype type = c->node->in[1]->dtype;
    sd_var *var = sd_cuda_frozen_var(c->node->in[1]);
    if (!var) {
        s->offset = sd_cuda_round_up(
            static_cast<size_t>(sd_filter_rows(s->layout, &s->filter) * s->filter.row) * sd_dtype_size(type));
        return 0;
    }
    s->packed = sd_filter_packed(sd_cuda_of(c), var, s->layout, &s->filter, type, err);
    c->in_unused[1] = s->packed != NULL;
    return s->packed ? 0 : -1;
}

/* Fused with bias and acc where it can be; else they are added after. */
const sd_cudnn_plan *find_cudnn(sd_call *c, state *s, size_t *workspace)
{
    const sd_node *n = c->node;
    sd_cuda *cuda = sd_cuda_of(c);
    sd_cudnn_conv_case k = {};
    k.op = n->op;
    k.s = s->s;
    k.type = k.w_type = k.bias_type = n->in[0]->dtype;
    if (!sd_cuda_allows(cuda, SD_CUDA_CUDNN))
        return NULL;
    const sd_cudnn_plan *found = NULL;
    if (n->op == SD_OP_conv2d && n->in[2] && sd_cuda_allows(cuda, SD_CUDA_FUSION)) {
        k.bias = true; /* without which cuDNN's kernels do not add acc either */
        k.acc = n->in[3] != NULL;
        found = sd_cudnn_conv(cuda, &k, workspace);
        s->fused = found != NULL;
    }
    k.bias = k.acc = false;
    /* A gradient of weights in f32, as it is summed, where that can be had. */
    if (n->op == SD_OP_conv2d_dw && k.type != SD_F32) {
        k.w_type = SD_F32;
        found = sd_cudnn_conv(cuda, &k, workspace);
        k.w_type = found ? SD_F32 : k.type;
    }
    if (!found)
        found = sd_cudnn_conv(cuda, &k, workspace);
    s->dw_type = k.w_type;
    return found;
}

int plan_cudnn(sd_call *c, state *s, size_t workspace, sd_err *err)
{
    const sd_node *n = c->node;
    s->how = CUDNN;
    s->layout = SD_FILTER_KRSC;
    s->filter = {s->s.o, s->s.c, s->s.kh, s->s.kw, s->s.kh * s->s.kw * s->s.c};
    if (plan_filter(c, s, err))
        return -1;
    if (s->fused && s->bias.type != n->out[0]->dtype)
        s->bias_bytes = sd_cuda_round_up(static_cast<size_t>(s->s.o) * sd_dtype_size(n->out[0]->dtype));
    s->temp_offset = s->offset += s->bias_bytes;
    if (n->op == SD_OP_conv2d_dw) /* the gradient as cuDNN makes it */
        s->offset += sd_cuda_round_up(sd_tensor_bytes(n->out[0]));
    else if (n->op == SD_OP_conv2d && n->in[3]) /* acc may be y's memory */
        s->offset += sd_cuda_round_up(sd_tensor_bytes(n->out[0]));
    c->scratch_bytes = s->offset + workspace;
    return 0;
}

int plan_im2col(sd_call *c, state *s, sd_err *err)
{
    const sd_node *n = c->node;
    bool forward = n->op == SD_OP_conv2d;
    s->how = IM2COL;
    if (sd_im2col_plan(sd_cuda_of(c), n->op, &s->s, n->in[0]->dtype, forward && n->in[2], s->bias.type,
                       forward && n->in[3], &s->im2col, err))
        return -1;
    s->layout = s->im2col.layout;
    s->filter = s->im2col.filter;
    if (plan_filter(c, s, err))
        return -1;
    c->scratch_bytes = s->offset + s->im2col.scratch_bytes;
    return 0;
}

int plan(sd_call *c, sd_err *err)
{
    const sd_node *n = c->node;
    if (sd_cuda_make_state(c, sizeof(state), err))
        return -1;
    state *s = static_cast<state *>(c->state);
    s->s = shape_of(n);
    s->bias = {SD_F32, NULL};
    if (is_empty(n))
        return 0;
    if (n->op == SD_OP_conv2d && sd_cuda_bias_plan(c, 2, n->out[0]->dtype, &s->bias, err))
        return -1;
    if (is_product(&s->s))
        return plan_product(c, s, err);
    if (sd_cuda_require(sd_cuda_of(c), SD_CUDA_CUDNN, err))
        return -1;
    size_t workspace = 0;
    s->cudnn = find_cudnn(c, s, &workspace);
    return s->cudnn ? plan_cudnn(c, s, workspace, err) : plan_im2col(c, s, err);
}

/* --- running --- */

const void *filter(const sd_call *c, const state *s)
{
    if (s->packed)
        return s->packed;
    sd_dtype type = c->node->in[1]->dtype;
    sd_filter_pack(sd_cuda_stream(c), s->layout, &s->filter, c->in[1], type, c->scratch, type);
    return c->scratch;
}

void run_cudnn(const sd_call *c, const state *s, const void *w, const void *bias, void *workspace)
{
    sd_cuda *cuda = sd_cuda_of(c);
    char *temp = static_cast<char *>(c->scratch) + s->temp_offset;
    bool apart = !s->fused && (bias || c->in[3]);
    /* cuDNN does not promise that what it adds may lie where it writes; cuBLASLt does. */
    bool over_acc = s->fused && c->in[3] == c->out[0];
    void *y = over_acc || (apart && c->in[3]) ? temp : c->out[0];
    if (s->bias_bytes) {
        sd_cuda_bias_cast(cuda->stream, s->s.o, bias, temp - s->bias_bytes, c->node->out[0]->dtype);
        bias = temp - s->bias_bytes;
    }
    sd_cudnn_address a[] = {{SD_CUDNN_X, c->in[0]}, {SD_CUDNN_W, w}, {SD_CUDNN_Y, y}, {}, {}};
    int n = 3;
    if (s->fused)
        a[n++] = {SD_CUDNN_BIAS, bias};
    if (s->fused && c->in[3])
        a[n++] = {SD_CUDNN_ACC, c->in[3]};
    sd_cudnn_run(cuda, s->cudnn, a, n, workspace);
    if (over_acc)
        cudaMemcpyAsync(c->out[0], y, sd_tensor_bytes(c->node->out[0]), cudaMemcpyDeviceToDevice,
                        cuda->stream);
    if (apart)
        run_sum(c, s, y, bias);
}

void run_forward(const sd_call *c)
{
    const state *s = static_cast<const state *>(c->state);
    sd_cuda *cuda = sd_cuda_of(c);
    if (is_empty(c->node))
        return;
    const void *bias = s->bias.frozen ? s->bias.frozen : c->in[2];
    char *rest = static_cast<char *>(c->scratch) + s->offset;
    if (s->how == PRODUCT) {
        sd_cuda_gemm_run(cuda, &s->gemm, c->in[0], c->in[1], bias, c->in[3], c->out[0], c->scratch);
        return;
    }
    const void *w = filter(c, s);
    if (s->how == IM2COL) {
        sd_im2col_run(cuda, &s->im2col, c->in[0], w, bias, c->in[3], c->out[0], rest);
        return;
    }
    run_cudnn(c, s, w, bias, rest);
}

void run_dx(const sd_call *c)
{
    const state *s = static_cast<const state *>(c->state);
    sd_cuda *cuda = sd_cuda_of(c);
    if (is_empty(c->node))
        return;
    char *rest = static_cast<char *>(c->scratch) + s->offset;
    if (s->how == PRODUCT) {
        sd_cuda_gemm_run(cuda, &s->gemm, c->in[0], c->in[1], NULL, NULL, c->out[0], c->scratch);
        return;
    }
    const void *w = filter(c, s);
    sd_cudnn_address a[] = {{SD_CUDNN_Y, c->in[0]}, {SD_CUDNN_W, w}, {SD_CUDNN_X, c->out[0]}};
    if (s->how == IM2COL)
        sd_im2col_run(cuda, &s->im2col, c->in[0], w, NULL, NULL, c->out[0], rest);
    else
        sd_cudnn_run(cuda, s->cudnn, a, 3, rest);
}

void run_dw(const sd_call *c)
{
    const state *s = static_cast<const state *>(c->state);
    sd_cuda *cuda = sd_cuda_of(c);
    if (is_empty(c->node))
        return;
    char *rest = static_cast<char *>(c->scratch) + s->offset;
    void *dw = static_cast<char *>(c->scratch) + s->temp_offset;
    sd_cudnn_address a[] = {{SD_CUDNN_X, c->in[0]}, {SD_CUDNN_Y, c->in[1]}, {SD_CUDNN_W, dw}};
    if (s->how == PRODUCT)
        sd_cuda_gemm_run(cuda, &s->gemm, c->in[1], c->in[0], NULL, NULL, c->out[0], c->scratch);
    else if (s->how == IM2COL)
        sd_im2col_run(cuda, &s->im2col, c->in[0], c->in[1], NULL, NULL, c->out[0], rest);
    else {
        sd_cudnn_run(cuda, s->cudnn, a, 3, rest);
        sd_filter_unpack(cuda->stream, &s->filter, dw, s->dw_type, static_cast<float *>(c->out[0]));
    }
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_conv2d = {.plan = plan, .run = run_forward, .drop = sd_cuda_drop_state};
const struct sd_kernel sd_cuda_conv2d_dx = {.plan = plan, .run = run_dx, .drop = sd_cuda_drop_state};
const struct sd_kernel sd_cuda_conv2d_dw = {.plan = plan, .run = run_dw, .drop = sd_cuda_drop_state};
}
