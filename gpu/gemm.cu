#include "gemm.h"

namespace
{

constexpr int TILE = 64, DEPTH = 16, EACH = 4; /* a block's part of y; steps of k; a thread's part: 4x4 */
constexpr int PITCH = TILE + 4;                /* of shared rows: spreads columns over banks */

__device__ float load(const void *p, sd_dtype type, int64_t i)
{
    if (type == SD_F32)
        return static_cast<const float *>(p)[i];
    return type == SD_BF16 ? to_f32(static_cast<const __nv_bfloat16 *>(p)[i])
                           : to_f32(static_cast<const __half *>(p)[i]);
}

__device__ void store(void *p, sd_dtype type, int64_t i, float x)
{
    if (type == SD_F32)
        static_cast<float *>(p)[i] = x;
    else if (type == SD_BF16)
        static_cast<__nv_bfloat16 *>(p)[i] = from_f32<__nv_bfloat16>(x);
    else
        static_cast<__half *>(p)[i] = from_f32<__half>(x);
}

/* DEPTH x TILE of a factor into shared memory, zeros outside. along_k: k runs along stored rows. */
template <typename T>
__device__ void fetch(float *to, const T *from, int64_t ld, bool along_k, int64_t first, int64_t count,
                      int64_t k0, int64_t k_count)
{
    for (int i = threadIdx.x; i < TILE * DEPTH; i += SD_THREADS) {
        int k = along_k ? i % DEPTH : i / TILE, x = along_k ? i / DEPTH : i % TILE;
        bool inside = first + x < count && k0 + k < k_count;
        int64_t at = along_k ? (first + x) * ld + k0 + k : (k0 + k) * ld + first + x;
        to[k * PITCH + x] = inside ? to_f32(from[at]) : 0.0f;
    }
}

/* Tile t of all tiles of all products. Sums run over DEPTH values at a time, so that they lose little. */
template <typename T>
__global__ void __launch_bounds__(SD_THREADS)
    gemm_tiled_kernel(sd_cuda_gemm g, const T *a, const T *b, const void *bias, const void *acc, void *y)
{
    SD_SHARED(float, as, DEPTH *PITCH);
    SD_SHARED(float, bs, DEPTH *PITCH);
    int64_t across = (g.n + TILE - 1) / TILE, down = (g.m + TILE - 1) / TILE;
    int row = threadIdx.x / 16 * EACH, col = threadIdx.x % 16 * EACH;
    for (int64_t t = blockIdx.x; t < across * down * g.batch; t += gridDim.x) {
        int64_t i = t / (across * down), m0 = t / across % down * TILE, n0 = t % across * TILE;
        float sum[EACH][EACH] = {};
        for (int64_t k0 = 0; k0 < g.k; k0 += DEPTH) {
            fetch(&as[0], a + i * g.step_a, g.lda, !g.trans_a, m0, g.m, k0, g.k);
            fetch(&bs[0], b + i * g.step_b, g.ldb, g.trans_b, n0, g.n, k0, g.k);
            __syncthreads();
            float part[EACH][EACH] = {};
            for (int k = 0; k < DEPTH; k++)
                for (int r = 0; r < EACH; r++)
                    for (int c = 0; c < EACH; c++)
                        part[r][c] += as[k * PITCH + row + r] * bs[k * PITCH + col + c];
            for (int r = 0; r < EACH; r++)
                for (int c = 0; c < EACH; c++)
                    sum[r][c] += part[r][c];
            __syncthreads();
        }
        for (int r = 0; r < EACH; r++)
            for (int c = 0; c < EACH; c++) {
                int64_t m = m0 + row + r, n = n0 + col + c;
                if (m >= g.m || n >= g.n)
                    continue;
                int64_t at = i * g.step_y + m * g.ldy + n;
                float x = g.scale * sum[r][c];
                if (bias)
                    x += load(bias, g.bias_type, n);
                if (acc)
                    x += load(acc, g.out, at);
                store(y, g.out, at, x);
            }
    }
}

__global__ void bias_cast_kernel(int64_t n, const float *from, void *to, sd_dtype type)
{
    for (int64_t i = sd_first(); i < n; i += sd_stride())
        store(to, type, i, from[i]);
}

} // namespace

