#include "base/philox.h"

#include <math.h>

#define BLOCK 256 /* threads */
#define DRAWS 4   /* numbers that a thread makes at once, and what PyTorch moves the offset by for them */

void sd_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t low = (uint64_t)0xd2511f53 * a, high = (uint64_t)0xcd9e8d57 * c;
        a = (uint32_t)(high >> 32) ^ b ^ k0;
        b = (uint32_t)high;
        c = (uint32_t)(low >> 32) ^ d ^ k1;
        d = (uint32_t)low;
        k0 += 0x9e3779b9;
        k1 += 0xbb67ae85;
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

uint64_t sd_philox_grid(uint64_t n, uint64_t threads)
{
    uint64_t need = n > BLOCK ? (n + BLOCK - 1) / BLOCK * BLOCK : BLOCK;
    return threads && threads < need ? threads : need;
}

/* curand's _curand_box_muller, with the products and sums fused as nvcc fuses them. */
static float box_muller(uint32_t x, uint32_t y, int second)
{
    const float unit = 0x1p-32f, turn = 0x1p-32f * 6.2831855f;
    float radius = sqrtf(-2 * logf(fmaf((float)x, unit, unit / 2))), angle = fmaf((float)y, turn, turn / 2);
    return radius * (second ? cosf(angle) : sinf(angle));
}

/* The numbers of a thread's round, of those behind the state's. */
static void words(const struct sd_philox *p, uint64_t round, uint64_t thread, uint32_t out[4])
{
    uint64_t at = p->offset / DRAWS + round;
    const uint32_t counter[4] = {(uint32_t)at, (uint32_t)(at >> 32), (uint32_t)thread,
                                 (uint32_t)(thread >> 32)};
    const uint32_t key[2] = {(uint32_t)p->seed, (uint32_t)(p->seed >> 32)};
    sd_philox4x32(counter, key, out);
}

float sd_philox_normal(const struct sd_philox *p, uint64_t grid, uint64_t i)
{
    uint64_t round = i / (DRAWS * grid), rest = i - round * DRAWS * grid, draw = rest / grid;
    uint32_t out[4];
    words(p, round, rest - draw * grid, out);
    return draw < 2 ? box_muller(out[0], out[1], draw & 1) : box_muller(out[2], out[3], draw & 1);
}

void sd_philox_advance(struct sd_philox *p, uint64_t threads, uint64_t n)
{
    if (n)
        p->offset += ((n - 1) / (sd_philox_grid(n, threads) * DRAWS) + 1) * DRAWS;
}

void sd_philox_randn(struct sd_philox *p, uint64_t threads, float *out, size_t n)
{
    uint64_t grid = sd_philox_grid(n, threads);
    for (size_t i = 0; i < n; i++)
        out[i] = sd_philox_normal(p, grid, i);
    sd_philox_advance(p, threads, n);
}

/* curand's are in (0, 1]; PyTorch takes 1 for 0. */
float sd_philox_rand(struct sd_philox *p)
{
    uint32_t out[4];
    words(p, 0, 0, out);
    sd_philox_advance(p, 0, 1);
    float x = fmaf((float)out[0], 0x1p-32f, 0x1p-33f);
    return x < 1 ? x : 0;
}
