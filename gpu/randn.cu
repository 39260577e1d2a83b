/* Normal numbers of Philox generators, as curand makes them for PyTorch (base/philox.h tells how). Each
 * element computes all four numbers of its counter and keeps one; mostly PyTorch uses one of them only. */
#include "rows.h"

extern "C" {
#include "base/philox.h"
}

#include <math.h>

namespace
{

struct quad {
    uint32_t v[4];
};

__device__ quad philox(quad c, uint32_t k0, uint32_t k1)
{
    SD_UNROLL(10)
    for (int round = 0; round < 10; round++) {
        uint32_t low = 0xd2511f53u * c.v[0], low_high = __umulhi(0xd2511f53u, c.v[0]);
        uint32_t high = 0xcd9e8d57u * c.v[2], high_high = __umulhi(0xcd9e8d57u, c.v[2]);
        c = {{high_high ^ c.v[1] ^ k0, high, low_high ^ c.v[3] ^ k1, low}};
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return c;
}

/* The hardware's sine and cosine, for they are curand's: exact ones would not give PyTorch's bits. */
__device__ float box_muller(uint32_t x, uint32_t y, bool second)
{
    const float unit = 0x1p-32f, turn = 0x1p-32f * 6.2831855f;
    float radius = sqrtf(-2.0f * logf(fmaf(static_cast<float>(x), unit, unit / 2))), sine, cosine;
    __sincosf(fmaf(static_cast<float>(y), turn, turn / 2), &sine, &cosine);
    return radius * (second ? cosine : sine);
}

/* area and channels are 1 where the tensor is no image. */
__global__ void randn_kernel(int64_t n, sd_divider grid, sd_divider area, sd_divider channels,
                             const uint32_t *__restrict__ state, float *__restrict__ y)
{
    uint64_t offset = (state[2] | static_cast<uint64_t>(state[3]) << 32) / 4;
    for (int64_t i = sd_first(); i < n; i += sd_stride()) {
        int64_t row = channels.quotient(i), ch = i - row * channels.by;
        int64_t sample = area.quotient(row), pixel = row - sample * area.by;
        int64_t at = (sample * channels.by + ch) * area.by + pixel; /* as PyTorch counts */
        int64_t turn = grid.quotient(at), thread = at - turn * grid.by, draw = turn % 4;
        uint64_t counter = offset + static_cast<uint64_t>(turn / 4);
        quad r = philox({{static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                          static_cast<uint32_t>(thread), static_cast<uint32_t>(thread >> 32)}},
                        state[0], state[1]);
        y[i] = draw < 2 ? box_muller(r.v[0], r.v[1], draw & 1) : box_muller(r.v[2], r.v[3], draw & 1);
    }
}

void randn(const struct sd_call *c)
{
    const struct sd_tensor *y = c->node->out[0];
    int64_t n = sd_tensor_count(y);
    bool image = y->ndim == 4;
    uint64_t grid = sd_philox_grid(static_cast<uint64_t>(n), static_cast<uint64_t>(c->node->attr.threads));
    sd_launch(sd_cuda_stream(c), sd_grid(n), SD_THREADS, 0, randn_kernel, n,
              sd_divider(static_cast<int64_t>(grid)), sd_divider(image ? y->dim[1] * y->dim[2] : 1),
              sd_divider(image ? y->dim[3] : 1), static_cast<const uint32_t *>(c->in[0]),
              static_cast<float *>(c->out[0]));
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_randn = {.plan = NULL, .run = randn, .drop = NULL};
}
