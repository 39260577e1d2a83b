/* Moments to codes and back (tensor/quant.h). */
#ifndef SD_GPU_QUANT_H
#define SD_GPU_QUANT_H

#include "rows.h"

extern "C" {
#include "tensor/quant.h"
}

template <int W> using sd_codes = sd_wide<uint8_t, W>;

template <int W>
__device__ sd_wide<float, W> sd_from_codes(const sd_codes<W> &code, float max, const float *map)
{
    sd_wide<float, W> x;
    for (int k = 0; k < W; k++)
        x.v[k] = map[code.v[k]] * max;
    return x;
}

/* The bits of magnitudes are in their order, NaN above all: those of x where they are above `most`. */
static inline __device__ unsigned sd_magnitude(float x, unsigned most)
{
    unsigned bits = __float_as_uint(x) & 0x7fffffffu;
    return bits > most ? bits : most;
}

/* The largest of a warp's, to all its threads. */
static inline __device__ float sd_warp_magnitude(unsigned most)
{
    for (int step = SD_WARP / 2; step; step /= 2) {
        unsigned other = __shfl_xor_sync(0xffffffffu, most, step);
        most = other > most ? other : most;
    }
    return __uint_as_float(most);
}

template <int W> __device__ sd_codes<W> sd_to_codes(const sd_wide<float, W> &x, float max, const float *map)
{
    sd_codes<W> code;
    for (int k = 0; k < W; k++) {
        float v = max != 0 ? x.v[k] / max : x.v[k];
        int at = 0;
        for (int step = SD_QUANT_CODES / 2; step; step /= 2)
            at += map[at + step] <= v ? step : 0;
        int above = at < SD_QUANT_CODES - 1 ? at + 1 : at;
        at = fabsf(map[above] - v) < fabsf(map[at] - v) ? above : at;
        code.v[k] = static_cast<uint8_t>(at - (v < 0 && map[at] == 0 && at > 0));
    }
    return code;
}

#endif
