/* Graphs: what is computed, for one shape, as a list of coarse operations.
 *
 *     struct sd_graph *g = sd_graph_new();
 *     struct sd_tensor *x = sd_graph_input(g, "x", SD_F32, 2, (int64_t[]){8, 320});
 *     struct sd_tensor *z = sd_graph_matmul(g, x, sd_graph_var(g, w, SD_F32), NULL, false, true);
 *     sd_graph_output(g, sd_graph_act(g, z, SD_ACT_SILU));
 *     ... sd_graph_grad, sd_graph_fuse, sd_graph_checkpoint (pass.h), sd_plan_new (plan.h), run
 *
 * Law of ownership: the graph owns every tensor and node it hands out; sd_graph_free ends them all. Variables
 * (struct sd_var) belong to the caller and must outlive the graph.
 * Law of errors: the first failing call leaves its message in the graph (sd_graph_error) and returns NULL;
 * every call given a NULL tensor returns NULL quietly, so a model is written as plain calls and checked once
 * at the end. Tensors are dense and row-major; images are [N,H,W,C], tokens [N,T,C]. */
#ifndef SD_TENSOR_GRAPH_H
#define SD_TENSOR_GRAPH_H

#include "base/err.h"
#include "tensor/dtype.h"

#include <stdbool.h>
#include <stdint.h>

#define SD_MAX_DIMS 4

enum sd_op {
#define OP(name, ...) SD_OP_##name,
#include "tensor/ops.def"
#undef OP
    SD_OP_COUNT
};

enum sd_act {
    SD_ACT_NONE,
    SD_ACT_SILU,
    SD_ACT_GELU, /* the exact one, by erf */
    SD_ACT_QUICK_GELU,
    SD_ACT_GELU_TANH, /* x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2 (Hendrycks and Gimpel, 2016) */
    SD_ACT_SIGMOID
};

/* sd-scripts' --loss_type: what a difference d adds to the loss. The latter two go over from a square to a
 * line where |d| is about delta. */
enum sd_loss {
    SD_LOSS_L2,        /* d^2 */
    SD_LOSS_L1,        /* |d| */
    SD_LOSS_SMOOTH_L1, /* 2 (sqrt(d^2 + delta^2) - delta) */
    SD_LOSS_HUBER      /* delta times that */
};

/* How an optimizer steps (tensor/rule.h). */
enum sd_rule {
#define RULE(name, ...) SD_RULE_##name,
#include "tensor/rules.def"
#undef RULE
    SD_RULE_COUNT
};

/* How an optimizer steps that adapts its step size (tensor/adapt.h). */
enum sd_adapt_rule {
#define RULE(name, ...) SD_ADAPT_##name,
#include "tensor/adapt.def"
#undef RULE
    SD_ADAPT_RULES
};

/* A variable: memory that lives outside of graphs. A frozen one (weights of a file) is only read, may be
 * stored in another float type than it is used in, and is converted or packed once by a backend. A mutable
 * one (trained parameters, moments, gradient sums) is read and written by nodes, in its own type. */
struct sd_var {
    const char *name; /* borrowed; for messages and lookup */
    enum sd_dtype dtype;
    int ndim;
    int64_t dim[SD_MAX_DIMS];
    const void *data; /* frozen: the bytes as stored; mutable: same memory as `state` */
    void *state;      /* mutable: the memory nodes write; NULL when frozen */
    bool trainable;   /* gradients are wanted for it (implies mutable) */
    bool mapped;      /* data lies in a read-only file mapping, whose pages may be dropped once converted */
    bool pointwise;   /* a 1x1 convolution's: PyTorch's tensor has two dimensions of 1 behind these */
};

/* The dynamic scale of losses whose gradients pass through f16, which holds nothing below 6e-8 (Micikevicius
 * et al., Mixed Precision Training, 2018): it shrinks when gradients overflowed, and grows after that many
 * updates in a row in which none did. */
struct sd_loss_scaling {
    float initial, growth, backoff;
    int64_t interval; /* at most 2^24: f32 counts them */
};

/* torch.amp.GradScaler's. */
#define SD_LOSS_SCALING_DEFAULT \
    ((struct sd_loss_scaling){.initial = 65536, .growth = 2, .backoff = 0.5f, .interval = 2000})

