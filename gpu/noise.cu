/* Offset and multi-resolution noise (graph.h tells what they are). */
#include "rows.h"

extern "C" {
#include "tensor/enlarge.h"
}

namespace
{

/* --- offset: a block a channel of a sample --- */

struct planes {
    int64_t n, area, channels;
};

__global__ void noise_offset_kernel(struct planes p, const float *x, const float *__restrict__ normal,
                                    const float *__restrict__ strength, const float *__restrict__ latents,
                                    float *y)
{
    SD_SHARED(double, spare, SD_WARP);
    for (int64_t plane = blockIdx.x; plane < p.n; plane += gridDim.x) {
        int64_t sample = plane / p.channels, first = sample * p.area * p.channels + plane % p.channels;
        float s = strength[0];
        if (latents) {
            double sum = 0;
            for (int64_t i = threadIdx.x; i < p.area; i += blockDim.x)
                sum += static_cast<double>(latents[first + i * p.channels]);
            float mean = static_cast<float>(sd_block_sum(sum, spare) / static_cast<double>(p.area));
            s = fmaxf(0, s + strength[1] * fabsf(mean));
        }
        s *= normal[plane];
        for (int64_t i = threadIdx.x; i < p.area; i += blockDim.x)
            y[first + i * p.channels] = x[first + i * p.channels] + s;
    }
}

void noise_offset(const struct sd_call *c)
{
    const int64_t *dim = c->node->in[0]->dim;
    struct planes p = {dim[0] * dim[3], dim[1] * dim[2], dim[3]};
    sd_launch(sd_cuda_stream(c), sd_grid(p.n, 1), SD_THREADS, 0, noise_offset_kernel, p, sd_in<float>(c, 0),
              sd_in<float>(c, 1), sd_in<float>(c, 2), sd_in<float>(c, 3), sd_out<float>(c));
}

/* --- levels: the sum of all, and a block's part of its sums to scratch; then the quotient --- */

struct sums {
    double all, squares;
};

struct image {
    int64_t count, planes, height, width;
    sd_divider by_channels, by_width, by_height;
};

__global__ void levels_kernel(struct image d, int most, const float *x, const float *__restrict__ levels,
                              const float *__restrict__ turns, float *y, struct sums *__restrict__ parts)
{
    SD_SHARED(double, spare, SD_WARP);
    struct sums s = {0, 0};
    for (int64_t at = sd_first(); at < d.count; at += sd_stride()) {
        int64_t pixel = d.by_channels.quotient(at), row = d.by_width.quotient(pixel);
        int64_t sample = d.by_height.quotient(row), k = pixel - row * d.width, i = row - sample * d.height;
        int64_t plane = sample * d.by_channels.by + at - pixel * d.by_channels.by;
        float sum = x[at];
        const float *level = levels;
        for (int t = 0; t < most && turns[3 * t] > 0; t++) {
            int64_t h = static_cast<int64_t>(turns[3 * t]), w = static_cast<int64_t>(turns[3 * t + 1]);
            struct sd_between r = sd_between(i, h, d.height), c = sd_between(k, w, d.width);
            const float *low = level + (plane * h + r.low) * w, *high = level + (plane * h + r.high) * w;
            sum += turns[3 * t + 2] * sd_blend(sd_blend(low[c.low], low[c.high], c.share),
                                               sd_blend(high[c.low], high[c.high], c.share), r.share);
            level += d.planes * h * w;
        }
        y[at] = sum;
        s.all += static_cast<double>(sum);
        s.squares += static_cast<double>(sum) * static_cast<double>(sum);
    }
    s.all = sd_block_sum(s.all, spare);
    s.squares = sd_block_sum(s.squares, spare);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = s;
}

/* Each block adds up all parts, for they are few. */
__global__ void levels_quotient_kernel(int64_t count, int n_parts, const struct sums *__restrict__ parts,
                                       float *__restrict__ y)
{
    SD_SHARED(double, spare, SD_WARP);
    struct sums s = {0, 0};
    for (int i = static_cast<int>(threadIdx.x); i < n_parts; i += static_cast<int>(blockDim.x)) {
        s.all += parts[i].all;
        s.squares += parts[i].squares;
    }
    s.all = sd_block_sum(s.all, spare);
    s.squares = sd_block_sum(s.squares, spare);
    double n = static_cast<double>(count);
    float deviation = static_cast<float>(sqrt((s.squares - s.all * s.all / n) / (n - 1)));
    for (int64_t i = sd_first(); i < count; i += sd_stride())
        y[i] /= deviation;
}

int levels_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = sd_grid(sd_tensor_count(c->node->in[0])).x * sizeof(struct sums);
    return sd_cuda_plan_floats(c, err);
}

void noise_levels(const struct sd_call *c)
{
    const int64_t *dim = c->node->in[0]->dim;
    int64_t n = sd_tensor_count(c->node->in[0]);
    struct image d = {
        n, dim[0] * dim[3], dim[1], dim[2], sd_divider(dim[3]), sd_divider(dim[2]), sd_divider(dim[1])};
    dim3 grid = sd_grid(n);
    sd_launch(sd_cuda_stream(c), grid, SD_THREADS, 0, levels_kernel, d,
              static_cast<int>(c->node->in[2]->dim[0]), sd_in<float>(c, 0), sd_in<float>(c, 1),
              sd_in<float>(c, 2), sd_out<float>(c), static_cast<struct sums *>(c->scratch));
    sd_launch(sd_cuda_stream(c), grid, SD_THREADS, 0, levels_quotient_kernel, n, static_cast<int>(grid.x),
              static_cast<const struct sums *>(c->scratch), sd_out<float>(c));
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_noise_offset = {
    .plan = sd_cuda_plan_floats, .run = noise_offset, .drop = NULL};
const struct sd_kernel sd_cuda_noise_levels = {.plan = levels_plan, .run = noise_levels, .drop = NULL};
}
