/* bfloat16 and IEEE half numbers as 16-bit patterns, and their conversions (round to nearest even). */
#ifndef SD_BASE_HALF_H
#define SD_BASE_HALF_H

#include <stdint.h>
#include <string.h>

typedef uint16_t sd_bf16;
typedef uint16_t sd_f16;

static inline float sd_bf16_to_f32(sd_bf16 h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline sd_bf16 sd_f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t r = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    return (sd_bf16)((u & 0x7fffffff) > 0x7f800000 ? (u >> 16) | 0x40 : r); /* NaN stays NaN */
}

/* Exponent and fraction move into a float's places, and a product rights the exponent's bias: exact for
 * subnormal numbers too, and without a branch, so that loops over it become vectors. */
static inline float sd_f16_to_f32(sd_f16 h)
{
    uint32_t u = (uint32_t)(h & 0x7fff) << 13;
    float f;
    memcpy(&f, &u, 4);
    f *= 0x1p112f;
    memcpy(&u, &f, 4);
    u |= ((h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0) | (uint32_t)(h & 0x8000) << 16;
    memcpy(&f, &u, 4);
    return f;
}

/* Too large becomes infinity. All cases are computed and one is chosen, for the same reason. */
static inline sd_f16 sd_f32_to_f16(float f)
{
    uint32_t u, small;
    memcpy(&u, &f, 4);
    uint32_t sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    memcpy(&f, &u, 4);
    f += 0.5f; /* the spacing of floats in [0.5, 1) is 2^-24, a subnormal half's: the sum rounds to it */
    memcpy(&small, &f, 4);
    small -= 0x3f000000;
    uint32_t h = ((u + 0xfff + (u >> 13 & 1)) >> 13) - (112 << 10); /* a carry into 31 is infinity */
    h = u < 0x38800000 ? small : h;                                 /* below the smallest normal */
    h = u >= 0x47800000 ? 0x7c00 : h;                               /* 65536 and more */
    h = u > 0x7f800000 ? 0x7e00 : h;
    return (sd_f16)(sign | h);
}

#endif
