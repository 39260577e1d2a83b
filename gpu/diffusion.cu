/* The forward diffusion and the loss. Tensors [N, ...] are rows, one a sample. */
#include "rows.h"

namespace
{

int64_t sample_length(const struct sd_tensor *x)
{
    int64_t n = sd_tensor_count(x);
    return n ? n / x->dim[0] : 1;
}

template <typename T> const T *in(const struct sd_call *c, int i)
{
    return static_cast<const T *>(c->in[i]);
}

/* --- mix --- */

template <int W>
__global__ void mix_kernel(int64_t units, sd_divider sample, const float *__restrict__ x,
                           const float *__restrict__ noise, const float *__restrict__ t,
                           const float *__restrict__ table, float *__restrict__ y)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t row = 2 * static_cast<int64_t>(t[sample.quotient(i)]);
        float a = table[row], b = table[row + 1];
        sd_wide<float, W> v = sd_load<W>(x, i), e = sd_load<W>(noise, i);
        for (int k = 0; k < W; k++)
            v.v[k] = a * v.v[k] + b * e.v[k];
        sd_store(y, i, v);
    }
}

template <int W> void mix_by(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[0];
    int64_t units = sd_tensor_count(x) / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, mix_kernel<W>, units,
              sd_divider(sample_length(x) / W), in<float>(c, 0), in<float>(c, 1), in<float>(c, 2),
              in<float>(c, 3), static_cast<float *>(c->out[0]));
}

void mix(const struct sd_call *c)
{
    bool wide = sd_aligned(c->in[0]) && sd_aligned(c->in[1]) && sd_aligned(c->out[0]);
    if (wide && sample_length(c->node->in[0]) % SD_WIDE == 0)
        mix_by<SD_WIDE>(c);
    else
        mix_by<1>(c);
}

/* --- mse: sums of squares, a part a block, to scratch; then the parts --- */

/* Threads add in doubles, once a unit. */
template <int W, typename T>
__global__ void mse_parts_kernel(int64_t units, sd_divider sample, const T *__restrict__ pred,
                                 const float *__restrict__ target, const float *__restrict__ weight,
                                 double *__restrict__ parts)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        sd_wide<float, W> p = sd_load<W>(pred, i), t = sd_load<W>(target, i);
        float squares = 0;
        for (int k = 0; k < W; k++)
            squares += (p.v[k] - t.v[k]) * (p.v[k] - t.v[k]);
        sum += static_cast<double>(weight[sample.quotient(i)]) * static_cast<double>(squares);
    }
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

__global__ void mse_kernel(int n_parts, double count, const double *__restrict__ parts, float *__restrict__ y)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n_parts; i += static_cast<int>(blockDim.x))
        sum += parts[i];
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        *y = static_cast<float>(sum / count);
}

constexpr int64_t MOST_PARTS = 1024;

/* By the shape alone: 4 wide units a thread, or more where that made too many parts. */
int parts_of(const struct sd_tensor *pred)
{
    int64_t parts = sd_tensor_count(pred) / (SD_THREADS * SD_WIDE * 4);
    return static_cast<int>(parts < 1 ? 1 : parts > MOST_PARTS ? MOST_PARTS : parts);
}

int mse_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = static_cast<size_t>(parts_of(c->node->in[0])) * sizeof(double);
    return sd_cuda_plan_floats(c, err);
}

template <int W, typename T> void mse_parts(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[0];
    sd_launch(sd_cuda_stream(c), parts_of(pred), SD_THREADS, 0, mse_parts_kernel<W, T>,
              sd_tensor_count(pred) / W, sd_divider(sample_length(pred) / W), in<T>(c, 0), in<float>(c, 1),
              in<float>(c, 2), static_cast<double *>(c->scratch));
}

void mse(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[0];
    bool wide = sd_aligned(c->in[0]) && sd_aligned(c->in[1]) && sample_length(pred) % SD_WIDE == 0;
    sd_by_type(pred->dtype, [&](auto t) {
        if (wide)
            mse_parts<SD_WIDE, decltype(t)>(c);
        else
            mse_parts<1, decltype(t)>(c);
    });
    sd_launch(sd_cuda_stream(c), 1, SD_THREADS, 0, mse_kernel, parts_of(pred),
              static_cast<double>(sd_tensor_count(pred)), static_cast<const double *>(c->scratch),
              static_cast<float *>(c->out[0]));
}

/* --- mse_bwd --- */

template <int W, typename T>
__global__ void mse_bwd_kernel(int64_t units, sd_divider sample, double count, const float *__restrict__ dy,
                               const T *__restrict__ pred, const float *__restrict__ target,
                               const float *__restrict__ weight, T *__restrict__ dpred)
{
    float mean = static_cast<float>(2.0 * static_cast<double>(*dy) / count);
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        float by = mean * weight[sample.quotient(i)];
        sd_wide<float, W> p = sd_load<W>(pred, i), t = sd_load<W>(target, i);
        for (int k = 0; k < W; k++)
            p.v[k] = by * (p.v[k] - t.v[k]);
        sd_store(dpred, i, p);
    }
}

template <int W, typename T> void mse_bwd_by(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[1];
    int64_t n = sd_tensor_count(pred), units = n / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, mse_bwd_kernel<W, T>, units,
              sd_divider(sample_length(pred) / W), static_cast<double>(n), in<float>(c, 0), in<T>(c, 1),
              in<float>(c, 2), in<float>(c, 3), static_cast<T *>(c->out[0]));
}

void mse_bwd(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[1];
    bool wide = sd_aligned(c->in[1]) && sd_aligned(c->in[2]) && sd_aligned(c->out[0]) &&
                sample_length(pred) % SD_WIDE == 0;
    sd_by_type(pred->dtype, [&](auto t) {
        if (wide)
            mse_bwd_by<SD_WIDE, decltype(t)>(c);
        else
            mse_bwd_by<1, decltype(t)>(c);
    });
}

} // namespace

extern "C" {
extern const struct sd_kernel sd_cuda_mix = {.plan = sd_cuda_plan_floats, .run = mix, .drop = nullptr};
extern const struct sd_kernel sd_cuda_mse = {.plan = mse_plan, .run = mse, .drop = nullptr};
extern const struct sd_kernel sd_cuda_mse_bwd = {
    .plan = sd_cuda_plan_floats, .run = mse_bwd, .drop = nullptr};
}
