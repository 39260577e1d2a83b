/* Row softmax and its backward, for attention made of products: with scores S = q k^T of one or more heads,
 *
 *     forward    p = softmax(scale S), lse;  y = p v
 *     backward   p = exp(scale S - lse);  dv = p^T dy;  delta = rowsum(dy y);  dp = dy v^T;
 *                ds = p (dp - delta);  dq = scale ds k;  dk = scale ds^T q
 *
 * All functions only enqueue on the stream. Sums are f32; lse and delta are f32, one a row. */
#ifndef SD_GPU_SOFTMAX_H
#define SD_GPU_SOFTMAX_H

#include "kernel.h"

/* A matrix of scores. Row r is the query (first + r) % queries of some head, so that any run of the rows of
 * [N, heads, queries, cols] can be worked on by itself. */
struct sd_softmax {
    int64_t rows, cols;
    int64_t stride; /* elements from one row to the next, at least cols; those past cols are left alone */
    int64_t queries, first;
    float scale;
    bool causal; /* query i sees columns 0..i only; p and ds are 0 in the others */
};

/* p = softmax(scale * scores) by rows, and lse [rows] (may be NULL): the log of the sum of exp(scale *
 * score). p may be the scores' own memory when the types are the same. Types are f32, f16 or bf16, each its
 * own. */
void sd_cuda_softmax(cudaStream_t stream, const struct sd_softmax *s, const void *scores,
                     enum sd_dtype scores_type, void *p, enum sd_dtype p_type, float *lse);

/* The same p from the lse that the forward kept. */
void sd_cuda_softmax_again(cudaStream_t stream, const struct sd_softmax *s, const void *scores,
                           enum sd_dtype scores_type, void *p, enum sd_dtype p_type, const float *lse);

/* delta[n,h,t] = sum over a head's d channels of dy * y; both are [n, t, heads, d] of a type, dense. */
void sd_cuda_softmax_delta(cudaStream_t stream, int64_t n, int64_t t, int64_t heads, int64_t d,
                           const void *dy, const void *y, enum sd_dtype type, float *delta);

/* ds = p * (dp - delta) by rows, in p's type; ds may be p's own memory, or dp's when the types are the same.
 * s->scale and s->causal are not used: p is 0 where a key is not seen. */
void sd_cuda_softmax_bwd(cudaStream_t stream, const struct sd_softmax *s, const void *p, enum sd_dtype p_type,
                         const void *dp, enum sd_dtype dp_type, const float *delta, void *ds);

#endif
