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

sd_f16 sd_f32_to_f16(float f); /* too large becomes infinity */

#endif
