#include "softmax.h"

#include "rows.h"

#include <type_traits>

namespace
{

constexpr int ROWS =
    SD_THREADS / SD_WARP; /* of a block: a warp a row, as there are rows enough in attention */

__device__ int64_t first_row()
{
    return static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.x / SD_WARP;
}
__device__ int64_t row_stride()
{
    return static_cast<int64_t>(gridDim.x) * ROWS;
}
__device__ int64_t lane()
{
    return threadIdx.x % SD_WARP;
}

/* How many columns of a row are seen. */
__device__ int64_t seen(const sd_softmax &s, int64_t row)
{
    int64_t query = (s.first + row) % s.queries;
    return s.causal && query + 1 < s.cols ? query + 1 : s.cols;
}

/* The largest score so far and the sum of exp(score - largest), so that a row is read once for both (Milakov
 * and Gimelshein, Online normalizer calculation for softmax, 2018). fmaxf drops a NaN; the sum keeps it. */
struct peak {
    float max, sum;
};

/* exp(x - max), where both may be -INFINITY: nothing seen. */
__device__ float weight(float x, float max)
{
    return x == -INFINITY ? 0 : expf(x - max);
}

__device__ struct peak join(struct peak a, struct peak b)
{
    float max = fmaxf(a.max, b.max);
    return {max, a.sum * weight(a.max, max) + b.sum * weight(b.max, max)};
}

/* To every thread of the warp, the same: a pair is joined the same way round on both sides. */
__device__ struct peak warp_join(struct peak p)
{
    for (int step = SD_WARP / 2; step; step /= 2) {
        struct peak o = {__shfl_xor_sync(0xffffffffu, p.max, step),
                         __shfl_xor_sync(0xffffffffu, p.sum, step)};
        p = lane() & step ? join(o, p) : join(p, o);
    }
    return p;
}

template <int W>
__device__ void add_scores(const sd_wide<float, W> &score, float scale, int64_t n, struct peak &p)
{
    float max = p.max;
    for (int i = 0; i < W; i++)
        max = i < n ? fmaxf(max, scale * score.v[i]) : max;
    p.sum *= weight(p.max, max);
    for (int i = 0; i < W; i++)
        p.sum += i < n ? weight(scale * score.v[i], max) : 0;
    p.max = max;
}

template <typename S, typename P, int W>
__global__ void softmax_kernel(sd_softmax s, const S *scores, P *p, float *lse)
{
    for (int64_t row = first_row(); row < s.rows; row += row_stride()) {
        const S *from = scores + row * s.stride;
        P *to = p + row * s.stride;
        int64_t cols = seen(s, row);
        struct peak all = {-INFINITY, 0};
        for (int64_t k = lane(); k * W < cols; k += SD_WARP)
            add_scores(sd_load<W>(from, k), s.scale, cols - k * W, all);
        all = warp_join(all);
        float share = 1 / all.sum;
        for (int64_t k = lane(); k * W < s.cols; k += SD_WARP) {
            sd_wide<float, W> v = sd_load<W>(from, k);
            for (int i = 0; i < W; i++)
                v.v[i] = k * W + i < cols ? weight(s.scale * v.v[i], all.max) * share : 0;
            sd_store<W>(to, k, v);
        }
        if (lse && lane() == 0)
            lse[row] = all.max + logf(all.sum);
    }
}

template <typename S, typename P, int W>
__global__ void softmax_again_kernel(sd_softmax s, const S *scores, P *p, const float *lse)
{
    for (int64_t row = first_row(); row < s.rows; row += row_stride()) {
        int64_t cols = seen(s, row);
        float of = lse[row];
        for (int64_t k = lane(); k * W < s.cols; k += SD_WARP) {
            sd_wide<float, W> v = sd_load<W>(scores + row * s.stride, k);
            for (int i = 0; i < W; i++)
                v.v[i] = k * W + i < cols ? expf(s.scale * v.v[i] - of) : 0;
            sd_store<W>(p + row * s.stride, k, v);
        }
    }
}

template <typename P, typename D, int W>
__global__ void softmax_bwd_kernel(sd_softmax s, const P *p, const D *dp, const float *delta, P *ds)
{
    for (int64_t row = first_row(); row < s.rows; row += row_stride()) {
        float of = delta[row];
        for (int64_t k = lane(); k * W < s.cols; k += SD_WARP) {
            sd_wide<float, W> v = sd_load<W>(p + row * s.stride, k), d = sd_load<W>(dp + row * s.stride, k);
            for (int i = 0; i < W; i++)
                v.v[i] *= d.v[i] - of;
            sd_store<W>(ds + row * s.stride, k, v);
        }
    }
}

template <typename T>
__global__ void softmax_delta_kernel(int64_t rows, int64_t t, int64_t heads, int64_t d, const T *dy,
                                     const T *y, float *delta)
{
    for (int64_t row = first_row(); row < rows; row += row_stride()) { /* of [n, t, heads] */
        float sum = 0;
        for (int64_t k = lane(); k < d; k += SD_WARP)
            sum += to_f32(dy[row * d + k]) * to_f32(y[row * d + k]);
        sum = sd_warp_sum(sum);
        int64_t head = row % heads, query = row / heads % t, n = row / heads / t;
        if (lane() == 0)
            delta[(n * heads + head) * t + query] = sum;
    }
}

/* f(A{}, B{}, std::integral_constant<int, W>{}): units of W columns where rows and memory allow it. */
template <typename F>
void by_types(const struct sd_softmax &s, enum sd_dtype a, enum sd_dtype b, const void *x, const void *y,
              const void *z, F f)
{
    bool wide =
        s.cols % SD_WIDE == 0 && s.stride % SD_WIDE == 0 && sd_aligned(x) && sd_aligned(y) && sd_aligned(z);
    sd_by_type(a, [&](auto zero_a) {
        sd_by_type(b, [&](auto zero_b) {
            if (wide)
                f(zero_a, zero_b, std::integral_constant<int, SD_WIDE>{});
            else
                f(zero_a, zero_b, std::integral_constant<int, 1>{});
        });
    });
}

} // namespace

