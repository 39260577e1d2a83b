/* Rows of half numbers against one by one, at the places where they round, overflow and vanish, and NaN. */
#include "base/half_row.h"

#include <stdlib.h>

#include "base/half.h"
#include "tap.h"

static int same(const float *x, size_t n, const char *what)
{
    char *got = malloc(2 * n + 1);
    size_t wrong = 0;
    sd_f32_to_f16_row(x, n, got + 1); /* not aligned */
    for (size_t i = 0; i < n; i++) {
        sd_f16 h;
        memcpy(&h, got + 1 + 2 * i, 2);
        wrong += h != sd_f32_to_f16(x[i]);
    }
    free(got);
    return ok(!wrong, "%s: %zu of %zu differ", what, wrong, n);
}

int main(void)
{
    enum { N = 3 * 65536 };
    float *x = malloc(N * sizeof *x);
    for (uint32_t h = 0; h < 65536; h++) { /* each half, and its neighbours and midpoints among floats */
        uint32_t u, half;
        float f = sd_f16_to_f32((sd_f16)h);
        memcpy(&u, &f, 4);
        half = u ^ 0x1000;
        memcpy(&x[3 * h], &u, 4);
        memcpy(&x[3 * h + 1], &half, 4);
        half += h & 1 ? 1 : 0xffffffff;
        memcpy(&x[3 * h + 2], &half, 4);
    }
    same(x, N, "around every half");
    for (uint32_t i = 0, u = 1; i < N; i++, u = u * 1664525 + 1013904223)
        memcpy(&x[i], &u, 4);
    same(x, N, "all kinds of floats");
    for (size_t n = 0; n < 20; n++)
        same(x, n, "a short row");
    free(x);
    return tap_end();
}
