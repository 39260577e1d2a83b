#include "base/half_row.h"

#include "base/half.h"

static void one_by_one(const float *src, size_t n, char *dst)
{
    for (size_t i = 0; i < n; i++) {
        sd_f16 h = sd_f32_to_f16(src[i]);
        memcpy(dst + i * sizeof h, &h, sizeof h);
    }
}

#ifdef __x86_64__
#include <immintrin.h>

/* The processor's own conversion rounds alike, but keeps bits of a NaN that sd_f32_to_f16 drops. */
__attribute__((target("avx,f16c"))) static size_t by_eights(const float *src, size_t n, char *dst)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(src + i);
        if (_mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)))
            one_by_one(src + i, 8, dst + 2 * i);
        else
            _mm_storeu_si128((__m128i_u *)(dst + 2 * i), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
    return i;
}
#endif

void sd_f32_to_f16_row(const float *src, size_t n, void *dst)
{
    size_t done = 0;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx") && __builtin_cpu_supports("f16c"))
        done = by_eights(src, n, dst);
#endif
    one_by_one(src + done, n - done, (char *)dst + 2 * done);
}
