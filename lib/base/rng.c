/* PyTorch's CPU generator: MT19937 and the distributions on top of it.
 *
 * Normal numbers come in two ways. Fewer than 16: Box-Muller in double, two uniforms of 53 bits for two
 * values, the second kept for the next call. 16 and more: the output is filled with uniforms, then each block
 * of 16 becomes 8 pairs (u1 = 1 - x[j], u2 = x[j + 8]) of a single-precision Box-Muller with the logarithm,
 * sine and cosine of the Cephes library (Moshier), whose multiplications and additions are fused where
 * PyTorch's AVX2 build fuses them; a last partial block is drawn and computed again over the last 16 values.
 * The fused operations decide the last bits, so they are written out and the compiler may not add its own. */
#include "base/rng.h"

#include <math.h>
#include <string.h>

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

#define TWO_PI 6.28318530717958647692

enum { MT_N = 624, MT_M = 397 };

void sd_mt19937_seed(struct sd_mt19937 *mt, uint32_t seed)
{
    mt->word[0] = seed;
    for (uint32_t i = 1; i < MT_N; i++)
        mt->word[i] = 1812433253u * (mt->word[i - 1] ^ mt->word[i - 1] >> 30) + i;
    mt->next = MT_N;
}

static uint32_t twist(uint32_t u, uint32_t v)
{
    uint32_t mixed = (u & 0x80000000u) | (v & 0x7fffffffu);
    return mixed >> 1 ^ (v & 1 ? 0x9908b0dfu : 0);
}

static void next_block(struct sd_mt19937 *mt)
{
    uint32_t *w = mt->word;
    int i = 0;
    for (; i < MT_N - MT_M; i++)
        w[i] = w[i + MT_M] ^ twist(w[i], w[i + 1]);
    for (; i < MT_N - 1; i++)
        w[i] = w[i + MT_M - MT_N] ^ twist(w[i], w[i + 1]);
    w[i] = w[i + MT_M - MT_N] ^ twist(w[i], w[0]);
    mt->next = 0;
}

static inline uint32_t temper(uint32_t y)
{
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

uint32_t sd_mt19937_next(struct sd_mt19937 *mt)
{
    if (mt->next >= MT_N)
        next_block(mt);
    return temper(mt->word[mt->next++]);
}

void sd_rng_seed(struct sd_rng *rng, uint64_t seed)
{
    memset(rng, 0, sizeof *rng);
    rng->seed = seed;
    sd_mt19937_seed(&rng->mt, (uint32_t)seed);
}

uint32_t sd_rng_u32(struct sd_rng *rng)
{
    return sd_mt19937_next(&rng->mt);
}

uint64_t sd_rng_u64(struct sd_rng *rng)
{
    uint64_t high = sd_rng_u32(rng);
    return high << 32 | sd_rng_u32(rng);
}

static float uniform24(struct sd_rng *rng)
{
    return (float)(sd_rng_u32(rng) & 0xffffff) * 0x1p-24f;
}

static double uniform53(struct sd_rng *rng)
{
    return (double)(sd_rng_u64(rng) & 0x1fffffffffffffull) * 0x1p-53;
}

void sd_rng_rand(struct sd_rng *rng, float *out, size_t n)
{
    struct sd_mt19937 *mt = &rng->mt;
    while (n > 0) {
        if (mt->next >= MT_N)
            next_block(mt);
        size_t run = MT_N - mt->next < n ? MT_N - mt->next : n;
        for (size_t i = 0; i < run; i++)
            out[i] = (float)(int32_t)(temper(mt->word[mt->next + i]) & 0xffffff) * 0x1p-24f;
        mt->next += (uint32_t)run;
        out += run;
        n -= run;
    }
}

void sd_rng_uniform(struct sd_rng *rng, float from, float to, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = fmaf(uniform24(rng), to - from, from);
        out[i] = v == to ? from : v; /* rounding may reach the open end */
    }
}

/* One value of the scalar path. */
static double normal53(struct sd_rng *rng)
{
    if (rng->has_normal) {
        rng->has_normal = 0;
        return rng->normal;
    }
    double u1 = uniform53(rng), u2 = uniform53(rng);
    double radius = sqrt(-2.0 * log1p(-u2));
    double theta = TWO_PI * u1;
    rng->normal = radius * sin(theta);
    rng->has_normal = 1;
    return radius * cos(theta);
}

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* log(x) for 2^-24 <= x <= 1. */
static inline __attribute__((always_inline)) float cephes_log(float x)
{
    uint32_t u = bits_of(x);
    float e = (float)((int32_t)(u >> 23) - 126);
    float m = float_of((u & 0x807fffffu) | 0x3f000000u);   /* [0.5, 1) */
    uint32_t low = -(uint32_t)(m < 0.707106781186547524f); /* masks, so that the loop becomes vectors */
    e -= float_of(low & bits_of(1.0f));
    x = (m - 1.0f) + float_of(low & bits_of(m));

    float z = x * x;
    float y = 7.0376836292e-2f;
    y = fmaf(y, x, -1.1514610310e-1f);
    y = fmaf(y, x, 1.1676998740e-1f);
    y = fmaf(y, x, -1.2420140846e-1f);
    y = fmaf(y, x, 1.4249322787e-1f);
    y = fmaf(y, x, -1.6668057665e-1f);
    y = fmaf(y, x, 2.0000714765e-1f);
    y = fmaf(y, x, -2.4999993993e-1f);
    y = fmaf(y, x, 3.3333331174e-1f);
    y = y * x;
    y = fmaf(y, z, e * -2.12194440e-4f);
    y = fmaf(z, -0.5f, y);
    x = x + y;
    return fmaf(e, 0.693359375f, x);
}

