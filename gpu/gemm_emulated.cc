/* In the emulator's build: products by plain loops in cuBLASLt's place, a block of one thread a row. What
 * cuBLASLt may refuse, this refuses too, so that the tiled kernel has its share of the tests. */
#include "gemm.h"

#include <stdlib.h>

struct sd_cuda_gemm_algo {
    struct sd_cuda_gemm_algo *next;
    struct sd_cuda_gemm g;
};

namespace
{

constexpr int COLUMNS = 256; /* of y at a time: their sums stay in cache */

template <typename In, typename Out>
__global__ void gemm_plain_kernel(sd_cuda_gemm g, const In *a, const In *b, const Out *bias, const Out *acc,
                                  Out *y)
{
    int64_t i = blockIdx.x / g.m, m = blockIdx.x % g.m;
    a += i * g.step_a;
    b += i * g.step_b;
    for (int64_t n0 = 0; n0 < g.n; n0 += COLUMNS) {
        double sum[COLUMNS] = {};
        int64_t columns = g.n - n0 < COLUMNS ? g.n - n0 : COLUMNS;
        for (int64_t k = 0; k < g.k; k++) {
            double x = static_cast<double>(to_f32(a[g.trans_a ? k * g.lda + m : m * g.lda + k]));
            for (int64_t n = 0; n < columns; n++)
                sum[n] +=
                    x * static_cast<double>(to_f32(b[g.trans_b ? (n0 + n) * g.ldb + k : k * g.ldb + n0 + n]));
        }
        for (int64_t n = 0; n < columns; n++) {
            int64_t at = i * g.step_y + m * g.ldy + n0 + n;
            float r = g.scale * static_cast<float>(sum[n]) + (acc ? to_f32(acc[at]) : 0.0f);
            y[at] = from_f32<Out>(r + (bias ? to_f32(bias[n0 + n]) : 0.0f));
        }
    }
}

} // namespace

const struct sd_cuda_gemm_algo *sd_cuda_gemm_find(struct sd_cuda *cuda, const struct sd_cuda_gemm *g,
                                                  size_t *workspace)
{
    int64_t each = static_cast<int64_t>(sd_dtype_size(g->in));
    bool even = g->lda * each % 4 == 0 && g->ldb * each % 4 == 0 && g->m * g->batch <= 1 << 30;
    struct sd_cuda_gemm_algo *algo = even ? static_cast<sd_cuda_gemm_algo *>(calloc(1, sizeof *algo)) : NULL;
    if (!algo)
        return NULL;
    algo->g = *g;
    algo->next = cuda->products->gemms;
    cuda->products->gemms = algo;
    *workspace = 0;
    return algo;
}

void sd_cuda_gemm_call(struct sd_cuda *cuda, const struct sd_cuda_gemm_algo *algo, const void *a,
                       const void *b, const void *bias, const void *acc, void *y, void *)
{
    const struct sd_cuda_gemm *g = &algo->g;
    sd_by_type(g->in, [&](auto in) {
        sd_by_type(g->out, [&](auto out) {
            using In = decltype(in);
            using Out = decltype(out);
            sd_launch(cuda->stream, dim3(static_cast<unsigned>(g->m * g->batch)), dim3(1), 0,
                      gemm_plain_kernel<In, Out>, *g, static_cast<const In *>(a), static_cast<const In *>(b),
                      static_cast<const Out *>(bias), static_cast<const Out *>(acc), static_cast<Out *>(y));
        });
    });
}

void sd_cuda_gemms_free(struct sd_cuda *cuda)
{
    while (cuda->products->gemms) {
        struct sd_cuda_gemm_algo *next = cuda->products->gemms->next;
        free(cuda->products->gemms);
        cuda->products->gemms = next;
    }
}