struct sd_cuda_gemm sd_cuda_gemm_dense(int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b,
                                       enum sd_dtype in, enum sd_dtype out)
{
    struct sd_cuda_gemm g = {};
    g.m = m;
    g.n = n;
    g.k = k;
    g.batch = 1;
    g.trans_a = trans_a;
    g.trans_b = trans_b;
    g.lda = trans_a ? m : k;
    g.ldb = trans_b ? k : n;
    g.ldy = n;
    g.in = in;
    g.out = out;
    g.bias_type = SD_F32;
    g.scale = 1;
    g.align = 16;
    return g;
}

int sd_cuda_gemm_prepare(struct sd_cuda *cuda, const struct sd_cuda_gemm *g, struct sd_cuda_gemm_plan *plan,
                         struct sd_err *err)
{
    *plan = {};
    plan->g = *g;
    if (sd_cuda_require(cuda, SD_CUDA_CUBLASLT, err))
        return -1;
    if (g->m == 0 || g->n == 0 || g->batch == 0)
        return 0;
    size_t workspace = 0;
    if (g->k && sd_cuda_allows(cuda, SD_CUDA_CUBLASLT))
        plan->algo = sd_cuda_gemm_find(cuda, g, &workspace);
    workspace = (workspace + 15) & ~static_cast<size_t>(15);
    if (plan->algo && g->bias && g->bias_type != g->out)
        plan->bias_bytes = static_cast<size_t>(g->n) * sd_dtype_size(g->out);
    plan->scratch_bytes = workspace + plan->bias_bytes;
    return 0;
}

void sd_cuda_bias_cast(cudaStream_t stream, int64_t n, const void *from, void *to, enum sd_dtype type)
{
    sd_launch(stream, sd_grid(n), SD_THREADS, 0, bias_cast_kernel, n, static_cast<const float *>(from), to,
              type);
}

static void run_tiled(struct sd_cuda *cuda, const struct sd_cuda_gemm *g, const void *a, const void *b,
                      const void *bias, const void *acc, void *y)
{
    int64_t tiles = (g->m + TILE - 1) / TILE * ((g->n + TILE - 1) / TILE) * g->batch;
    dim3 grid(static_cast<unsigned>(tiles < 65536 ? tiles : 65536));
    sd_by_type(g->in, [&](auto t) {
        using T = decltype(t);
        sd_launch(cuda->stream, grid, SD_THREADS, 0, gemm_tiled_kernel<T>, *g, static_cast<const T *>(a),
                  static_cast<const T *>(b), bias, acc, y);
    });
}

void sd_cuda_gemm_run(struct sd_cuda *cuda, const struct sd_cuda_gemm_plan *plan, const void *a,
                      const void *b, const void *bias, const void *acc, void *y, void *scratch)
{
    const struct sd_cuda_gemm *g = &plan->g;
    if (g->m == 0 || g->n == 0 || g->batch == 0)
        return;
    if (!plan->algo) {
        run_tiled(cuda, g, a, b, bias, acc, y);
        return;
    }
    if (plan->bias_bytes) {
        void *cast = static_cast<char *>(scratch) + (plan->scratch_bytes - plan->bias_bytes);
        sd_cuda_bias_cast(cuda->stream, g->n, bias, cast, g->out);
        bias = cast;
    }
    sd_cuda_gemm_call(cuda, plan->algo, a, b, bias, acc, y, scratch);
}

int sd_cuda_bias_plan(struct sd_call *c, int i, enum sd_dtype out, struct sd_cuda_bias *bias,
                      struct sd_err *err)
{
    *bias = {SD_F32, NULL};
    struct sd_var *var = c->node->in[i] ? sd_cuda_frozen_var(c->node->in[i]) : NULL;
    if (!var || out == SD_F32)
        return 0;
    *bias = {out, c->backend->frozen(c->backend, var, out, err)};
    c->in_unused[i] = bias->frozen != NULL;
    return bias->frozen ? 0 : -1;
}
