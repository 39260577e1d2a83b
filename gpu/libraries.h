/* cuBLASLt and cuDNN, opened at their first use: the plugin loads without them, and any version 12 or 13 of
 * cublasLt and any 9 of cuDNN will do. GPU machines often have them in Python packages only, so those are
 * searched too (places.cu). Functions are called through these tables. */
#ifndef SD_GPU_LIBRARIES_H
#define SD_GPU_LIBRARIES_H

#include "cuda.h"

#include <cublasLt.h>
#include <cudnn.h>

#define SD_CUBLASLT_FUNCTIONS(X)            \
    X(cublasLtCreate)                       \
    X(cublasLtDestroy)                      \
    X(cublasLtGetVersion)                   \
    X(cublasLtGetStatusString)              \
    X(cublasLtMatmulDescCreate)             \
    X(cublasLtMatmulDescDestroy)            \
    X(cublasLtMatmulDescSetAttribute)       \
    X(cublasLtMatrixLayoutCreate)           \
    X(cublasLtMatrixLayoutDestroy)          \
    X(cublasLtMatrixLayoutSetAttribute)     \
    X(cublasLtMatmulPreferenceCreate)       \
    X(cublasLtMatmulPreferenceDestroy)      \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulAlgoGetHeuristic)       \
    X(cublasLtMatmul)

#define SD_CUDNN_FUNCTIONS(X)        \
    X(cudnnGetVersion)               \
    X(cudnnGetErrorString)           \
    X(cudnnCreate)                   \
    X(cudnnDestroy)                  \
    X(cudnnSetStream)                \
    X(cudnnBackendCreateDescriptor)  \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute)      \
    X(cudnnBackendGetAttribute)      \
    X(cudnnBackendFinalize)          \
    X(cudnnBackendExecute)

struct sd_cublaslt {
#define X(name) decltype(::name) *name;
    SD_CUBLASLT_FUNCTIONS(X)
#undef X
    void *library;
    cublasLtHandle_t handle;
};

struct sd_cudnn {
#define X(name) decltype(::name) *name;
    SD_CUDNN_FUNCTIONS(X)
#undef X
    void *library;
    int major;            /* of the device's compute capability */
    char card[128];       /* what plans depend on: its name, capability, processors; empty: keep none */
    size_t version;       /* 91900 for 9.19.0 */
    cudnnHandle_t handle; /* NULL when opened without a device */
    /* Without a device, for tests: the properties of one that plans are made for (cuDNN 9.8 on). */
    cudnnBackendDescriptor_t device;
};

/* The backend's, opened and given a handle at the first call. NULL when it cannot be had, whose reason
 * sd_cuda_require tells. */
const struct sd_cublaslt *sd_cublaslt_of(struct sd_cuda *cuda);
const struct sd_cudnn *sd_cudnn_of(struct sd_cuda *cuda);

/* For tests: the functions alone, no handle. 0, or -1 with err set. Close with sd_cudnn_close. */
int sd_cublaslt_open(struct sd_cublaslt *l, int driver, struct sd_err *err);
void sd_cublaslt_close(struct sd_cublaslt *l);
int sd_cudnn_open(struct sd_cudnn *l, int driver, struct sd_err *err);
void sd_cudnn_close(struct sd_cudnn *l);

#endif
