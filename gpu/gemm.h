/* y = scale * op(a) op(b) + bias + acc for row-major matrices, any number of them at a fixed distance.
 *
 * A plan is made once: by cuBLASLt (in the emulator by plain loops in its place) where that takes the case,
 * else for the tiled kernel of gemm.cu, which takes all. Sums are f32. */
#ifndef SD_GPU_GEMM_H
#define SD_GPU_GEMM_H

#include "products.h"

struct sd_cuda_gemm {
    int64_t m, n, k;                /* op(a) [m,k], op(b) [k,n], y [m,n] */
    int64_t batch;                  /* how many products */
    bool trans_a, trans_b;          /* a is stored [k,m], b [n,k] */
    int64_t lda, ldb, ldy;          /* elements from one stored row to the next; acc's is ldy */
    int64_t step_a, step_b, step_y; /* elements from one product's matrix to the next's; acc's is step_y */
    enum sd_dtype in, out;          /* of a and b; of y and acc */
    enum sd_dtype bias_type;        /* f32, or out */
    bool bias, acc;                 /* bias [n], the same for the whole batch; acc may be y's memory */
    float scale;
    int align; /* bytes, a power of two up to 16, that divides all addresses run() will be given */
};

struct sd_cuda_gemm_plan {
    struct sd_cuda_gemm g;
    const struct sd_cuda_gemm_algo *algo; /* NULL: the tiled kernel */
    size_t bias_bytes; /* of scratch, at its end, for the bias in the type the library wants */
    size_t scratch_bytes;
};

/* A dense product with everything else as in g; dims and strides from m, n, k. */
struct sd_cuda_gemm sd_cuda_gemm_dense(int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b,
                                       enum sd_dtype in, enum sd_dtype out);

/* Nothing of a plan needs freeing. -1 with err set when memory is out. */
int sd_cuda_gemm_prepare(struct sd_cuda *cuda, const struct sd_cuda_gemm *g, struct sd_cuda_gemm_plan *plan,
                         struct sd_err *err);
/* Enqueues it. bias and acc are NULL where the plan has none. */
void sd_cuda_gemm_run(struct sd_cuda *cuda, const struct sd_cuda_gemm_plan *plan, const void *a,
                      const void *b, const void *bias, const void *acc, void *y, void *scratch);

/* The bias of an op: which type the plan should expect, and where it lies. A frozen bias is converted to the
 * result's type once, as the library wants it, and in_unused is set. */
struct sd_cuda_bias {
    enum sd_dtype type;
    const void *frozen; /* NULL: c->in[i], f32 */
};
int sd_cuda_bias_plan(struct sd_call *c, int i, enum sd_dtype out, struct sd_cuda_bias *bias,
                      struct sd_err *err);
/* Enqueues the conversion of n f32 to type. */
void sd_cuda_bias_cast(cudaStream_t stream, int64_t n, const void *from, void *to, enum sd_dtype type);

/* --- the library: gemm_cublas.cu, gemm_emulated.cc --- */

/* The way to compute g, cached; NULL when the library does not take it. Its bias is of type out. */
const struct sd_cuda_gemm_algo *sd_cuda_gemm_find(struct sd_cuda *cuda, const struct sd_cuda_gemm *g,
                                                  size_t *workspace);
void sd_cuda_gemm_call(struct sd_cuda *cuda, const struct sd_cuda_gemm_algo *algo, const void *a,
                       const void *b, const void *bias, const void *acc, void *y, void *workspace);

#endif
