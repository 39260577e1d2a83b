#include "base/half.h"

float sd_f16_to_f32(sd_f16 h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 1023, u;
    if (exp == 31) {
        u = sign | 0x7f800000 | man << 13;
    } else if (exp) {
        u = sign | (exp + 112) << 23 | man << 13;
    } else { /* subnormal: man * 2^-24 */
        float f = (float)man * 0x1p-24f;
        memcpy(&u, &f, 4);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
}

sd_f16 sd_f32_to_f16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u > 0x7f800000)
        return sign | 0x7e00;
    if (u >= 0x47800000) /* 65536 and more */
        return sign | 0x7c00;
    if (u < 0x38800000) { /* below the smallest normal: let the float unit round to multiples of 2^-24 */
        float a;
        memcpy(&a, &u, 4);
        a += 0.5f; /* the spacing of floats in [0.5, 1) is 2^-24 */
        memcpy(&u, &a, 4);
        return sign | (uint16_t)(u - 0x3f000000);
    }
    u += 0xfff + (u >> 13 & 1);
    return sign | (uint16_t)((u >> 13) - (112 << 10)); /* a carry into 31 is infinity, as it must be */
}