/* sin(x) and cos(x) for 0 <= x <= 2 pi. */
static inline __attribute__((always_inline)) void cephes_sincos(float x, float *sine, float *cosine)
{
    int32_t octant = ((int32_t)(x * 1.27323954473516f) + 1) & ~1;
    float y = (float)octant;
    x = fmaf(y, -0.78515625f, x);
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);

    float z = x * x;
    float c = 2.443315711809948e-5f;
    c = fmaf(c, z, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    c = c * z;
    c = fmaf(c, z, z * -0.5f);
    c = c + 1.0f;

    float s = -1.9515295891e-4f;
    s = fmaf(s, z, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f);
    s = s * z;
    s = fmaf(s, x, x);

    uint32_t swap = -(uint32_t)(octant >> 1 & 1), exchange = (bits_of(s) ^ bits_of(c)) & swap;
    uint32_t sine_sign = (uint32_t)(octant & 4) << 29;
    uint32_t cosine_sign = (uint32_t)(~(octant - 2) & 4) << 29;
    *sine = float_of(bits_of(s) ^ exchange ^ sine_sign);
    *cosine = float_of(bits_of(c) ^ exchange ^ cosine_sign);
}

/* x[16]: uniforms in, normal values out. */
static inline __attribute__((always_inline)) void normal16(float *x, float mean, float std)
{
    for (int j = 0; j < 8; j++) {
        float radius = sqrtf(-2.0f * cephes_log(1.0f - x[j]));
        float sine, cosine;
        cephes_sincos((float)TWO_PI * x[j + 8], &sine, &cosine);
        x[j] = fmaf(radius * cosine, std, mean);
        x[j + 8] = fmaf(radius * sine, std, mean);
    }
}

static void normal_blocks(float *x, size_t blocks, float mean, float std)
{
    for (; blocks > 0; blocks--, x += 16)
        normal16(x, mean, std);
}

#if defined(__x86_64__)
/* The same bits, several times sooner where the machine has fused operations. */
__attribute__((target("avx2,fma"))) static void normal_blocks_fma(float *x, size_t blocks, float mean,
                                                                  float std)
{
    for (; blocks > 0; blocks--, x += 16)
        normal16(x, mean, std);
}
#endif

static void box_muller(float *x, size_t blocks, float mean, float std)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        normal_blocks_fma(x, blocks, mean, std);
        return;
    }
#endif
    normal_blocks(x, blocks, mean, std);
}

void sd_rng_normal(struct sd_rng *rng, double mean, double std, float *out, size_t n)
{
    if (n < 16) {
        for (size_t i = 0; i < n; i++)
            out[i] = (float)fma(normal53(rng), std, mean);
        return;
    }
    sd_rng_rand(rng, out, n);
    box_muller(out, n / 16, (float)mean, (float)std);
    if (n % 16) {
        sd_rng_rand(rng, out + n - 16, 16);
        box_muller(out + n - 16, 1, (float)mean, (float)std);
    }
}

void sd_rng_randn(struct sd_rng *rng, float *out, size_t n)
{
    sd_rng_normal(rng, 0.0, 1.0, out, n);
}

void sd_rng_randint(struct sd_rng *rng, int64_t low, int64_t high, int64_t *out, size_t n)
{
    uint64_t range = (uint64_t)high - (uint64_t)low;
    for (size_t i = 0; i < n; i++) {
        uint64_t v = range >= 1ull << 28 ? sd_rng_u64(rng) : sd_rng_u32(rng);
        out[i] = (int64_t)(v % range + (uint64_t)low);
    }
}

int64_t sd_rng_int63(struct sd_rng *rng)
{
    return (int64_t)(sd_rng_u64(rng) & INT64_MAX);
}

void sd_rng_randperm(struct sd_rng *rng, int64_t *out, size_t n)
{
    int wide = n >= UINT32_MAX / 20;
    for (size_t i = 0; i < n; i++)
        out[i] = (int64_t)i;
    for (size_t i = 0; i + 1 < n; i++) {
        uint64_t v = wide ? sd_rng_u64(rng) : sd_rng_u32(rng);
        size_t j = i + v % (n - i);
        int64_t kept = out[i];
        out[i] = out[j];
        out[j] = kept;
    }
}
