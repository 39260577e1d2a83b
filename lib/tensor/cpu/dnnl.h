/* What the oneDNN kernels share: the engine, packed weights, and primitives with their memory. For cpu/ only.
 */
#ifndef SD_TENSOR_CPU_DNNL_H
#define SD_TENSOR_CPU_DNNL_H

#include "tensor/backend.h"
#include "tensor/frozen.h"

#include <dnnl.h>

struct sd_packed;
struct sd_attn_kernels;
struct sd_gemm;
struct sd_gemm_kernels;

struct sd_cpu {
    struct sd_backend base;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    const struct sd_attn_kernels *attention[2]; /* f32, bf16 */
    const struct sd_gemm_kernels *gemm[2];
    struct sd_frozen frozen;
    struct sd_packed *packed; /* frozen weights in the layouts that kernels asked for */
    size_t packed_bytes;
};

/* A primitive bound to up to five memories. Kernels keep it in sd_call.state. */
#define SD_DNNL_ARGS 5
struct sd_dnnl {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arg[SD_DNNL_ARGS];
    int n_arg;
    int scratch; /* index in arg of the scratchpad, -1 without */
};

int sd_dnnl_status(struct sd_err *err, dnnl_status_t st, const char *what);
dnnl_data_type_t sd_dnnl_type(enum sd_dtype t);
/* Attributes: scratchpad from the caller, and adding to what dst holds. */
int sd_dnnl_attr(dnnl_primitive_attr_t *attr, bool sum, struct sd_err *err);

/* Makes the primitive of pd (which it destroys) and its scratchpad argument. */
struct sd_dnnl *sd_dnnl_new(struct sd_call *c, dnnl_primitive_desc_t pd, struct sd_err *err);
int sd_dnnl_arg(struct sd_call *c, struct sd_dnnl *d, int id, const dnnl_memory_desc_t *md,
                struct sd_err *err);
void sd_dnnl_set(struct sd_dnnl *d, int i, const void *data);
void sd_dnnl_run(const struct sd_call *c, struct sd_dnnl *d);
void sd_dnnl_drop(struct sd_call *c);

/* The frozen variable behind a tensor (looking through reshapes), or NULL. */
struct sd_var *sd_frozen_var(const struct sd_tensor *t);
/* Its weights in layout md, packed once per (var, md). plain is md's logical shape over the stored order. */
const void *sd_dnnl_packed(struct sd_cpu *cpu, struct sd_var *var, enum sd_dtype dtype,
                           const dnnl_memory_desc_t *plain, const dnnl_memory_desc_t *md, struct sd_err *err);
/* The same for the second factor of a product, whose kernels have a packed form. */
const void *sd_gemm_packed(struct sd_cpu *cpu, struct sd_var *var, const struct sd_gemm *g,
                           struct sd_err *err);
void sd_dnnl_packed_free(struct sd_cpu *cpu);

#endif
