#include "base/half.h"

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
