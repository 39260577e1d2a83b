/* What cuDNN computes here: convolutions and attention, as graphs of its backend interface (cuDNN 9).
 *
 * A plan is found once a case: the engines its heuristics name are tried in their order, and the first that
 * is deterministic, sums in f32 and can be made is taken. In the emulator there is no cuDNN and nothing is
 * ever found. */
#ifndef SD_GPU_DNN_H
#define SD_GPU_DNN_H

#include "products.h"

/* Which tensor of a plan an address is for. */
enum sd_cudnn_tensor {
    SD_CUDNN_X = 1,
    SD_CUDNN_W,
    SD_CUDNN_Y,
    SD_CUDNN_BIAS,
    SD_CUDNN_ACC,
    SD_CUDNN_Q,
    SD_CUDNN_K,
    SD_CUDNN_V,
    SD_CUDNN_O,
    SD_CUDNN_LSE,
    SD_CUDNN_DO,
    SD_CUDNN_DQ,
    SD_CUDNN_DK,
    SD_CUDNN_DV,
    SD_CUDNN_DELTA, /* f32 [n,heads,t], memory for the backward */
    /* numbers the plan holds itself */
    SD_CUDNN_SCALE,
    SD_CUDNN_ONE,
    SD_CUDNN_HIDDEN,
    /* what only passes between the operations */
    SD_CUDNN_VIRTUAL
};

struct sd_cudnn_address {
    enum sd_cudnn_tensor tensor;
    const void *data;
};

/* A convolution of x [n,h,w,c] with a filter [o,c,kh,kw] to y [n,p,q,o]. */
struct sd_conv_shape {
    int64_t n, h, w, c, o, kh, kw, p, q, stride, top, left, bottom, right;
};

struct sd_cudnn_conv_case {
    enum sd_op op;          /* conv2d: X, W, BIAS, ACC to Y; conv2d_dx: Y, W to X; conv2d_dw: X, Y to W */
    struct sd_conv_shape s; /* the filter is KRSC, dense */
    enum sd_dtype type, bias_type;
    enum sd_dtype w_type; /* of the filter; for conv2d_dw it may be f32 */
    bool bias, acc;
};

struct sd_cudnn_attention_case {
    enum sd_op op; /* attention: Q, K, V to O, LSE; attention_bwd: Q, K, V, O, LSE, DO, DELTA to DQ, DK, DV */
    int64_t n, heads, t, s, d; /* q [n,t,row], k and v [n,s,row], of which heads*d are taken */
    int64_t row;               /* elements; more than heads*d when n is 1 and this is a part of the heads */
    enum sd_dtype type;        /* f16 or bf16 */
    float scale;
    bool causal;
};

/* NULL: cuDNN does not take the case, or there is none. Lives as long as the backend. */
const struct sd_cudnn_plan *sd_cudnn_conv(struct sd_cuda *cuda, const struct sd_cudnn_conv_case *c,
                                          size_t *workspace);
const struct sd_cudnn_plan *sd_cudnn_attention(struct sd_cuda *cuda, const struct sd_cudnn_attention_case *c,
                                               size_t *workspace);
/* Enqueues it. */
void sd_cudnn_run(struct sd_cuda *cuda, const struct sd_cudnn_plan *plan,
                  const struct sd_cudnn_address *address, int n, void *workspace);

#endif
