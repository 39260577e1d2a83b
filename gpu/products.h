/* What the ops made of products share in one backend: which paths are allowed and were taken, weights packed
 * once for all plans, and the libraries' cached plans. */
#ifndef SD_GPU_PRODUCTS_H
#define SD_GPU_PRODUCTS_H

#include "kernel.h"

struct sd_cuda_gemm_algo; /* gemm_cublas.cu */
struct sd_cudnn_plan;     /* dnn.h */
struct sd_cuda_packed;

/* Paths that SD_CUDA_WITHOUT, a list of these names parted by commas, forbids: so that every fallback can be
 * tested on a device whose libraries take all cases. */
enum sd_cuda_feature {
    SD_CUDA_CUBLASLT, /* "cublaslt": else the tiled kernel */
    SD_CUDA_CUDNN,    /* "cudnn": else im2col and products */
    SD_CUDA_FUSION,   /* "fusion": else cuDNN's convolution and a kernel for bias and sum */
    SD_CUDA_SDPA,     /* "sdpa": else attention by products */
    SD_CUDA_GRAPHS,   /* "graphs": else each run enqueues its kernels one by one, nothing is recorded */
};

/* How much scratch a fallback works in at a time; in the emulator little, so that small tests need several
 * rounds too. */
constexpr size_t sd_cuda_bound(size_t mebibytes)
{
#ifdef SD_GPU_EMULATED
    return mebibytes << 6;
#else
    return mebibytes << 20;
#endif
}

struct sd_cuda_products {
    unsigned without; /* a bit a feature */
    struct sd_cuda_packed *packed;
    struct sd_cuda_gemm_algo *gemms;
    struct sd_cudnn_plan *plans;
    struct sd_err run_error;
};

/* Zeroed memory of a kernel's own as c->state, for ops on f32, f16 and bf16. */
int sd_cuda_make_state(struct sd_call *c, size_t bytes, struct sd_err *err);
/* Makes a backend's, when it is opened: 0, or -1 with err set when memory is out or SD_CUDA_WITHOUT makes no
 * sense. */
int sd_cuda_products_make(struct sd_cuda *cuda, struct sd_err *err);
bool sd_cuda_allows(const struct sd_cuda *cuda, enum sd_cuda_feature feature);
/* Opens the library of SD_CUDA_CUBLASLT or SD_CUDA_CUDNN unless it is forbidden; -1 with err set to where it
 * was looked for: computing many times slower than the card can is not done unasked. */
int sd_cuda_require(struct sd_cuda *cuda, enum sd_cuda_feature feature, struct sd_err *err);
/* drop() of kernels whose state is one allocation. */
void sd_cuda_drop_state(struct sd_call *c);

/* Scratch is cut at multiples of 256 bytes, which suit every access. */
static inline size_t sd_cuda_round_up(size_t bytes)
{
    return (bytes + 255) & ~static_cast<size_t>(255);
}

/* Keeps the first message of a run: "what: message". */
void sd_cuda_run_failed(struct sd_cuda *cuda, const char *what, const char *message);

/* The frozen variable that t is, or is a reshape of; else NULL. */
struct sd_var *sd_cuda_frozen_var(const struct sd_tensor *t);

/* --- convolution filters --- */

/* [O,C,kh,kw] as a matrix of rows of `row` elements, zeros after the last that has a meaning:
 *     SD_FILTER_KRSC  row o: [kh,kw,C]; with row = kh*kw*C the layout of cuDNN's NHWC filters
 *     SD_FILTER_CRSK  row c: [kh,kw,O] */
enum sd_filter { SD_FILTER_KRSC, SD_FILTER_CRSK };

struct sd_filter_shape {
    int64_t o, c, kh, kw, row;
};

int64_t sd_filter_rows(enum sd_filter layout, const struct sd_filter_shape *s);

/* Enqueues the packing of a filter of from_type on the device. */
void sd_filter_pack(cudaStream_t stream, enum sd_filter layout, const struct sd_filter_shape *s,
                    const void *from, enum sd_dtype from_type, void *to, enum sd_dtype to_type);
/* Enqueues the reverse of KRSC, to f32. */
void sd_filter_unpack(cudaStream_t stream, const struct sd_filter_shape *s, const void *from,
                      enum sd_dtype from_type, float *to);
/* A frozen filter packed on the device, once for all plans; NULL with err set. */
const void *sd_filter_packed(struct sd_cuda *cuda, struct sd_var *var, enum sd_filter layout,
                             const struct sd_filter_shape *s, enum sd_dtype type, struct sd_err *err);

/* Owners of lists above. */
void sd_cuda_gemms_free(struct sd_cuda *cuda);
void sd_cudnn_plans_free(struct sd_cuda *cuda);

#endif
