/* Tiles of AMX, and the little around them that its kernels share. x86-64 Linux only.
 *
 * Every tile is 16 rows of 64 bytes, 1 KiB in one piece.
 *
 * Tile instructions and vector code do not mix freely (measured on Sapphire Rapids): after one, for a few
 * hundred cycles, 512-bit multiplies, FMAs, maxima and scalings run one a cycle instead of two. */
#ifndef SD_TENSOR_CPU_AMX_H
#define SD_TENSOR_CPU_AMX_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"

#define AMX __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#define INLINE AMX static inline __attribute__((always_inline))

/* Tiles are named by number in the instruction itself. "memory": the compiler knows nothing of what they
 * touch. */
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, p) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(p), "r"((int64_t)64) : "memory")
#define TILE_STORE(t, p) \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(p), "r"((int64_t)64) : "memory")
#define TILE_FMA(sum, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

#define TILE 1024 /* bytes of a tile */

typedef char *tiles;
typedef const char *ctiles;

/* Loaded for one piece of work and released after it: nothing else in the thread (oneDNN) sees our tiles. */
INLINE void tiles_begin(void)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t width[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.width[i] = 64;
        config.rows[i] = 16;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

INLINE void tiles_end(void)
{
    __asm__ volatile("tilerelease" ::);
}

/* 16 x 16 words: rows become columns. */
INLINE void transpose(__m512i w[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            w[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            w[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 16; j += 8) {
            t[i + j] = _mm512_shuffle_i32x4(w[i + j], w[i + j + 4], 0x88);
            t[i + j + 4] = _mm512_shuffle_i32x4(w[i + j], w[i + j + 4], 0xdd);
        }
    for (int i = 0; i < 8; i++) {
        w[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        w[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

INLINE void put(tiles to, const __m512i w[16])
{
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(to + 64 * i, w[i]);
}

INLINE uint32_t low_bits(int64_t n)
{
    return n >= 32 ? UINT32_MAX : n <= 0 ? 0 : ((uint32_t)1 << n) - 1;
}

#endif
