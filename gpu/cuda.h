/* The cuda backend's own declarations, shared by the files of gpu/. */
#ifndef SD_GPU_CUDA_H
#define SD_GPU_CUDA_H

extern "C" {
#include "tensor/backend.h"
#include "tensor/frozen.h"
}

#include <stddef.h>
#include <stdint.h>

struct sd_cuda_libraries; /* libraries.h; there is none in the emulator */
struct sd_cuda_memory;    /* backend.cu */
struct sd_cuda_products;  /* products.h */

enum { SD_CUDA_BUCKETS = 512 }; /* by a variable's address */

struct sd_cuda {
    struct sd_backend base;
    int device;
    cudaStream_t stream;
    struct sd_cuda_memory *frozen[SD_CUDA_BUCKETS], *states[SD_CUDA_BUCKETS]; /* device memory of variables */
    size_t frozen_bytes;
    struct sd_cuda_libraries *libraries;
    struct sd_cuda_products *products;
};

static inline struct sd_cuda *sd_cuda_of(const struct sd_call *c)
{
    return reinterpret_cast<struct sd_cuda *>(c->backend);
}

static inline cudaStream_t sd_cuda_stream(const struct sd_call *c)
{
    return sd_cuda_of(c)->stream;
}

/* 0, or -1 with err set to "what: CUDA's message". */
int sd_cuda_check(cudaError_t status, const char *what, struct sd_err *err);

/* What struct sd_plugin has under these names. */
struct sd_device_info;
int sd_cuda_count(struct sd_err *err);
int sd_cuda_describe(int index, struct sd_device_info *info, struct sd_err *err);
/* 0 when there is a device of that number, and it is one that kernels are built for. */
int sd_cuda_check_device(int index, struct sd_err *err);

/* Device memory that lives until sd_cuda_free; NULL with err set to what was asked for and what is free. */
void *sd_cuda_alloc(struct sd_cuda *cuda, size_t bytes, struct sd_err *err);
void sd_cuda_free(void *memory);

/* A variable's values as dtype in device memory of their own, which the caller frees: for kernels that hold
 * packed copies. NULL with err set. */
void *sd_cuda_upload(struct sd_cuda *cuda, const struct sd_var *var, enum sd_dtype dtype, struct sd_err *err);

/* Ends what cuBLASLt and cuDNN hold; NULL does nothing. */
void sd_cuda_libraries_close(struct sd_cuda_libraries *l);

/* "cuBLASLt 13.0.2, cuDNN 9.19.0" as found for a driver of that CUDA version, or what is missing of them. */
void sd_cuda_libraries_text(int driver, char *text, size_t size);

/* plan() of kernels that take f32, f16 and bf16 only. */
int sd_cuda_plan_floats(struct sd_call *c, struct sd_err *err);

/* --- products: matmul, conv2d, attention --- */

/* What a library refused in a run, or NULL: run() cannot fail, so whoever waits for the device asks. */
const struct sd_err *sd_cuda_run_error(const struct sd_cuda *cuda);

/* Ends what products.h holds for a backend: cached plans, packed weights. Before the libraries' end. */
void sd_cuda_products_free(struct sd_cuda *cuda);

/* The kernels, one an op; backend.cu lists them in its table. */
extern "C" {
#define OP(name, ...) extern const struct sd_kernel sd_cuda_##name;
#include "tensor/ops.def"
#undef OP
}

#endif