/* How the next step size comes of an update's sums (tensor/adapt.h): with w = fresh r, times r if squared,
 * times d if prodigy, the total of TOP is keep total + w TOP; the estimate is (of_top total + of_squares
 * SQUARES) / (of_size SIZE), and d becomes the larger of d and that, but at most growth times d. What is also
 * in hyper must be rounded as it is there: large sums that it scales are subtracted. */
struct sd_adaptation {
    float keep, fresh, of_top, of_squares, of_size;
    float d0;
    double growth; /* may be infinite */
    bool squared;
    bool tracked; /* SQUARES and SIZE are totals too */
    bool rooted;  /* r is over NORM, and the estimate is over the root of SIZE */
    bool prodigy; /* d becomes the largest estimate yet, but at most growth times d */
};

struct sd_node;

struct sd_tensor {
    enum sd_dtype dtype;
    int ndim;
    int64_t dim[SD_MAX_DIMS];
    struct sd_node *node; /* the node that makes it */
    int index;            /* which of that node's outputs it is */
    int id;               /* position in graph->tensors */
    bool needs_grad;      /* a trainable variable is among its ancestors */
    bool keep;            /* checkpointing stores it instead of recomputing it */
    bool output;          /* read by the caller after a run */
    const char *name;     /* inputs and variables; else NULL */
};

/* Parameters of a node; each op's builder below says which it uses. */
struct sd_attr {
    int64_t offset; /* slice, pad_channels: first channel; combine: first coefficient */
    int64_t heads, groups;
    int64_t stride, pad_top, pad_left, pad_bottom, pad_right;
    int64_t threads; /* randn */
    float scale, eps, max_period;
    struct sd_loss_scaling scaling;
    enum sd_act act;
    enum sd_loss loss;
    enum sd_rule rule;
    enum sd_adapt_rule adapt_rule;
    struct sd_adaptation adaptation;
    bool trans_a, trans_b, causal, flip, limited;
    struct sd_var *var;
};

struct sd_node {
    enum sd_op op;
    int n_in, n_out;
    struct sd_tensor **in;  /* optional inputs may be NULL */
    struct sd_tensor **out; /* outputs nobody wants may be NULL (backward ops) */
    struct sd_attr attr;
};

struct sd_graph {
    struct sd_node **nodes; /* in order of execution */
    int n_nodes, cap_nodes;
    struct sd_tensor **tensors;
    int n_tensors, cap_tensors;
    int n_forward; /* nodes before sd_graph_grad added the backward ones; -1 until then */
    struct sd_err err;
    struct sd_arena *arena; /* private */
};

struct sd_graph *sd_graph_new(void); /* NULL: out of memory */
void sd_graph_free(struct sd_graph *g);
/* 0, or -1 with the first error any builder met. */
int sd_graph_error(const struct sd_graph *g, struct sd_err *err);

int64_t sd_tensor_count(const struct sd_tensor *t); /* elements */
size_t sd_tensor_bytes(const struct sd_tensor *t);
bool sd_tensor_same_shape(const struct sd_tensor *a, const struct sd_tensor *b);
const char *sd_op_name(enum sd_op op);
double
sd_node_flops(const struct sd_node *n); /* multiplications and additions of its products; 0 for other ops */
double sd_graph_flops(const struct sd_graph *g);

/* Leaves */
struct sd_tensor *sd_graph_input(struct sd_graph *g, const char *name, enum sd_dtype dtype, int ndim,
                                 const int64_t *dim);
/* The variable's value as dtype; for a mutable one dtype must be its own. The same call gives the same
 * tensor. */
struct sd_tensor *sd_graph_var(struct sd_graph *g, struct sd_var *var, enum sd_dtype dtype);
struct sd_tensor *sd_graph_fill(struct sd_graph *g, enum sd_dtype dtype, int ndim, const int64_t *dim,
                                float value);
void sd_graph_output(struct sd_graph *g, struct sd_tensor *t); /* the caller will read t after a run */
struct sd_tensor *sd_graph_keep(struct sd_tensor *t); /* marks t as stored under checkpointing; returns t */

/* Shape and type */
struct sd_tensor *sd_graph_reshape(struct sd_graph *g, struct sd_tensor *x, int ndim, const int64_t *dim);
struct sd_tensor *sd_graph_cast(struct sd_graph *g, struct sd_tensor *x, enum sd_dtype dtype);
struct sd_tensor *sd_graph_concat(struct sd_graph *g, struct sd_tensor *a,
                                  struct sd_tensor *b); /* last dimension */
