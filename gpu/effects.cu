/* Effects: gradient sums, the global norm, moving averages. Each is over many tensors at once. */
#include "tables.h"

#include <float.h>

namespace
{

/* visit(x) for the second tensor of a piece's pair, as what it is. */
template <typename F> __device__ void by_second(const table<2> &t, const struct piece &p, F visit)
{
    const void *x = t.memory[p.set][1];
    if (t.type[p.set] == SD_BF16)
        visit(static_cast<const __nv_bfloat16 *>(x));
    else if (t.type[p.set] == SD_F16)
        visit(static_cast<const __half *>(x));
    else
        visit(static_cast<const float *>(x));
}

template <typename T> __device__ void add_piece(const struct piece &p, float *acc, const T *x)
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto sum = sd_load<W>(acc, i), more = sd_load<W>(x, i);
        for (int k = 0; k < W; k++)
            sum.v[k] += more.v[k];
        sd_store<W>(acc, i, sum);
    });
}

__global__ void accumulate_kernel(table<2> t)
{
    struct piece p = piece_of(t);
    float *acc = t.f32(p.set, 0);
    by_second(t, p, [&](const auto *x) { add_piece(p, acc, x); });
}

void accumulate(const struct sd_call *c)
{
    by_tables<2>(c, c->node->n_in / 2, [&](const table<2> &t, int, int64_t, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, accumulate_kernel, t);
    });
}

template <typename T>
__device__ void approach_piece(const struct piece &p, float rate, float *shadow, const T *x)
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto s = sd_load<W>(shadow, i), v = sd_load<W>(x, i);
        for (int k = 0; k < W; k++)
            s.v[k] += rate * (v.v[k] - s.v[k]);
        sd_store<W>(shadow, i, s);
    });
}

__global__ void ema_kernel(table<2> t, const float *rate)
{
    struct piece p = piece_of(t);
    float *shadow = t.f32(p.set, 0);
    by_second(t, p, [&](const auto *x) { approach_piece(p, *rate, shadow, x); });
}

void ema(const struct sd_call *c)
{
    int rate = c->node->n_in - 1;
    by_tables<2>(c, rate / 2, [&](const table<2> &t, int, int64_t, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, ema_kernel, t,
                  static_cast<const float *>(c->in[rate]));
    });
}

/* The sum of squares of each piece. */
__global__ void squares_kernel(table<1> t, double *sums)
{
    SD_SHARED(double, spare, SD_WARP);
    struct piece p = piece_of(t);
    const float *x = t.f32(p.set, 0);
    double sum = 0;
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto v = sd_load<W>(x, i);
        for (int k = 0; k < W; k++)
            sum += static_cast<double>(v.v[k]) * static_cast<double>(v.v[k]);
    });
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

__global__ void coefficient_kernel(int64_t pieces, const double *sums, double max_norm, const float *of,
                                   float *y)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < pieces; i += blockDim.x)
        sum += sums[i];
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x)
        return;
    double scale = of ? static_cast<double>(*of) : 1, norm = sqrt(sum) / scale;
    double coefficient = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    y[SD_CLIP_NORM] = static_cast<float>(norm);
    y[SD_CLIP_COEFFICIENT] = static_cast<float>((coefficient > 1 ? 1 : coefficient) / scale); /* NaN stays */
    y[SD_CLIP_SKIP] = of && !(sum <= DBL_MAX) ? 1 : 0;
}

int64_t clip_pieces(const struct sd_call *c)
{
    int64_t n = 0;
    for (int i = 0; i < c->node->n_in - 1; i++)
        n += (sd_tensor_count(c->node->in[i]) + PIECE - 1) / PIECE;
    return n;
}

int clip_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = static_cast<size_t>(clip_pieces(c)) * sizeof(double);
    return sd_cuda_plan_floats(c, err);
}

void clip(const struct sd_call *c)
{
    auto *sums = static_cast<double *>(c->scratch);
    int scale = c->node->n_in - 1;
    by_tables<1>(c, scale, [&](const table<1> &t, int, int64_t before, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, squares_kernel, t, sums + before);
    });
    sd_launch(sd_cuda_stream(c), dim3(1), dim3(1024), 0, coefficient_kernel, clip_pieces(c), sums,
              static_cast<double>(c->node->attr.scale), c->in[scale], c->out[0]);
}

/* One thread: the scale lives on the device, where the next step's backward starts from it. */
__global__ void loss_scale_kernel(struct sd_loss_scaling s, const float *clipping, float *scale,
                                  float *streak)
{
    float grown = *scale * s.growth, count = *streak + 1;
    if (clipping[SD_CLIP_SKIP] != 0) {
        *scale *= s.backoff;
        count = 0;
    } else if (count >= static_cast<float>(s.interval)) {
        if (grown <= FLT_MAX)
            *scale = grown;
        count = 0;
    }
    *streak = count;
}

void loss_scale(const struct sd_call *c)
{
    sd_launch(sd_cuda_stream(c), dim3(1), dim3(1), 0, loss_scale_kernel, c->node->attr.scaling, c->in[2],
              c->in[0], c->in[1]);
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_accumulate = {.plan = sd_cuda_plan_floats, .run = accumulate, .drop = NULL};
const struct sd_kernel sd_cuda_ema = {.plan = sd_cuda_plan_floats, .run = ema, .drop = NULL};
const struct sd_kernel sd_cuda_clip = {.plan = clip_plan, .run = clip, .drop = NULL};
const struct sd_kernel sd_cuda_loss_scale = {.plan = sd_cuda_plan_floats, .run = loss_scale, .drop = NULL};
}
