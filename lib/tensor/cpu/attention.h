/* Scaled dot-product attention on the CPU, forward and backward, blocked: the [q_len, k_len] score matrix is
 * never stored.
 *
 *     s = scale * q k^T    p = softmax(s) over keys    o = p v    lse = log(sum(exp(s)))
 *     backward: p = exp(s - lse), dv = p^T do, dp = do v^T, ds = p * (dp - rowsum(do * o)),
 *               dq = scale * ds k, dk = scale * ds^T q
 *
 * after Dao, FlashAttention-2 (2023), with the scores held transposed (keys down, queries across the vector
 * lanes), so that maximum, sum and lse are plain vectors over queries.
 *
 * Types: f32 (bf16 = 0), or bfloat16 as uint16_t (bf16 = 1) with f32 accumulation and an f32 softmax. bf16
 * runs on AMX tiles where the processor has them, p and ds rounded to bf16 for the products; elsewhere in f32
 * arithmetic. f32 has AVX-512, AVX2 and plain builds of one source, picked at run time.
 *
 * Determinism: the result depends on the arguments and the kind of processor only, never on the number of
 * threads. Ownership: everything is the caller's; nothing is allocated. Nothing here fails. */
#ifndef SD_TENSOR_CPU_ATTENTION_H
#define SD_TENSOR_CPU_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/cpu/isa.h"

/* q, o: [batch, q_len, heads * head_dim]; k, v: [batch, k_len, heads * head_dim]. Consecutive tokens lie
 * `stride` elements apart, batch items q_len (k_len) tokens apart; a stride may exceed heads * head_dim (q,
 * k, v of one product). All sizes >= 1. Fast for head_dim up to 512. */
struct sd_attn {
    int64_t batch, heads, q_len, k_len, head_dim;
    int causal; /* query i sees keys 0..i */
    float scale;
    int64_t q_stride, k_stride, v_stride, o_stride;
};

struct sd_attn_kernels;

/* NULL where the set cannot run. AMX is for bf16 alone. Asks the system: once for a backend, not once for a
 * call. */
const struct sd_attn_kernels *sd_attn_kernels(enum sd_isa isa);

/* Bytes of 64-byte aligned scratch a call needs with the present omp_get_max_threads(): packed copies of the
 * inputs and, backward, f32 sums of dq, dk, dv. */
size_t sd_cpu_attn_fwd_scratch(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16);
size_t sd_cpu_attn_bwd_scratch(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16);

/* lse: [batch, heads, q_len], natural logarithm, or NULL. */
void sd_cpu_attn_fwd(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16, const void *q,
                     const void *k, const void *v, void *o, float *lse, void *scratch);

/* dout lies as o, dq as q, dk as k, dv as v (same strides); any of dq, dk, dv may be NULL: not wanted. The
 * results are overwritten, not added to; elements between tokens (a wider stride) are left alone. */
void sd_cpu_attn_bwd(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16, const void *q,
                     const void *k, const void *v, const void *o, const float *lse, const void *dout,
                     void *dq, void *dk, void *dv, void *scratch);

#endif
