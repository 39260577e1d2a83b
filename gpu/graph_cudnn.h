/* Graphs of cuDNN's backend interface, written as calls:
 *
 *     struct sd_cudnn_graph g;
 *     sd_cudnn_graph_begin(&g, dnn);
 *     sd_cudnn_desc x = sd_cudnn_tensor(&g, SD_CUDNN_X, ...), y = ...;
 *     sd_cudnn_pointwise(&g, CUDNN_POINTWISE_ADD, x, b, NULL, y);
 *     plan = sd_cudnn_graph_plan(&g, &terms, &workspace);
 *     sd_cudnn_graph_end(&g);
 *
 * The first call that cuDNN refuses makes all after it do nothing; no plan is then found. */
#ifndef SD_GPU_GRAPH_CUDNN_H
#define SD_GPU_GRAPH_CUDNN_H

#include "kernel.h"

#include "dnn.h"
#include "libraries.h"

typedef cudnnBackendDescriptor_t sd_cudnn_desc;

struct sd_cudnn_graph {
    const struct sd_cudnn *dnn;
    cudnnStatus_t status; /* the first refusal */
    sd_cudnn_desc made[256], op[32];
    int n_made, n_ops;
    int64_t next; /* number of the next virtual tensor */
};

void sd_cudnn_graph_begin(struct sd_cudnn_graph *g, const struct sd_cudnn *dnn);
void sd_cudnn_graph_end(struct sd_cudnn_graph *g);

cudnnDataType_t sd_cudnn_type(enum sd_dtype type);

/* A tensor of four dimensions; strides in elements. SD_CUDNN_VIRTUAL is memory that need not be, and numbers
 * (SD_CUDNN_SCALE, ...) are passed by value. */
sd_cudnn_desc sd_cudnn_tensor_desc(struct sd_cudnn_graph *g, enum sd_cudnn_tensor which, cudnnDataType_t type,
                                   const int64_t *dim, const int64_t *stride);
sd_cudnn_desc sd_cudnn_number(struct sd_cudnn_graph *g, enum sd_cudnn_tensor which);

/* y = mode(x, b) and, for selections, by t; computed in f32. b and t may be NULL. */
void sd_cudnn_pointwise(struct sd_cudnn_graph *g, cudnnPointwiseMode_t mode, sd_cudnn_desc x, sd_cudnn_desc b,
                        sd_cudnn_desc t, sd_cudnn_desc y);
/* The index along a dimension, i32. */
void sd_cudnn_index(struct sd_cudnn_graph *g, int64_t axis, sd_cudnn_desc x, sd_cudnn_desc y);
/* y = x >= b, boolean. */
void sd_cudnn_not_below(struct sd_cudnn_graph *g, sd_cudnn_desc x, sd_cudnn_desc b, sd_cudnn_desc y);
void sd_cudnn_matmul(struct sd_cudnn_graph *g, sd_cudnn_desc a, sd_cudnn_desc b, sd_cudnn_desc y);
void sd_cudnn_reduce(struct sd_cudnn_graph *g, cudnnReduceTensorOp_t how, sd_cudnn_desc x, sd_cudnn_desc y);
void sd_cudnn_reshape(struct sd_cudnn_graph *g, sd_cudnn_desc x, sd_cudnn_desc y);
/* op: conv2d, conv2d_dx, conv2d_dw; which of x, w and y is written goes by it. */
void sd_cudnn_convolution(struct sd_cudnn_graph *g, enum sd_op op, const struct sd_conv_shape *s,
                          sd_cudnn_desc x, sd_cudnn_desc w, sd_cudnn_desc y);

/* Which engines a plan may have. */
struct sd_cudnn_terms {
    bool exact;   /* f32 stays f32: no tensor cores */
    bool compile; /* kernels may be compiled now, which takes about a second each */
    size_t workspace;
};

/* The execution plan, which the caller destroys, or NULL. */
sd_cudnn_desc sd_cudnn_graph_plan(struct sd_cudnn_graph *g, const struct sd_cudnn_terms *terms,
                                  size_t *workspace);

/* The whole way for a case, without a backend. */
sd_cudnn_desc sd_cudnn_conv_make(const struct sd_cudnn *dnn, const struct sd_cudnn_conv_case *c, bool tf32,
                                 size_t *workspace);
sd_cudnn_desc sd_cudnn_attention_make(const struct sd_cudnn *dnn, const struct sd_cudnn_attention_case *c,
                                      size_t *workspace);

/* An execution plan for the handle, or the properties of a device, that dnn has, to be described further;
 * NULL: refused. */
sd_cudnn_desc sd_cudnn_plan_begin(const struct sd_cudnn *dnn);
/* Ends that: the plan and its workspace, or NULL and no plan, where status or what is left to do is a refusal
 * or the workspace is larger than most. */
sd_cudnn_desc sd_cudnn_plan_end(const struct sd_cudnn *dnn, sd_cudnn_desc plan, cudnnStatus_t status,
                                size_t most, size_t *workspace);

/* What a lookup goes by: all that a case says, as numbers. */
#define SD_CUDNN_KEY 24
/* A plan that an earlier run kept, or NULL; and keeping one. */
sd_cudnn_desc sd_cudnn_cached(const struct sd_cudnn *dnn, const int64_t key[SD_CUDNN_KEY], size_t *workspace);
void sd_cudnn_cache(const struct sd_cudnn *dnn, const int64_t key[SD_CUDNN_KEY], sd_cudnn_desc plan);
/* This backend's plan of a key, or a new entry with made set to false, which the caller fills; NULL: no
 * memory.
 */
struct sd_cudnn_plan *sd_cudnn_lookup(struct sd_cuda *cuda, const int64_t key[SD_CUDNN_KEY], bool *made);
/* Numbers are those of SD_CUDNN_SCALE, _ONE and _HIDDEN that the plan's graph has. */
struct sd_cudnn_numbers {
    bool used[3];
    float value[3];
};
void sd_cudnn_fill(struct sd_cudnn_plan *plan, sd_cudnn_desc desc, size_t workspace,
                   const struct sd_cudnn_numbers *numbers);
/* plan when there is one to use, and its workspace. */
const struct sd_cudnn_plan *sd_cudnn_usable(const struct sd_cudnn_plan *plan, size_t *workspace);

#endif