struct sd_tensor *sd_graph_slice(struct sd_graph *g, struct sd_tensor *x, int64_t offset,
                                 int64_t len); /* last */
/* x placed at offset of a last dimension of len, zeros around: the transpose of slice. */
struct sd_tensor *sd_graph_pad_channels(struct sd_graph *g, struct sd_tensor *x, int64_t offset, int64_t len);
/* [N,H,W,C] to [N,height,width,C], nearest: source row = floor(i*H/height). */
struct sd_tensor *sd_graph_upsample(struct sd_graph *g, struct sd_tensor *x, int64_t height, int64_t width);

/* Elementwise */
/* a + scale*b. b has a's shape, or 1 in a block of dimensions ([N,1,1,C], [1,T,C], [C] to any a ending in C).
 */
struct sd_tensor *sd_graph_add(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b, float scale);
/* a * b, b as in add. */
struct sd_tensor *sd_graph_mul(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b);
struct sd_tensor *sd_graph_scale(struct sd_graph *g, struct sd_tensor *x, float scale);
struct sd_tensor *sd_graph_act(struct sd_graph *g, struct sd_tensor *x, enum sd_act act);
/* [..., 2N] to [..., N]: first half times gelu(second half), the exact erf gelu (Shazeer, GLU Variants,
 * 2020). */
struct sd_tensor *sd_graph_geglu(struct sd_graph *g, struct sd_tensor *x);
/* Sum over the dimensions that `like` lacks or has as 1: the transpose of add's broadcast. Result has like's
 * shape. */
struct sd_tensor *sd_graph_reduce_to(struct sd_graph *g, struct sd_tensor *x, const struct sd_tensor *like);

/* Products. a is [..., K] (all but the last dimension are rows) or, with trans_a, [K rows..., M];
 * b is [K, N] or, with trans_b, [N, K] (the layout of torch.nn.Linear's weight; [N,K,1,1] is taken too).
 * bias [N] or NULL, f32. Result [..., N] in a's dtype. */
struct sd_tensor *sd_graph_matmul(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b,
                                  struct sd_tensor *bias, bool trans_a, bool trans_b);
/* The same with the product times scale and the result in dtype out. */
struct sd_tensor *sd_graph_matmul_scaled(struct sd_graph *g, struct sd_tensor *a, struct sd_tensor *b,
                                         struct sd_tensor *bias, bool trans_a, bool trans_b, float scale,
                                         enum sd_dtype out);
struct sd_conv {
    int64_t stride, pad_top, pad_left, pad_bottom, pad_right;
};
/* x [N,H,W,C], w [O,C,kh,kw] as PyTorch stores it, bias [O] f32 or NULL; result [N,H',W',O]. */
struct sd_tensor *sd_graph_conv2d(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *w,
                                  struct sd_tensor *bias, const struct sd_conv *conv);

/* Normalisation: statistics in f32; weight and bias f32 [C]; then act (none or silu). */
struct sd_tensor *sd_graph_group_norm(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *weight,
                                      struct sd_tensor *bias, int64_t groups, float eps, enum sd_act act);
struct sd_tensor *sd_graph_layer_norm(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *weight,
                                      struct sd_tensor *bias, float eps);

/* softmax(scale q k^T) v by heads: q [N,T,heads*D], k and v [N,S,heads*D]; result [N,T,heads*D]. The score
 * matrix is never stored (Dao, FlashAttention-2, 2023). causal: query i sees keys 0..i. */
struct sd_tensor *sd_graph_attention(struct sd_graph *g, struct sd_tensor *q, struct sd_tensor *k,
                                     struct sd_tensor *v, int64_t heads, float scale, bool causal);

/* Rows of table [V,C] at ids [N,T] i32; result [N,T,C] in table's dtype. */
struct sd_tensor *sd_graph_embedding(struct sd_graph *g, struct sd_tensor *table, struct sd_tensor *ids);
/* Sinusoids of timesteps t [N] f32: [N,dim] f32, cosines first when flip (Ho et al., DDPM, 2020; SD flips).
 */
struct sd_tensor *sd_graph_timestep_embedding(struct sd_graph *g, struct sd_tensor *t, int64_t dim,
                                              float max_period, bool flip);

/* Normal numbers, f32, as torch.randn makes them on a CUDA device that runs `threads` threads at once (0:
 * more than there are elements; base/philox.h). state [4] i32: the generator's seed and offset, low words
 * first. An image [N,H,W,C] has in each place what PyTorch's [N,C,H,W] has there. */
