/* y = scale * op(a) op(b) + bias + acc in bfloat16 on AMX tiles, with f32 sums over the whole of k, rounded
 * once.
 *
 * Determinism: every element is summed in the order of k, cut at places that k alone sets; the number of
 * threads does not show in the result. Ownership: everything is the caller's; nothing is allocated. Nothing
 * here fails. */
#ifndef SD_TENSOR_CPU_GEMM_AMX_H
#define SD_TENSOR_CPU_GEMM_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* op(a) is [m, k], stored [k, m] if trans_a; op(b) is [k, n], stored [n, k] if trans_b; y and acc are [m, n].
 */
struct sd_gemm {
    int64_t m, n, k;
    bool trans_a, trans_b;
    bool y_f32; /* y and acc are f32, not bf16 */
    float scale;
};

/* Whether this machine can run it. Asks the system. */
bool sd_gemm_runs(void);
/* Whether this shape is what it is made for. */
bool sd_gemm_fits(const struct sd_gemm *g);
/* Bytes of 64-byte aligned scratch with the present omp_get_max_threads(), which must be the same for the
 * run. */
size_t sd_gemm_scratch(const struct sd_gemm *g);
/* bias [n] and acc may be NULL; acc may be y. */
void sd_gemm_run(const struct sd_gemm *g, const void *a, const void *b, const float *bias, const void *acc,
                 void *y, void *scratch);

#endif
