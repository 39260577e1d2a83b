/* Layers: how a network is written down once, as the text that both declares its parameters and wires its
 * graph.
 *
 *     struct sd_nn b;
 *     sd_nn_init(&b, g, SD_BF16, param, ctx);
 *     sd_nn_push(&b, "down_blocks.%d", i);
 *     h = sd_nn_group_norm(&b, "norm", x, 32, 1e-6f, SD_ACT_NONE);     // down_blocks.0.norm.weight, .bias
 *     h = sd_nn_linear(&b, "proj_in", h, 320, true);                   // down_blocks.0.proj_in.weight, .bias
 *     sd_nn_pop(&b);
 *     sd_nn_free(&b);
 *
 * The scopes give the parameters their names, so loading, saving, adapters and parameter groups all come from
 * the same walk. Where a parameter's values come from is the affair of param (model/weights.h); a param that
 * only notes names and shapes makes the walk a declaration. Errors stay in the graph (tensor/graph.h): a NULL
 * runs through.
 *
 * Types: a product computes in the type of its input x, its weight being read as that type; norm parameters
 * and biases are always f32. Weights have PyTorch's shapes: linear [out,in], convolution [out,in,k,k].
 * Trained weights (trainable variables) are cast to the computing type by a node. */
#ifndef SD_NN_NN_H
#define SD_NN_NN_H

#include "base/buf.h"
#include "tensor/graph.h"

struct sd_nn;

/* The variable of that name, or NULL with err set. Asked once for each use; the same name gives the same
 * variable. */
typedef struct sd_var *sd_nn_param(void *ctx, const char *name, int ndim, const int64_t *dim,
                                   struct sd_err *err);

/* What an adapter is told of a linear layer or convolution. */
struct sd_nn_layer {
    const char *path;        /* "unet.down_blocks.0.attentions.0.proj_in"; valid during the call */
    int64_t in, out, kernel; /* kernel is 1 for a linear layer */
    bool conv;               /* it is a convolution in PyTorch's eyes: its weight has four dimensions */
    struct sd_conv window;   /* stride and padding; stride 1 and no padding for a linear layer */
};

/* Returns y, the layer's output on x, or something in its place. It may add nodes, but opens no scopes. */
typedef struct sd_tensor *sd_nn_adapt(void *ctx, struct sd_nn *b, const struct sd_nn_layer *layer,
                                      struct sd_tensor *x, struct sd_tensor *y);

enum sd_nn_keep {                           /* what gradient checkpointing stores instead of recomputing it */
                  SD_NN_KEEP_BLOCKS = 1,    /* outputs of residual and transformer blocks */
                  SD_NN_KEEP_ATTENTION = 2, /* outputs of attention, small and the dearest to recompute */
};

#define SD_NN_DEPTH 32 /* scopes in scopes; the deepest network here uses 8 */

struct sd_nn {
    struct sd_graph *g;
    enum sd_dtype dtype; /* activations: f32 or bf16 */
    unsigned keep;       /* enum sd_nn_keep, both unless changed */
    sd_nn_param *param;
    void *param_ctx;
    sd_nn_adapt *adapt; /* may be NULL; set it after sd_nn_init */
    void *adapt_ctx;
    struct sd_buf path; /* private from here */
    size_t mark[SD_NN_DEPTH];
    int depth;
};

void sd_nn_init(struct sd_nn *b, struct sd_graph *g, enum sd_dtype dtype, sd_nn_param *param, void *ctx);
void sd_nn_free(struct sd_nn *b); /* frees the builder's own memory, not the graph */

/* Opens a scope: parameters get its name and a dot before their own. */
void sd_nn_push(struct sd_nn *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sd_nn_pop(struct sd_nn *b);

/* The parameter of that name in the open scope, as dtype. */
struct sd_tensor *sd_nn_value(struct sd_nn *b, const char *name, enum sd_dtype dtype, int ndim,
                              const int64_t *dim);

/* x [...,in] to [...,out]: name.weight [out,in], with bias name.bias [out]. */
struct sd_tensor *sd_nn_linear(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out,
                               bool bias);

/* The same plus residual [...,out]; written this way round the sum costs nothing (pass.h, fusion). */
struct sd_tensor *sd_nn_linear_onto(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out,
                                    bool bias, struct sd_tensor *residual);

/* x [N,H,W,in] to [N,H',W',out]: name.weight [out,in,k,k], name.bias [out]; padding k/2 on all sides,
 * stride 1. residual [N,H',W',out] is added, or NULL. */
struct sd_tensor *sd_nn_conv2d(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out, int64_t k,
                               struct sd_tensor *residual);
/* With stride and padding of its own. */
struct sd_tensor *sd_nn_conv2d_window(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out,
                                      int64_t k, const struct sd_conv *window, struct sd_tensor *residual);

/* name.weight, name.bias [C], C being x's last dimension. act follows the norm: none or silu. */
struct sd_tensor *sd_nn_group_norm(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t groups,
                                   float eps, enum sd_act act);
struct sd_tensor *sd_nn_layer_norm(struct sd_nn *b, const char *name, struct sd_tensor *x, float eps);

/* name.weight [rows,width]; ids i32 [N,T] to [N,T,width] in the builder's type. */
struct sd_tensor *sd_nn_embedding(struct sd_nn *b, const char *name, struct sd_tensor *ids, int64_t rows,
                                  int64_t width);

/* The value of a variable as dtype: a frozen one is converted by the backend, a trained one by a node. */
struct sd_tensor *sd_nn_var(struct sd_nn *b, struct sd_var *var, enum sd_dtype dtype);
struct sd_tensor *sd_nn_cast(struct sd_nn *b, struct sd_tensor *x, enum sd_dtype dtype);
struct sd_tensor *sd_nn_block_output(struct sd_nn *b,
                                     struct sd_tensor *x); /* marks x to be kept; returns x */

#endif