struct sd_tensor *sd_graph_randn(struct sd_graph *g, struct sd_tensor *state, int64_t threads, int ndim,
                                 const int64_t *dim);
/* Offset noise (Guttenberg, Diffusion with Offset Noise, 2023): x [N,H,W,C] with normal [N,1,1,C] times a
 * strength added, which is strength[0], or with latents (of x's shape; NULL: none) at least 0 and higher by
 * strength[1] times |mean of the channel's latents|. strength [2]; all f32. */
struct sd_tensor *sd_graph_noise_offset(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *normal,
                                        struct sd_tensor *strength, struct sd_tensor *latents);
/* Multi-resolution noise (Whitaker, 2023): x [N,H,W,C] with coarser noise added, all over its standard
 * deviation. turns [T,3]: height, width and weight of each coarser one, until a height is 0. levels [M]:
 * their numbers, each as PyTorch has it, [N,C,height,width], one behind the other: M is enough for all. They
 * are enlarged as torch.nn.Upsample does it by default when it is bilinear. All f32. */
struct sd_tensor *sd_graph_noise_levels(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *levels,
                                        struct sd_tensor *turns);
/* Diffusion: table[t][0]*x + table[t][1]*noise by sample; x, noise [N,...] f32, t [N] f32 (whole numbers),
 * table [T,2]. */
struct sd_tensor *sd_graph_mix(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *noise,
                               struct sd_tensor *t, struct sd_tensor *table);
/* The sum of n tensors x[k] [N,...], each times coef[sample][offset+k]; limited: between
 * -coef[sample][offset+n] and that number. coef [N,M]; all f32. One row can serve several nodes, each with
 * an offset of its own. */
enum { SD_COMBINE_TERMS = 8 }; /* at most */
struct sd_tensor *sd_graph_combine(struct sd_graph *g, int n, struct sd_tensor *const *x,
                                   struct sd_tensor *coef, int64_t offset, bool limited);
/* Mean over samples of weight[n] * mean(kind's term of pred - target), f32 [1]. pred [N,...] any float,
 * target f32, weight [N] f32; delta [N] f32, NULL for l2 and l1. */
struct sd_tensor *sd_graph_loss(struct sd_graph *g, enum sd_loss kind, struct sd_tensor *pred,
                                struct sd_tensor *target, struct sd_tensor *weight, struct sd_tensor *delta);

/* Effects: nodes that write variables, run in the order they were added. One node serves any number of
 * variables, so that a device takes hundreds of small ones in one launch; no variable may be in it twice. */
/* var = x: a mutable variable of x's type and as many elements. */
void sd_graph_assign(struct sd_graph *g, struct sd_tensor *var, struct sd_tensor *x);
/* acc[i] += x[i] for n pairs; acc[i] is a mutable f32 variable of x[i]'s shape, x[i] of any float type. */
void sd_graph_accumulate(struct sd_graph *g, int n, struct sd_tensor *const *acc, struct sd_tensor *const *x);
/* What an update needs to know of all its gradients: sd_graph_clip's result, f32. */
enum sd_clip {
    SD_CLIP_NORM,        /* the global L2 norm */
    SD_CLIP_COEFFICIENT, /* what each is multiplied by: min(1, max_norm / (norm + 1e-6)), 1 when max_norm is 0
                          */
    SD_CLIP_SKIP,        /* 1: they overflowed, the update is left out; else 0 */
    SD_CLIP_RESULTS      /* how many */
};
/* Of n f32 tensors that are *scale times as large as they should be: the norm is that of what they should be,
 * the coefficient undoes the scale too, and what is infinite or NaN makes an update be skipped. scale [1]
 * f32, or NULL: 1, and nothing is ever skipped. */
struct sd_tensor *sd_graph_clip(struct sd_graph *g, struct sd_tensor *const *grads, int n, float max_norm,
                                struct sd_tensor *scale);
/* One update of n parameters by a rule (tensor/rule.h), each with its gradient times clip's coefficient; then
 * the gradients are 0. In a skipped update they only become 0. vars are those of the first parameter, then of
 * the second, and so on: the parameter, its gradient and its moments, mutable f32 variables of one shape.
 * hyper f32 [n,SD_STEP_HYPER] has a row for each.
 * With maps the moments take one byte an element (tensor/quant.h): they are codes, u8, and after them come
 * the magnitudes f32 [ceil(elements / SD_QUANT_BLOCK)] of the blocks of each, mutable too. The step is in
 * f32, on the moments before they are codes again: each becomes that of the nearest number of its row of maps
 * f32 [moments,SD_QUANT_CODES], which ascend; of two as near, the lower; what is below zero never becomes
 * zero. A moment that is not finite spoils its whole block. */
