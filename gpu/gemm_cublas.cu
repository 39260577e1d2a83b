/* Products by cuBLASLt. It thinks in columns: our row-major y [m,n] is its y^T [n,m], so it is given
 * y^T = op(b)^T op(a)^T, where a stored row-major is already a^T. */
#include "gemm.h"

#include "libraries.h"

#include <stdlib.h>

namespace
{
constexpr uint64_t MAX_WORKSPACE = 32 << 20;
}

/* One case, its layouts and the algorithm the heuristics put first. Cases that the library does not take are
 * kept too, with takes false, for they come again. */
struct sd_cuda_gemm_algo {
    struct sd_cuda_gemm_algo *next;
    struct sd_cuda_gemm g;
    bool takes;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t first, second, y; /* of b, a and y */
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
};

namespace
{

cudaDataType_t type_of(sd_dtype t)
{
    return t == SD_F32 ? CUDA_R_32F : t == SD_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* As the library sees g; all results the library's first refusal or success. */
struct maker {
    const sd_cublaslt *lt;
    cublasStatus_t status;
};

template <typename T> void set(maker *m, cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, T value)
{
    if (m->status == CUBLAS_STATUS_SUCCESS)
        m->status = m->lt->cublasLtMatmulDescSetAttribute(d, name, &value, sizeof value);
}

template <typename T>
void set(maker *m, cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, T value)
{
    if (m->status == CUBLAS_STATUS_SUCCESS)
        m->status = m->lt->cublasLtMatmulPreferenceSetAttribute(p, name, &value, sizeof value);
}

/* A stored matrix of `rows` rows of `cols` elements, ld apart: cols x rows in columns. */
void make_layout(maker *m, cublasLtMatrixLayout_t *layout, sd_dtype type, int64_t rows, int64_t cols,
                 int64_t ld, int64_t batch, int64_t step)
{
    if (m->status == CUBLAS_STATUS_SUCCESS)
        m->status = m->lt->cublasLtMatrixLayoutCreate(layout, type_of(type), static_cast<uint64_t>(cols),
                                                      static_cast<uint64_t>(rows), ld);
    int32_t count = static_cast<int32_t>(batch);
    if (m->status == CUBLAS_STATUS_SUCCESS && batch > 1)
        m->status = m->lt->cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                            &count, sizeof count);
    if (m->status == CUBLAS_STATUS_SUCCESS && batch > 1)
        m->status = m->lt->cublasLtMatrixLayoutSetAttribute(
            *layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
}

void make_desc(maker *m, sd_cuda_gemm_algo *a, bool tf32)
{
    const sd_cuda_gemm *g = &a->g;
    m->status = m->lt->cublasLtMatmulDescCreate(
        &a->desc, tf32 && g->in == SD_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    set(m, a->desc, CUBLASLT_MATMUL_DESC_TRANSA,
        static_cast<int32_t>(g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(m, a->desc, CUBLASLT_MATMUL_DESC_TRANSB,
        static_cast<int32_t>(g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (g->bias) {
        set(m, a->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<uint32_t>(CUBLASLT_EPILOGUE_BIAS));
        set(m, a->desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(type_of(g->out)));
        /* The heuristics read the alignment off the address; run() sets the real one, as well aligned. */
        set(m, a->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<const void *>(uintptr_t(16)));
    }
    make_layout(m, &a->first, g->in, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, g->ldb, g->batch,
                g->step_b);
    make_layout(m, &a->second, g->in, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, g->lda, g->batch,
                g->step_a);
    make_layout(m, &a->y, g->out, g->m, g->n, g->ldy, g->batch, g->step_y);
}

/* The largest power of two, up to 16, that divides every matrix's address. */
uint32_t alignment(const sd_cuda_gemm *g, int64_t step, sd_dtype type)
{
    int64_t bytes = g->align | (g->batch > 1 ? step * static_cast<int64_t>(sd_dtype_size(type)) : 0);
    return static_cast<uint32_t>(bytes & -bytes);
}

void choose(maker *m, sd_cuda_gemm_algo *a)
{
    const sd_cuda_gemm *g = &a->g;
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    if (m->status == CUBLAS_STATUS_SUCCESS)
        m->status = m->lt->cublasLtMatmulPreferenceCreate(&pref);
    uint32_t y = alignment(g, g->step_y, g->out);
    set(m, pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, MAX_WORKSPACE);
    /* Sums of parts are made in f32, in memory of their own and in a fixed order. */
    set(m, pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(m, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(g, g->step_b, g->in));
    set(m, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(g, g->step_a, g->in));
    set(m, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y);
    set(m, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y);
    if (m->status == CUBLAS_STATUS_SUCCESS)
        m->status = m->lt->cublasLtMatmulAlgoGetHeuristic(m->lt->handle, a->desc, a->first, a->second, a->y,
                                                          a->y, pref, 1, &result, &found);
    if (pref)
        m->lt->cublasLtMatmulPreferenceDestroy(pref);
    a->takes = m->status == CUBLAS_STATUS_SUCCESS && found == 1 && result.state == CUBLAS_STATUS_SUCCESS &&
               result.workspaceSize <= MAX_WORKSPACE;
    a->algo = result.algo;
    a->workspace = a->takes ? result.workspaceSize : 0;
}

bool same(const sd_cuda_gemm *x, const sd_cuda_gemm *y)
{
    return x->m == y->m && x->n == y->n && x->k == y->k && x->batch == y->batch && x->trans_a == y->trans_a &&
           x->trans_b == y->trans_b && x->lda == y->lda && x->ldb == y->ldb && x->ldy == y->ldy &&
           x->step_a == y->step_a && x->step_b == y->step_b && x->step_y == y->step_y && x->in == y->in &&
           x->out == y->out && x->bias == y->bias && x->acc == y->acc && x->scale == y->scale &&
           x->align == y->align;
}

} // namespace

const struct sd_cuda_gemm_algo *sd_cuda_gemm_find(struct sd_cuda *cuda, const struct sd_cuda_gemm *g,
                                                  size_t *workspace)
{
    struct sd_cuda_gemm_algo *a = cuda->products->gemms;
    while (a && !same(&a->g, g))
        a = a->next;
    const struct sd_cublaslt *lt = a || g->batch > INT32_MAX ? NULL : sd_cublaslt_of(cuda);
    if (lt && (a = static_cast<sd_cuda_gemm_algo *>(calloc(1, sizeof *a)))) {
        maker m = {lt, CUBLAS_STATUS_SUCCESS};
        a->g = *g;
        make_desc(&m, a, cuda->base.tf32);
        choose(&m, a);
        a->next = cuda->products->gemms;
        cuda->products->gemms = a;
    }
    *workspace = a ? a->workspace : 0;
    return a && a->takes ? a : NULL;
}

void sd_cuda_gemm_call(struct sd_cuda *cuda, const struct sd_cuda_gemm_algo *algo, const void *a,
                       const void *b, const void *bias, const void *acc, void *y, void *workspace)
{
    const struct sd_cublaslt *lt = sd_cublaslt_of(cuda);
    maker m = {lt, CUBLAS_STATUS_SUCCESS};
    float zero = 0, one = 1;
    if (bias)
        set(&m, algo->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    if (m.status == CUBLAS_STATUS_SUCCESS)
        m.status = lt->cublasLtMatmul(lt->handle, algo->desc, &algo->g.scale, b, algo->first, a, algo->second,
                                      acc ? &one : &zero, acc ? acc : y, algo->y, y, algo->y, &algo->algo,
                                      workspace, algo->workspace, cuda->stream);
    if (m.status != CUBLAS_STATUS_SUCCESS)
        sd_cuda_run_failed(cuda, "cublasLt, a product", lt->cublasLtGetStatusString(m.status));
}

void sd_cuda_gemms_free(struct sd_cuda *cuda)
{
    const struct sd_cublaslt *lt = cuda->products->gemms ? sd_cublaslt_of(cuda) : NULL;
    while (cuda->products->gemms) {
        struct sd_cuda_gemm_algo *a = cuda->products->gemms;
        cuda->products->gemms = a->next;
        if (a->desc)
            lt->cublasLtMatmulDescDestroy(a->desc);
        if (a->first)
            lt->cublasLtMatrixLayoutDestroy(a->first);
        if (a->second)
            lt->cublasLtMatrixLayoutDestroy(a->second);
        if (a->y)
            lt->cublasLtMatrixLayoutDestroy(a->y);
        free(a);
    }
}
