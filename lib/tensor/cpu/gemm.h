/* y = scale * op(a) op(b) + bias + acc on the CPU, with f32 sums over the whole of k, rounded once.
 *
 * f32 has AVX-512, AVX2 and plain builds of one source. bfloat16 runs on AMX tiles where the processor has
 * them, elsewhere in f32 arithmetic.
 *
 * Determinism: every element is summed in the order of k, cut at places that the shape sets; the result
 * depends on the arguments and the kind of processor only, never on the number of threads. That is why
 * products do not go through oneDNN, which shares k out among threads. Ownership: everything is the caller's;
 * nothing is allocated. Nothing here fails. */
#ifndef SD_TENSOR_CPU_GEMM_H
#define SD_TENSOR_CPU_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/cpu/isa.h"

/* op(a) is [m, k], stored [k, m] if trans_a; op(b) is [k, n], stored [n, k] if trans_b; y and acc are [m, n].
 * All sizes >= 1. */
struct sd_gemm {
    int64_t m, n, k;
    bool trans_a, trans_b;
    bool bf16;  /* a and b; else f32 */
    bool y_f32; /* y and acc; else bf16 */
    float scale;
    bool packed_b; /* b is what pack() made */
};

struct sd_gemm_kernels {
    /* Bytes of 64-byte aligned scratch with the present omp_get_max_threads(), which must be the same for the
     * run. */
    size_t (*scratch)(const struct sd_gemm *g);
    /* bias is f32 [n]; bias and acc may be NULL; acc may be y. */
    void (*run)(const struct sd_gemm *g, const void *a, const void *b, const float *bias, const void *acc,
                void *y, void *scratch);
    /* The second factor packed for many runs. All three NULL: this set has nothing to gain from it. The form
     * is a number that two products of the same b share if one packing serves both. */
    size_t (*packed_bytes)(const struct sd_gemm *g);
    int (*packed_form)(const struct sd_gemm *g);
    void (*pack)(const struct sd_gemm *g, const void *b, void *packed);
};

/* NULL where the set cannot run. AMX is for bf16 factors alone. Asks the system: once for a backend, not once
 * for a call. */
const struct sd_gemm_kernels *sd_gemm_kernels(enum sd_isa isa);
const struct sd_gemm_kernels *sd_gemm_amx(void); /* NULL where it cannot be built */

#endif