enum { SD_QUANT_BLOCK = 256, SD_QUANT_CODES = 256 };
void sd_graph_step(struct sd_graph *g, enum sd_rule rule, int n, struct sd_tensor *const *vars,
                   struct sd_tensor *clip, struct sd_tensor *hyper, struct sd_tensor *maps);
/* AdaFactor on n parameters; what it computes and what hyper holds is in adafactor.h. clip and zeroed
 * gradients are as in sd_graph_step. The result f32 [n] is the root mean square of each parameter before the
 * update, 0 of one that was left as it is. */
struct sd_adafactor_tensors {
    struct sd_tensor *param, *grad; /* mutable f32 variables of one shape, as are the others */
    /* rows: the parameter's shape without its last dimension; columns: without its last but one. Where
     * columns is NULL, rows is of the parameter's shape, which is taken as a vector. */
    struct sd_tensor *rows, *columns;
    struct sd_tensor *m; /* the parameter's shape, or NULL: no first moment, for all alike */
};
struct sd_tensor *sd_graph_adafactor(struct sd_graph *g, int n, const struct sd_adafactor_tensors *t,
                                     struct sd_tensor *clip, struct sd_tensor *hyper);
/* After an update: the scale and how many in a row were not skipped, both mutable f32 variables [1]. A scale
 * that would no longer be finite does not grow. */
void sd_graph_loss_scale(struct sd_graph *g, struct sd_tensor *scale, struct sd_tensor *streak,
                         struct sd_tensor *clip, const struct sd_loss_scaling *scaling);

/* One update of n parameters by a rule that adapts its step size (tensor/adapt.h), each with its gradient
 * times clip's coefficient; then the gradients are 0. In a skipped update they only become 0. vars are those
 * of the first parameter, then of the second, and so on: the parameter, its gradient if the rule takes one,
 * and its moments, mutable f32 variables of one shape. hyper f32 [n,SD_ADAPT_HYPER] has a row for each, state
 * is f32 [SD_ADAPT_STATE]. The result f32 [SD_ADAPT_SUMS,2] is NULL where the rule makes no sums. */
struct sd_tensor *sd_graph_adapt_step(struct sd_graph *g, enum sd_adapt_rule rule, int n,
                                      struct sd_tensor *const *vars, struct sd_tensor *clip,
                                      struct sd_tensor *hyper, struct sd_tensor *state);
/* The step size after an update, from its sums, f32 [1]; state is a mutable variable. Nothing changes where
 * the update was skipped or SIZE is 0, and the step size does not where the rate is 0. */
struct sd_tensor *sd_graph_adapt(struct sd_graph *g, struct sd_tensor *state, struct sd_tensor *sums,
                                 struct sd_tensor *clip, struct sd_tensor *hyper,
                                 const struct sd_adaptation *how);

/* Moving averages of parameters: shadow[i] += rate (param[i] - shadow[i]) for n pairs, shadow[i] a mutable
 * f32 variable of param[i]'s shape. rate [1] f32 is 1 - decay, which may change from step to step. */
void sd_graph_ema(struct sd_graph *g, int n, struct sd_tensor *const *shadow, struct sd_tensor *const *param,
                  struct sd_tensor *rate);

/* For op files and passes: a node with the given inputs; outputs are added by sd_graph_add_out. NULL when an
 * input marked as required (the first n_required) is NULL, or memory is out. */
struct sd_node *sd_graph_node(struct sd_graph *g, enum sd_op op, struct sd_tensor *const *in, int n_in,
                              int n_required, int n_out, const struct sd_attr *attr);
struct sd_tensor *sd_graph_add_out(struct sd_graph *g, struct sd_node *node, int index, enum sd_dtype dtype,
                                   int ndim, const int64_t *dim);
/* Records a shape error "op: message" and returns NULL. */
void *sd_graph_fail(struct sd_graph *g, enum sd_op op, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void *sd_graph_alloc(struct sd_graph *g, size_t count, size_t size); /* zeroed, lives as long as the graph */

#endif