void sd_cuda_softmax(cudaStream_t stream, const struct sd_softmax *s, const void *scores,
                     enum sd_dtype scores_type, void *p, enum sd_dtype p_type, float *lse)
{
    by_types(*s, scores_type, p_type, scores, p, p, [&](auto from, auto to, auto width) {
        using S = decltype(from);
        using P = decltype(to);
        sd_launch(stream, sd_grid(s->rows, ROWS), dim3(SD_THREADS), 0, softmax_kernel<S, P, width()>, *s,
                  static_cast<const S *>(scores), static_cast<P *>(p), lse);
    });
}

void sd_cuda_softmax_again(cudaStream_t stream, const struct sd_softmax *s, const void *scores,
                           enum sd_dtype scores_type, void *p, enum sd_dtype p_type, const float *lse)
{
    by_types(*s, scores_type, p_type, scores, p, p, [&](auto from, auto to, auto width) {
        using S = decltype(from);
        using P = decltype(to);
        sd_launch(stream, sd_grid(s->rows, ROWS), dim3(SD_THREADS), 0, softmax_again_kernel<S, P, width()>,
                  *s, static_cast<const S *>(scores), static_cast<P *>(p), lse);
    });
}

void sd_cuda_softmax_delta(cudaStream_t stream, int64_t n, int64_t t, int64_t heads, int64_t d,
                           const void *dy, const void *y, enum sd_dtype type, float *delta)
{
    sd_by_type(type, [&](auto zero) {
        using T = decltype(zero);
        sd_launch(stream, sd_grid(n * t * heads, ROWS), dim3(SD_THREADS), 0, softmax_delta_kernel<T>,
                  n * t * heads, t, heads, d, static_cast<const T *>(dy), static_cast<const T *>(y), delta);
    });
}

void sd_cuda_softmax_bwd(cudaStream_t stream, const struct sd_softmax *s, const void *p, enum sd_dtype p_type,
                         const void *dp, enum sd_dtype dp_type, const float *delta, void *ds)
{
    by_types(*s, p_type, dp_type, p, dp, ds, [&](auto p_zero, auto dp_zero, auto width) {
        using P = decltype(p_zero);
        using D = decltype(dp_zero);
        sd_launch(stream, sd_grid(s->rows, ROWS), dim3(SD_THREADS), 0, softmax_bwd_kernel<P, D, width()>, *s,
                  static_cast<const P *>(p), static_cast<const D *>(dp), delta, static_cast<P *>(ds));
    });
}
