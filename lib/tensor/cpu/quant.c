#include "tensor/cpu/quant.h"

#include "tensor/cpu/block.h"

#include <math.h>
#include <string.h>

SD_CPU_CLONES void sd_cpu_from_codes(int64_t n, const uint8_t *code, float max, const float *map, float *x)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        x[i] = map[code[i]] * max;
}

/* The bits of magnitudes are in their order, NaN above all. */
SD_CPU_CLONES static float magnitude(int64_t n, const float *x)
{
    uint32_t most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    float max;
    memcpy(&max, &most, sizeof max);
    return max;
}

SD_CPU_CLONES float sd_cpu_to_codes(int64_t n, const float *x, const float *map, uint8_t *code)
{
    float max = magnitude(n, x), by = max != 0 ? max : 1, v[SD_QUANT_BLOCK];
    int at[SD_QUANT_BLOCK]; /* the last number of the map that is not above v */
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        v[i] = x[i] / by;
        at[i] = 0;
    }
    for (int step = SD_QUANT_CODES / 2; step; step /= 2)
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            at[i] += map[at[i] + step] <= v[i] ? step : 0;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        int above = at[i] + (at[i] < SD_QUANT_CODES - 1);
        int near = fabsf(map[above] - v[i]) < fabsf(map[at[i]] - v[i]) ? above : at[i];
        code[i] = (uint8_t)(near - ((v[i] < 0) & (map[near] == 0) & (near > 0)));
    }
    return max;
}
