/* Makes t/data/rng/philox.txt by the real curand: its Philox engine and curand_normal4, on the host, in the
 * loops of PyTorch's distribution_elementwise_grid_stride_kernel (ATen/native/cuda/DistributionTemplates.h).
 *
 *     nvcc -o philox t/ref/philox.cu && ./philox > t/data/rng/philox.txt       (CUDA 13.0; no card is needed)
 *
 * A line a draw: seed, offset before and after, threads a card runs at once (0: unlimited), elements; then up
 * to 40 values, evenly spread over the elements. Sine and cosine are the host's: a card's differ in the last
 * bits. */
#define QUALIFIERS static __forceinline__ __host__ __device__
#include <curand_kernel.h>

#include <algorithm>
#include <cstdio>
#include <vector>

static void draw(unsigned long long seed, unsigned long long offset, unsigned long long threads,
                 long long numel)
{
    long long blocks = (numel + 255) / 256;
    if (threads)
        blocks = std::min<long long>(blocks, threads / 256);
    long long grid = blocks * 256, rounds = (numel - 1) / (grid * 4) + 1;
    std::vector<float> y(numel);
    for (long long idx = 0; idx < grid; idx++) {
        curandStatePhilox4_32_10_t state;
        curand_init(seed, idx, offset, &state);
        for (long long at = idx; at < rounds * grid * 4; at += grid * 4) {
            float4 r = curand_normal4(&state);
            float v[4] = {r.x, r.y, r.z, r.w};
            for (int k = 0; k < 4; k++)
                if (at + grid * k < numel)
                    y[at + grid * k] = v[k];
        }
    }
    printf("%llu %llu %llu %llu %lld", seed, offset, offset + rounds * 4, threads, numel);
    long long shown = std::min(numel, 40LL);
    for (long long i = 0; i < shown; i++)
        printf(" %.9g", y[shown < 2 ? 0 : i * (numel - 1) / (shown - 1)]);
    printf("\n");
}

int main()
{
    draw(0, 0, 0, 1);
    draw(42, 0, 0, 16384);
    draw(42, 4, 0, 16384);
    draw(1234567890123456789ULL, 0, 0, 257);
    draw(18446744073709551615ULL, 17179869180ULL, 0, 1000);
    draw(42, 0, 256, 256);
    draw(42, 0, 256, 1000);
    draw(42, 12, 512, 5000);
    draw(7, 0, 30720, 65536);
    draw(7, 0, 270336, 1600000);
}
