/* What the forward and backward AMX kernels share: packing into tiles, tile products, the exponential. x86-64
 * Linux only.
 *
 * Scores are held transposed, s^T = K Q^T: a tile is 16 keys by 16 queries, a vector one key by 16 queries.
 * So maximum and lse need no sums across lanes, and two vectors of p become one row of a tile by putting
 * their upper halves side by side, in all three forms the products ask for: for o^T += V^T p^T a pair holds
 * keys r and r + 16, for dv += p^T dO queries r and r + 16. The packed V^T, K^T, Q, dO carry their pairs in
 * the same order, which is all that matters.
 *
 * Every tile is 16 rows of 64 bytes, 1 KiB in one piece. Four packed forms of a matrix x[token][d]:
 *   rows     16 tokens by 32 channels                               A of s^T, dp^T     (K, V)
 *   columns  the same turned about, pairs of channels kept          B of s^T, dp^T     (Q, dO)
 *   pairs    16 rows of 16 channels, tokens r and r + 16 paired     B of dv, dk        (dO, Q)
 *   turned   the same turned about                                  A of o^T, dq^T     (V, K)
 *
 * Tile products and vector code are kept apart (amx.h): scores,
 * maximum, exponentials and products as phases of a block that just fits in L1, not woven into one loop:
 * that was tried for the forward pass, with scores made a block ahead, and took 14 to 37 % longer. Blocks of
 * 64 to 192 keys are within 10 % of each other, 256 no longer fit (32 % longer). */
#ifndef SD_TENSOR_CPU_ATTENTION_AMX_H
#define SD_TENSOR_CPU_ATTENTION_AMX_H

#include <float.h>
#include <math.h>

#include "tensor/cpu/amx.h"
#include "tensor/cpu/attention_impl.h"

/* ---- packing ---- */

/* 16 tokens, of which `there` exist, as row or column tiles of 32 channels each; `flip` is xored into each
 * pair */
AMX static inline void pack_rows(tiles to, const sd_bf16 *from, int64_t stride, int64_t there, int64_t dim,
                                 int turn, uint32_t flip)
{
    __m512i w[16], sign = _mm512_set1_epi32((int)flip);
    for (int64_t c = 0; c < dim; c += 32, to += TILE) {
        for (int i = 0; i < 16; i++) {
            __mmask32 mask = i < there ? low_bits(dim - c) : 0;
            w[i] = _mm512_xor_si512(_mm512_maskz_loadu_epi16(mask, i < there ? from + i * stride + c : from),
                                    sign);
        }
        if (turn)
            transpose(w);
        put(to, w);
    }
}

/* 32 tokens, tokens r and r + 16 paired, as pair or turned tiles of 16 channels each; channel dim is `extra`
 */
AMX static inline void pack_pairs(tiles to, const sd_bf16 *from, int64_t stride, int64_t there, int64_t dim,
                                  int64_t count, int turn, uint32_t extra)
{
    __m512i w[16];
    for (int64_t n = 0; n < count; n++, to += TILE) {
        int64_t c = 16 * n;
        __mmask16 mask = (__mmask16)low_bits(dim - c);
        __mmask16 next = dim >= c && dim < c + 16 ? (__mmask16)(1u << (dim - c)) : 0;
        for (int i = 0; i < 16; i++) {
            __m256i a =
                _mm256_maskz_loadu_epi16(i < there ? mask : 0, i < there ? from + i * stride + c : from);
            __m256i b = _mm256_maskz_loadu_epi16(i + 16 < there ? mask : 0,
                                                 i + 16 < there ? from + (i + 16) * stride + c : from);
            w[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(a), _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
            w[i] = _mm512_mask_set1_epi32(w[i], next, (int)extra);
        }
        if (turn)
            transpose(w);
        put(to, w);
    }
}

/* The upper halves of a and b side by side: bf16 by cutting off. `half` added before makes it rounding. */
INLINE __m512i pair(__m512i low, __m512i high)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low, 16), high);
}

INLINE __m512i half_up(__m512 x)
{
    return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
}

/* 2^x to 7.5e-5 (Remez on [0, 1)), a fiftieth of a bf16 step. -inf leaves no remainder and scales to 0.
 * `more` is added to the mantissa in [1, 2). */
INLINE __m512 exp2_short(__m512 x, float more)
{
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.07802452266F), f, _mm512_set1_ps(0.2260671554F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6958335405F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999252186F + more));
    return _mm512_scalef_ps(p, x);
}

/* ---- tile products ---- */

/* s[key tile 0, 1][query tile 0, 1] = rows of 32 keys times columns of 32 queries, `deep` tiles of 32
 * channels */
INLINE void scores(tiles s, ctiles keys, ctiles queries, int64_t deep)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int64_t c = 0; c < deep; c++) {
        ctiles k = keys + c * TILE, q = queries + c * TILE;
        TILE_LOAD(4, k);
        TILE_LOAD(6, q);
        TILE_FMA(0, 4, 6);
        TILE_LOAD(7, q + deep * TILE);
        TILE_FMA(1, 4, 7);
        TILE_LOAD(5, k + deep * TILE);
        TILE_FMA(2, 5, 6);
        TILE_FMA(3, 5, 7);
    }
    TILE_STORE(0, s);
    TILE_STORE(1, s + TILE);
    TILE_STORE(2, s + 2 * TILE);
    TILE_STORE(3, s + 3 * TILE);
}

/* Up to 3 x 2 tiles of sums stay in registers 0 to 5: sum[j][i] at sum + (j * pitch + i) * TILE, i < n, j
 * < 2. One step adds the products of wide tiles 0..n-1 with narrow tiles 0, 1. */
INLINE void sums_load(ctiles sum, int64_t pitch, int n)
{
    ctiles other = sum + pitch * TILE;
    TILE_LOAD(0, sum);
    TILE_LOAD(1, other);
    if (n > 1) {
        TILE_LOAD(2, sum + TILE);
        TILE_LOAD(3, other + TILE);
    }
    if (n > 2) {
        TILE_LOAD(4, sum + 2 * TILE);
        TILE_LOAD(5, other + 2 * TILE);
    }
}

INLINE void sums_store(tiles sum, int64_t pitch, int n)
{
    tiles other = sum + pitch * TILE;
    TILE_STORE(0, sum);
    TILE_STORE(1, other);
    if (n > 1) {
        TILE_STORE(2, sum + TILE);
        TILE_STORE(3, other + TILE);
    }
    if (n > 2) {
        TILE_STORE(4, sum + 2 * TILE);
        TILE_STORE(5, other + 2 * TILE);
    }
}

/* wide tiles are A, narrow are B */
INLINE void sums_step_a(ctiles wide, ctiles narrow, int n)
{
    TILE_LOAD(7, narrow);
    TILE_LOAD(6, wide);
    TILE_FMA(0, 6, 7);
    if (n > 1) {
        TILE_LOAD(6, wide + TILE);
        TILE_FMA(2, 6, 7);
    }
    if (n > 2) {
        TILE_LOAD(6, wide + 2 * TILE);
        TILE_FMA(4, 6, 7);
    }
    TILE_LOAD(7, narrow + TILE);
    if (n > 2)
        TILE_FMA(5, 6, 7);
    if (n > 1) {
        TILE_LOAD(6, wide + TILE);
        TILE_FMA(3, 6, 7);
        TILE_LOAD(6, wide);
    }
    TILE_FMA(1, 6, 7);
}

/* wide tiles are B, narrow are A */
INLINE void sums_step_b(ctiles wide, ctiles narrow, int n)
{
    TILE_LOAD(7, narrow);
    TILE_LOAD(6, wide);
    TILE_FMA(0, 7, 6);
    if (n > 1) {
        TILE_LOAD(6, wide + TILE);
        TILE_FMA(2, 7, 6);
    }
    if (n > 2) {
        TILE_LOAD(6, wide + 2 * TILE);
        TILE_FMA(4, 7, 6);
    }
    TILE_LOAD(7, narrow + TILE);
    if (n > 2)
        TILE_FMA(5, 7, 6);
    if (n > 1) {
        TILE_LOAD(6, wide + TILE);
        TILE_FMA(3, 7, 6);
        TILE_LOAD(6, wide);
    }
    TILE_FMA(1, 7, 6);
}

/* sum[2][count] += steps of wide[count] and narrow[2], three columns of tiles at a time, from the given one;
 * the next step's tiles lie wide_pitch and narrow_pitch tiles on */
#define TILE_PRODUCT(name, step)                                                                          \
    INLINE void name##_n(tiles sum, int64_t count, ctiles wide, int64_t wide_pitch, ctiles narrow,        \
                         int64_t narrow_pitch, int64_t steps, int n)                                      \
    {                                                                                                     \
        sums_load(sum, count, n);                                                                         \
        for (int64_t t = 0; t < steps; t++)                                                               \
            step(wide + t * wide_pitch * TILE, narrow + t * narrow_pitch * TILE, n);                      \
        sums_store(sum, count, n);                                                                        \
    }                                                                                                     \
    AMX static inline void name(tiles sum, int64_t count, ctiles wide, int64_t wide_pitch, ctiles narrow, \
                                int64_t narrow_pitch, int64_t steps, int64_t from)                        \
    {                                                                                                     \
        int64_t i = from;                                                                                 \
        for (; i + 3 <= count; i += 3)                                                                    \
            name##_n(sum + i * TILE, count, wide + i * TILE, wide_pitch, narrow, narrow_pitch, steps, 3); \
        if (count - i == 2)                                                                               \
            name##_n(sum + i * TILE, count, wide + i * TILE, wide_pitch, narrow, narrow_pitch, steps, 2); \
        else if (count - i == 1)                                                                          \
            name##_n(sum + i * TILE, count, wide + i * TILE, wide_pitch, narrow, narrow_pitch, steps, 1); \
    }
TILE_PRODUCT(product_a, sums_step_a)
TILE_PRODUCT(product_b, sums_step_b)

/* -inf where a key does not exist or lies after a query, in s[key tile 0, 1][query tile 0..count-1] */
AMX static inline void mask_scores(const struct sd_attn *a, tiles s, int count, int64_t key, int64_t query)
{
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int i = 0; i < 32; i++)
        for (int j = 0; j < count; j++) {
            float *row = (float *)(s + (i / 16 * count + j) * TILE + i % 16 * 64);
            int64_t after = key + i - query - 16 * j; /* queries before lane `after` may not see the key */
            __mmask16 hide = key + i >= a->k_len ? 0xffff : 0;
            if (a->causal && after > 0)
                hide |= _mm512_cmplt_epi32_mask(lane, _mm512_set1_epi32(after > 16 ? 16 : (int)after));
            _mm512_mask_storeu_ps(row, hide, _mm512_set1_ps(-INFINITY));
        }
}

/* Scores times this are in log2 units. Never 0: 0 times a masked -inf were NaN. The sign of the scale goes
 * into Q, so that the greatest score has the greatest product. */
static inline float score_factor(const struct sd_attn *a)
{
    return fmaxf(fabsf(a->scale) * SD_LOG2E, FLT_MIN);
}

static inline uint32_t score_flip(const struct sd_attn *a)
{
    return a->scale < 0 ? 0x80008000u : 0;
}

#endif
