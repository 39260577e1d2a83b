/* bfloat16 attention on AMX tiles.
 *
 * Scores are held transposed, s^T = K Q^T: a tile is 16 keys by 16 queries, a vector one key by 16 queries. So maximum
 * and lse need no sums across lanes, and two vectors of p become one row of a tile by putting their upper halves side by
 * side, in all three forms the products ask for: for o^T += V^T p^T a pair holds keys r and r + 16, for dv += p^T dO
 * queries r and r + 16. The packed V^T, K^T, Q, dO carry their pairs in the same order, which is all that matters.
 *
 * Every tile is 16 rows of 64 bytes, 1 KiB in one piece. Four packed forms of a matrix x[token][d]:
 *   rows     16 tokens by 32 channels                               A of s^T, dp^T     (K, V)
 *   columns  the same turned about, pairs of channels kept          B of s^T, dp^T     (Q, dO)
 *   pairs    16 rows of 16 channels, tokens r and r + 16 paired     B of dv, dk        (dO, Q)
 *   turned   the same turned about                                  A of o^T, dq^T     (V, K)
 *
 * V gets one more channel of ones, so that the sum of p (as rounded to bf16, which is right: it divides their sum)
 * comes out of the same product. */
#include <stdint.h>
#include <stddef.h>

#include "tensor/cpu/attention_impl.h"

#if !defined(__x86_64__) || !defined(__linux__)
const struct sd_attn_kernels *sd_attn_amx(void)
{
    return NULL;
}
#else
#include <cpuid.h>
#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/half.h"

#define AMX __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")))
#define INLINE AMX static inline __attribute__((always_inline))

/* Tiles are named by number in the instruction itself. "memory": the compiler knows nothing of what they touch. */
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, p) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(p), "r"((int64_t)64) : "memory")
#define TILE_STORE(t, p) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(p), "r"((int64_t)64) : "memory")
#define TILE_FMA(sum, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::)

#define TILE 1024         /* bytes of a tile */
#define KEYS 128          /* forward: keys of a block of scores; with 32 queries 16 KiB, to stay in L1 */
#define BACK_QUERIES 256  /* backward: queries of a block */

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

/* ---- packing ---- */

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

/* 16 tokens, of which `there` exist, as row or column tiles of 32 channels each; `flip` is xored into each pair */
AMX static void pack_rows(tiles to, const sd_bf16 *from, int64_t stride, int64_t there, int64_t dim, int turn,
                          uint32_t flip)
{
    __m512i w[16], sign = _mm512_set1_epi32((int)flip);
    for (int64_t c = 0; c < dim; c += 32, to += TILE) {
        for (int i = 0; i < 16; i++) {
            __mmask32 mask = i < there ? low_bits(dim - c) : 0;
            w[i] = _mm512_xor_si512(_mm512_maskz_loadu_epi16(mask, i < there ? from + i * stride + c : from), sign);
        }
        if (turn)
            transpose(w);
        put(to, w);
    }
}

/* 32 tokens, tokens r and r + 16 paired, as pair or turned tiles of 16 channels each; channel dim is `extra` */
AMX static void pack_pairs(tiles to, const sd_bf16 *from, int64_t stride, int64_t there, int64_t dim, int64_t count,
                           int turn, uint32_t extra)
{
    __m512i w[16];
    for (int64_t n = 0; n < count; n++, to += TILE) {
        int64_t c = 16 * n;
        __mmask16 mask = (__mmask16)low_bits(dim - c);
        __mmask16 next = dim >= c && dim < c + 16 ? (__mmask16)(1u << (dim - c)) : 0;
        for (int i = 0; i < 16; i++) {
            __m256i a = _mm256_maskz_loadu_epi16(i < there ? mask : 0, i < there ? from + i * stride + c : from);
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

/* 2^x to 7.5e-5 (Remez on [0, 1)), a fiftieth of a bf16 step. -inf leaves no remainder and scales to 0. `more` is added
 * to the mantissa in [1, 2). */
INLINE __m512 exp2_short(__m512 x, float more)
{
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.07802452266F), f, _mm512_set1_ps(0.2260671554F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6958335405F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999252186F + more));
    return _mm512_scalef_ps(p, x);
}

/* ---- tile products ---- */

/* s[key tile 0, 1][query tile 0, 1] = rows of 32 keys times columns of 32 queries, `deep` tiles of 32 channels */
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

/* Up to 3 x 2 tiles of sums stay in registers 0 to 5: sum[j][i] at sum + (j * pitch + i) * TILE, i < n, j < 2.
 * One step adds the products of wide tiles 0..n-1 with narrow tiles 0, 1. */
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

/* sum[2][count] += steps of wide[count] and narrow[2], three columns of tiles at a time, from the given one; the next step's tiles lie
 * wide_pitch and narrow_pitch tiles on */
#define TILE_PRODUCT(name, step)                                                                                       \
    INLINE void name##_n(tiles sum, int64_t count, ctiles wide, int64_t wide_pitch, ctiles narrow,                     \
                         int64_t narrow_pitch, int64_t steps, int n)                                                   \
    {                                                                                                                  \
        sums_load(sum, count, n);                                                                                      \
        for (int64_t t = 0; t < steps; t++)                                                                            \
            step(wide + t * wide_pitch * TILE, narrow + t * narrow_pitch * TILE, n);                                   \
        sums_store(sum, count, n);                                                                                     \
    }                                                                                                                  \
    AMX static void name(tiles sum, int64_t count, ctiles wide, int64_t wide_pitch, ctiles narrow,                     \
                         int64_t narrow_pitch, int64_t steps, int64_t from)                                            \
    {                                                                                                                  \
        int64_t i = from;                                                                                              \
        for (; i + 3 <= count; i += 3)                                                                                 \
            name##_n(sum + i * TILE, count, wide + i * TILE, wide_pitch, narrow, narrow_pitch, steps, 3);              \
        if (count - i == 2)                                                                                            \
            name##_n(sum + i * TILE, count, wide + i * TILE, wide_pitch, narrow, narrow_pitch, steps, 2);              \
        else if (count - i == 1)                                                                                       \
            name##_n(sum + i * TILE, count, wide + i * TILE, wide_pitch, narrow, narrow_pitch, steps, 1);              \
    }
TILE_PRODUCT(product_a, sums_step_a)
TILE_PRODUCT(product_b, sums_step_b)

/* -inf where a key does not exist or lies after a query, in s[key tile 0, 1][query tile 0..count-1] */
AMX static void mask_scores(const struct sd_attn *a, tiles s, int count, int64_t key, int64_t query)
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

/* Scores times this are in log2 units. Never 0: 0 times a masked -inf were NaN. The sign of the scale goes into Q, so
 * that the greatest score has the greatest product. */
static float score_factor(const struct sd_attn *a)
{
    return fmaxf(fabsf(a->scale) * SD_LOG2E, FLT_MIN);
}

static uint32_t score_flip(const struct sd_attn *a)
{
    return a->scale < 0 ? 0x80008000u : 0;
}

/* ---- forward ---- */

struct fwd_layout {
    int64_t deep, wide, key_rows; /* tiles of 32 channels; of 16, ones included; keys a head, filled up to 32 */
    int64_t groups;               /* 32 queries each, that share each block of keys while it is in cache */
    size_t q, s, o, top, local;
};

static struct fwd_layout fwd_layout(const struct sd_attn *a)
{
    struct fwd_layout y = {.deep = sd_attn_blocks(a->head_dim, 32),
                           .wide = sd_attn_blocks(a->head_dim + 1, 16),
                           .key_rows = sd_attn_up(a->k_len, 32)};
    y.groups = a->head_dim <= 96 ? 2 : 4;
    y.s = y.q + (size_t)(y.groups * 2 * y.deep) * TILE;
    y.o = y.s + KEYS / 16 * 2 * TILE;
    y.top = y.o + (size_t)(y.groups * 2 * y.wide) * TILE;
    y.local = y.top + (size_t)y.groups * 32 * sizeof(float);
    return y;
}

static tiles fwd_keys(const struct sd_attn_job *job, const struct fwd_layout *y, int64_t head, int64_t key)
{
    return job->shared + (head * y->key_rows + key) / 16 * y->deep * TILE;
}

static tiles fwd_values(const struct sd_attn_job *job, const struct fwd_layout *y, int64_t head, int64_t key)
{
    tiles all = fwd_keys(job, y, job->a.batch * job->a.heads, 0);
    return all + (head * y->key_rows + key) / 32 * y->wide * TILE;
}

AMX static void fwd_pack(const struct sd_attn_job *job, int64_t piece, void *local)
{
    (void)local;
    const struct sd_attn *a = &job->a;
    struct fwd_layout y = fwd_layout(a);
    int64_t chunks = sd_attn_blocks(y.key_rows, KEYS), head = piece / chunks, first = piece % chunks * KEYS;
    int64_t b = head / a->heads, h = head % a->heads;
    for (int64_t key = first; key < sd_attn_min(first + KEYS, y.key_rows); key += 32) {
        const sd_bf16 *k = (const sd_bf16 *)job->k + (b * a->k_len + key) * a->k_stride + h * a->head_dim;
        const sd_bf16 *v = (const sd_bf16 *)job->v + (b * a->k_len + key) * a->v_stride + h * a->head_dim;
        tiles to = fwd_keys(job, &y, head, key);
        pack_rows(to, k, a->k_stride, a->k_len - key, a->head_dim, 0, 0);
        pack_rows(to + y.deep * TILE, k + 16 * a->k_stride, a->k_stride, a->k_len - key - 16, a->head_dim, 0, 0);
        pack_pairs(fwd_values(job, &y, head, key), v, a->v_stride, a->k_len - key, a->head_dim, y.wide, 1,
                   0x3f803f80u);
    }
}

/* Keeps in m the greatest scores of 16 queries, in eight parts that do not wait for each other. */
INLINE void greatest(__m512 m[8], ctiles s, int bytes)
{
#pragma GCC unroll 4
    for (int i = 0; i < bytes; i += 512)
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            m[j] = _mm512_max_ps(m[j], _mm512_load_ps(s + i + 64 * j));
}

INLINE void greatest_start(__m512 m[8])
{
    for (int j = 0; j < 8; j++)
        m[j] = _mm512_set1_ps(-INFINITY);
}

INLINE __m512 greatest_end(const __m512 m[8])
{
    return _mm512_max_ps(_mm512_max_ps(_mm512_max_ps(m[0], m[1]), _mm512_max_ps(m[2], m[3])),
                         _mm512_max_ps(_mm512_max_ps(m[4], m[5]), _mm512_max_ps(m[6], m[7])));
}

/* The maximum of 16 queries after a block whose greatest scores are given; where it grew, the sums so far are brought
 * to it. */
INLINE __m512 raise(float *top, __m512 scores, float factor, tiles o, int64_t wide)
{
    __m512 old = _mm512_load_ps(top), now = _mm512_max_ps(_mm512_mul_ps(scores, _mm512_set1_ps(factor)), old);
    if (!_mm512_cmp_ps_mask(now, old, _CMP_NEQ_UQ))
        return now;
    _mm512_store_ps(top, now);
    __m512 shrink = exp2_short(_mm512_sub_ps(old, now), 0);
    for (int64_t i = 0; i < 16 * wide; i++) {
        float *x = (float *)(o + 64 * i);
        _mm512_store_ps(x, _mm512_mul_ps(_mm512_load_ps(x), shrink));
    }
    return now;
}

/* 32 keys by 16 queries of scores, tiles 0 and 2 of a chunk (or 1 and 3), become p in bf16, keys paired, in place of
 * the first. The half step that rounds is added within the polynomial. */
INLINE void weigh(tiles s, __m512 factor, __m512 top)
{
#pragma GCC unroll 4
    for (int i = 0; i < 16; i++) {
        __m512 low = _mm512_load_ps(s + 64 * i), high = _mm512_load_ps(s + 2 * TILE + 64 * i);
        low = exp2_short(_mm512_fmsub_ps(low, factor, top), 0x1p-8F);
        high = exp2_short(_mm512_fmsub_ps(high, factor, top), 0x1p-8F);
        _mm512_store_si512(s + 64 * i, pair(_mm512_castps_si512(low), _mm512_castps_si512(high)));
    }
}

/* Rows of 16 queries from sums o^T[wide], divided by the sum in channel dim; returns those sums. */
INLINE __m512 store_queries(sd_bf16 *to, int64_t stride, int64_t queries, ctiles o, int64_t dim)
{
    __m512 sum = _mm512_load_ps(o + dim / 16 * TILE + dim % 16 * 64);
    __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1), sum);
    for (int64_t c = 0; c < dim; c += 16, o += TILE) {
        __m512i w[16];
        for (int i = 0; i < 16; i++)
            w[i] = _mm512_castps_si512(_mm512_mul_ps(_mm512_load_ps(o + 64 * i), inverse));
        transpose(w);
        for (int i = 0; i < 16 && i < queries; i++)
            _mm256_mask_storeu_epi16(to + i * stride + c, (__mmask16)low_bits(dim - c),
                                     (__m256i)_mm512_cvtneps_pbh(_mm512_castsi512_ps(w[i])));
    }
    return sum;
}

/* One piece of forward work: up to 32 * groups queries of a head against all keys. */
struct fwd_work {
    const struct sd_attn *a;
    struct fwd_layout y;
    int64_t first, queries; /* the first query, how many */
    ctiles keys, values;    /* packed, of the head */
    tiles q, s, o;
    float *top, factor;
};

/* Keys from `key` on, at most `most`, that some query up to `last` sees; a multiple of 32 */
static int64_t keys_seen(const struct fwd_work *w, int64_t key, int64_t most, int64_t last)
{
    int64_t keys = sd_attn_min(most, w->y.key_rows - key);
    return w->a->causal ? sd_attn_min(keys, sd_attn_up(last + 1, 32) - key) : keys;
}

/* Block by block of keys, 32 queries at a time: scores, maximum, p in place of the scores, o. */
AMX static void attend(const struct fwd_work *w)
{
    const struct fwd_layout *y = &w->y;
    for (int64_t key = 0; key < y->key_rows; key += KEYS)
        for (int64_t g = 0; 32 * g < w->queries; g++) {
            int64_t query = w->first + 32 * g, chunks = keys_seen(w, key, KEYS, query + 31) / 32;
            if (chunks <= 0)
                continue;
            tiles sum = w->o + g * 2 * y->wide * TILE;
            ctiles k = w->keys + key / 16 * y->deep * TILE, v = w->values + key / 32 * y->wide * TILE;
            for (int64_t c = 0; c < chunks; c++) {
                scores(w->s + 4 * c * TILE, k + 2 * c * y->deep * TILE, w->q + 2 * g * y->deep * TILE, y->deep);
                if (key + 32 * c + 32 > w->a->k_len || (w->a->causal && key + 32 * c + 31 > query))
                    mask_scores(w->a, w->s + 4 * c * TILE, 2, key + 32 * c, query);
            }
            for (int j = 0; j < 2; j++) {
                __m512 m[8], top;
                greatest_start(m);
                for (int64_t c = 0; c < 2 * chunks; c++)
                    greatest(m, w->s + (2 * c + j) * TILE, TILE);
                top = raise(w->top + 32 * g + 16 * j, greatest_end(m), w->factor, sum + j * y->wide * TILE, y->wide);
                for (int64_t c = 0; c < chunks; c++)
                    weigh(w->s + (4 * c + j) * TILE, _mm512_set1_ps(w->factor), top);
            }
            product_a(sum, y->wide, v, y->wide, w->s, 4, chunks, 0);
        }
}

AMX static void fwd_item(const struct sd_attn_job *job, int64_t piece, void *local)
{
    const struct sd_attn *a = &job->a;
    struct fwd_work w = {.a = a, .y = fwd_layout(a), .factor = score_factor(a)};
    int64_t span = 32 * w.y.groups, items = sd_attn_blocks(a->q_len, span);
    int64_t head = piece / items, b = head / a->heads, h = head % a->heads;
    w.first = piece % items * span;
    w.queries = sd_attn_min(span, a->q_len - w.first);
    w.keys = fwd_keys(job, &w.y, head, 0);
    w.values = fwd_values(job, &w.y, head, 0);
    w.q = (tiles)local + w.y.q;
    w.s = (tiles)local + w.y.s;
    w.o = (tiles)local + w.y.o;
    w.top = (float *)((char *)local + w.y.top);
    for (int64_t i = 0; i < sd_attn_up(w.queries, 32); i += 16) {
        int64_t there = w.queries - i, at = (b * a->q_len + w.first + i) * a->q_stride + h * a->head_dim;
        pack_rows(w.q + i / 16 * w.y.deep * TILE, (const sd_bf16 *)job->q + (there > 0 ? at : 0), a->q_stride, there,
                  a->head_dim, 1, score_flip(a));
    }
    memset(w.o, 0, (size_t)(w.y.groups * 2 * w.y.wide) * TILE);
    for (int64_t i = 0; i < span; i++)
        w.top[i] = -INFINITY;
    tiles_begin();
    attend(&w);
    tiles_end();
    for (int64_t i = 0; i < w.queries; i += 16) {
        sd_bf16 *to = (sd_bf16 *)job->out + (b * a->q_len + w.first + i) * a->o_stride + h * a->head_dim;
        float sum[16];
        _mm512_storeu_ps(sum, store_queries(to, a->o_stride, w.queries - i, w.o + i / 16 * w.y.wide * TILE,
                                            a->head_dim));
        for (int64_t j = 0; job->lse_out && j < 16 && i + j < w.queries; j++)
            job->lse_out[head * a->q_len + w.first + i + j] = (w.top[i + j] + log2f(sum[j])) * SD_LN2;
    }
}

static void fwd(const struct sd_attn *a, int bf16, struct sd_attn_plan *plan)
{
    (void)bf16;
    struct fwd_layout y = fwd_layout(a);
    int64_t heads = a->batch * a->heads;
    plan->shared = (size_t)(heads * y.key_rows / 32 * (2 * y.deep + y.wide)) * TILE;
    plan->local = y.local;
    plan->stage[0] = (struct sd_attn_stage){fwd_pack, heads * sd_attn_blocks(y.key_rows, KEYS)};
    plan->stage[1] = (struct sd_attn_stage){fwd_item, heads * sd_attn_blocks(a->q_len, 32 * y.groups)};
    plan->stages = 2;
}

/* ---- backward ---- */

/* Tiles of one chunk of 32 keys: K rows, V rows (2 * deep each), K turned (wide); of 32 queries: Q columns, dO columns,
 * Q pairs, dO pairs. Then f32: lse in log2 units and delta = rowsum(dO * o); sums of dq^T [query tile][wide] one copy a
 * key part, of dk and dv [key tile][wide] one copy a query part. */
struct bwd_layout {
    int64_t deep, wide, heads;
    int64_t key_chunks, query_chunks; /* of 32, a head */
    int64_t key_block;                /* chunks of keys that stay in L2 while all queries pass */
    struct sd_attn_cut cut;
    size_t keys, queries, lse, delta, dq, dk, dv, shared; /* bytes from the start of shared */
    size_t s, dp, p, ds, dst, local;
};

static struct bwd_layout bwd_layout(const struct sd_attn *a)
{
    struct bwd_layout y = {.deep = sd_attn_blocks(a->head_dim, 32),
                           .wide = sd_attn_blocks(a->head_dim, 16),
                           .heads = a->batch * a->heads,
                           .key_chunks = sd_attn_blocks(a->k_len, 32),
                           .query_chunks = sd_attn_blocks(a->q_len, 32)};
    y.key_block = a->head_dim <= 96 ? 8 : a->head_dim <= 192 ? 4 : 2;
    y.cut = sd_attn_cut(a, 32 * y.key_block, BACK_QUERIES);
    size_t key_tiles = (size_t)(y.heads * y.key_chunks) * TILE, query_tiles = (size_t)(y.heads * y.query_chunks) * TILE;
    size_t deep = (size_t)y.deep, wide = (size_t)y.wide, scalars = query_tiles / 8;
    y.queries = y.keys + key_tiles * (4 * deep + wide);
    y.lse = y.queries + query_tiles * (4 * deep + 2 * wide);
    y.delta = y.lse + scalars;
    y.dq = y.delta + scalars;
    y.dk = y.dq + (size_t)y.cut.key_parts * query_tiles * 2 * wide;
    y.dv = y.dk + (size_t)y.cut.query_parts * key_tiles * 2 * wide;
    y.shared = y.dv + (size_t)y.cut.query_parts * key_tiles * 2 * wide;
    y.dp = y.s + 4 * TILE;
    y.p = y.dp + 4 * TILE;
    y.ds = y.p + BACK_QUERIES / 32 * 2 * TILE;
    y.dst = y.ds + BACK_QUERIES / 32 * 2 * TILE;
    y.local = y.dst + (size_t)y.key_block * (BACK_QUERIES / 16) * TILE;
    return y;
}

static tiles bwd_keys(const struct sd_attn_job *job, const struct bwd_layout *y, int64_t chunk)
{
    return job->shared + y->keys + chunk * (4 * y->deep + y->wide) * TILE;
}

static tiles bwd_queries(const struct sd_attn_job *job, const struct bwd_layout *y, int64_t chunk)
{
    return job->shared + y->queries + chunk * (4 * y->deep + 2 * y->wide) * TILE;
}

INLINE float row_dot(const sd_bf16 *x, const sd_bf16 *y, int64_t dim)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < dim; c += 32) {
        __mmask32 mask = low_bits(dim - c);
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_maskz_loadu_epi16(mask, x + c),
                               (__m512bh)_mm512_maskz_loadu_epi16(mask, y + c));
    }
    return _mm512_reduce_add_ps(sum);
}

AMX static void bwd_pack(const struct sd_attn_job *job, int64_t piece, void *local)
{
    (void)local;
    const struct sd_attn *a = &job->a;
    struct bwd_layout y = bwd_layout(a);
    int64_t head = piece / (y.key_chunks + y.query_chunks), chunk = piece % (y.key_chunks + y.query_chunks);
    int64_t b = head / a->heads, h = head % a->heads, channel = h * a->head_dim, dim = a->head_dim;
    if (chunk < y.key_chunks) {
        int64_t key = 32 * chunk, there = a->k_len - key;
        const sd_bf16 *k = (const sd_bf16 *)job->k + (b * a->k_len + key) * a->k_stride + channel;
        const sd_bf16 *v = (const sd_bf16 *)job->v + (b * a->k_len + key) * a->v_stride + channel;
        tiles to = bwd_keys(job, &y, head * y.key_chunks + chunk);
        pack_rows(to, k, a->k_stride, there, dim, 0, 0);
        pack_rows(to + y.deep * TILE, k + 16 * a->k_stride, a->k_stride, there - 16, dim, 0, 0);
        pack_rows(to + 2 * y.deep * TILE, v, a->v_stride, there, dim, 0, 0);
        pack_rows(to + 3 * y.deep * TILE, v + 16 * a->v_stride, a->v_stride, there - 16, dim, 0, 0);
        pack_pairs(to + 4 * y.deep * TILE, k, a->k_stride, there, dim, y.wide, 1, 0);
        return;
    }
    chunk -= y.key_chunks;
    int64_t query = 32 * chunk, there = a->q_len - query, at = head * y.query_chunks + chunk;
    const sd_bf16 *q = (const sd_bf16 *)job->q + (b * a->q_len + query) * a->q_stride + channel;
    const sd_bf16 *dout = (const sd_bf16 *)job->dout + (b * a->q_len + query) * a->o_stride + channel;
    const sd_bf16 *o = (const sd_bf16 *)job->o + (b * a->q_len + query) * a->o_stride + channel;
    tiles to = bwd_queries(job, &y, at);
    pack_rows(to, q, a->q_stride, there, dim, 1, score_flip(a));
    pack_rows(to + y.deep * TILE, q + 16 * a->q_stride, a->q_stride, there - 16, dim, 1, score_flip(a));
    pack_rows(to + 2 * y.deep * TILE, dout, a->o_stride, there, dim, 1, 0);
    pack_rows(to + 3 * y.deep * TILE, dout + 16 * a->o_stride, a->o_stride, there - 16, dim, 1, 0);
    pack_pairs(to + 4 * y.deep * TILE, q, a->q_stride, there, dim, y.wide, 0, 0);
    pack_pairs(to + (4 * y.deep + y.wide) * TILE, dout, a->o_stride, there, dim, y.wide, 0, 0);
    float *lse = (float *)(job->shared + y.lse) + 32 * at, *delta = (float *)(job->shared + y.delta) + 32 * at;
    for (int64_t i = 0; i < 32; i++) {
        /* the great number gives p = 0 for queries that only fill up the chunk */
        lse[i] = i < there ? job->lse[head * a->q_len + query + i] * SD_LOG2E : 1e30F;
        delta[i] = i < there ? row_dot(o + i * a->o_stride, dout + i * a->o_stride, dim) : 0;
    }
}

/* 32 keys by 32 queries: s and dp, [key tile][query tile], become p and ds [key tile] with queries paired (A of dv and
 * dk) and ds [query tile] with keys paired (B of dq^T). */
INLINE void weigh_bwd(tiles p, tiles ds, tiles dst, ctiles s, ctiles dp, float factor, const float *lse,
                      const float *delta)
{
    __m512 f = _mm512_set1_ps(factor);
    __m512 l[2] = {_mm512_load_ps(lse), _mm512_load_ps(lse + 16)};
    __m512 d[2] = {_mm512_load_ps(delta), _mm512_load_ps(delta + 16)};
    for (int r = 0; r < 1024; r += 64) {
        __m512i e[2][2];
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512i w[2];
#pragma GCC unroll 2
            for (int j = 0; j < 2; j++) {
                __m512 x = exp2_short(_mm512_fmsub_ps(_mm512_load_ps(s + (2 * i + j) * TILE + r), f, l[j]), 0);
                __m512 g = _mm512_sub_ps(_mm512_load_ps(dp + (2 * i + j) * TILE + r), d[j]);
                w[j] = half_up(x);
                e[i][j] = half_up(_mm512_mul_ps(x, g));
            }
            _mm512_store_si512(p + i * TILE + r, pair(w[0], w[1]));
            _mm512_store_si512(ds + i * TILE + r, pair(e[i][0], e[i][1]));
        }
        for (int j = 0; j < 2; j++)
            _mm512_store_si512(dst + j * TILE + r, pair(e[0][j], e[1][j]));
    }
}

AMX static void bwd_unit(const struct sd_attn_job *job, int64_t piece, void *local)
{
    const struct sd_attn *a = &job->a;
    struct bwd_layout y = bwd_layout(a);
    int64_t parts = y.cut.key_parts * y.cut.query_parts, head = piece / parts, part = piece % parts;
    int64_t key_part = y.cut.key_parts > 1 ? part : 0, query_part = y.cut.query_parts > 1 ? part : 0;
    int64_t key_blocks = sd_attn_blocks(y.key_chunks, y.key_block), step = BACK_QUERIES / 32;
    int64_t query_blocks = sd_attn_blocks(y.query_chunks, step);
    int64_t key_from = key_part * key_blocks / y.cut.key_parts * y.key_block;
    int64_t key_to = sd_attn_min((key_part + 1) * key_blocks / y.cut.key_parts * y.key_block, y.key_chunks);
    int64_t query_from = query_part * query_blocks / y.cut.query_parts * step;
    int64_t query_to = sd_attn_min((query_part + 1) * query_blocks / y.cut.query_parts * step, y.query_chunks);
    int64_t keys = head * y.key_chunks, queries = head * y.query_chunks, pack = 4 * y.deep + 2 * y.wide;
    int64_t row = 2 * y.wide * TILE; /* of the sums, a chunk */
    tiles s = (tiles)local + y.s, dp = (tiles)local + y.dp, p = (tiles)local + y.p, ds = (tiles)local + y.ds;
    tiles dst = (tiles)local + y.dst;
    tiles dq = job->shared + y.dq + (key_part * y.heads * y.query_chunks + queries) * row;
    tiles dk = job->shared + y.dk + (query_part * y.heads * y.key_chunks + keys) * row, dv = dk + (y.dv - y.dk);
    float factor = score_factor(a);

    memset(dq + query_from * row, 0, (size_t)((query_to - query_from) * row));
    memset(dk + key_from * row, 0, (size_t)((key_to - key_from) * row));
    memset(dv + key_from * row, 0, (size_t)((key_to - key_from) * row));
    tiles_begin();
    for (int64_t block = key_from; block < key_to; block += y.key_block)
        for (int64_t query = query_from; query < query_to; query += step) {
            int64_t end = sd_attn_min(block + y.key_block, key_to), n = sd_attn_min(step, query_to - query);
            if (a->causal)
                end = sd_attn_min(end, query + n); /* later keys are seen by none of these queries */
            if (block >= end)
                continue;
            ctiles q = bwd_queries(job, &y, queries + query);
            for (int64_t key = block; key < end; key++) {
                ctiles k = bwd_keys(job, &y, keys + key);
                tiles turned = dst + (key - block) * (2 * step) * TILE;
                for (int64_t c = 0; c < n; c++) {
                    int64_t at = 32 * (queries + query + c);
                    scores(s, k, q + c * pack * TILE, y.deep);
                    scores(dp, k + 2 * y.deep * TILE, q + (c * pack + 2 * y.deep) * TILE, y.deep);
                    if (32 * key + 32 > a->k_len || (a->causal && key >= query + c))
                        mask_scores(a, s, 2, 32 * key, 32 * (query + c));
                    weigh_bwd(p + 2 * c * TILE, ds + 2 * c * TILE, turned + 2 * c * TILE, s, dp, factor,
                              (float *)(job->shared + y.lse) + at, (float *)(job->shared + y.delta) + at);
                }
                /* steps over queries: the packed pairs of a chunk lie `pack` tiles apart */
                if (job->dv)
                    product_b(dv + key * row, y.wide, q + (4 * y.deep + y.wide) * TILE, pack, p, 2, n, 0);
                if (job->dk)
                    product_b(dk + key * row, y.wide, q + 4 * y.deep * TILE, pack, ds, 2, n, 0);
            }
            for (int64_t c = 0; job->dq && c < n; c++)
                product_a(dq + (query + c) * row, y.wide, bwd_keys(job, &y, keys + block) + 4 * y.deep * TILE,
                          4 * y.deep + y.wide, dst + 2 * c * TILE, 2 * step, end - block, 0);
        }
    tiles_end();
}

/* A tile of sums with its copies added in order, scaled */
INLINE void gather(__m512i w[16], ctiles from, size_t copy, int64_t copies, float scale)
{
    for (int i = 0; i < 16; i++) {
        __m512 x = _mm512_load_ps(from + 64 * i);
        for (int64_t n = 1; n < copies; n++)
            x = _mm512_add_ps(x, _mm512_load_ps(from + n * copy + 64 * i));
        w[i] = _mm512_castps_si512(_mm512_mul_ps(x, _mm512_set1_ps(scale)));
    }
}

/* 32 tokens from sums [token tile 0, 1][wide] */
INLINE void store_tokens(sd_bf16 *to, int64_t stride, int64_t tokens, ctiles from, size_t copy, int64_t copies,
                         float scale, int64_t dim, int turn)
{
    __m512i w[16];
    for (int64_t t = 0; t < 32 && t < tokens; t += 16)
        for (int64_t c = 0; c < dim; c += 16, from += TILE) {
            gather(w, from, copy, copies, scale);
            if (turn)
                transpose(w);
            for (int i = 0; i < 16 && t + i < tokens; i++)
                _mm256_mask_storeu_epi16(to + (t + i) * stride + c, (__mmask16)low_bits(dim - c),
                                         (__m256i)_mm512_cvtneps_pbh(_mm512_castsi512_ps(w[i])));
        }
}

AMX static void bwd_finish(const struct sd_attn_job *job, int64_t piece, void *local)
{
    (void)local;
    const struct sd_attn *a = &job->a;
    struct bwd_layout y = bwd_layout(a);
    int64_t head = piece / (y.key_chunks + y.query_chunks), chunk = piece % (y.key_chunks + y.query_chunks);
    int64_t b = head / a->heads, channel = head % a->heads * a->head_dim, row = 2 * y.wide * TILE;
    if (chunk < y.key_chunks) {
        int64_t key = 32 * chunk, token = b * a->k_len + key, at = (head * y.key_chunks + chunk) * row;
        size_t copy = (size_t)(y.heads * y.key_chunks * row);
        if (job->dk)
            store_tokens((sd_bf16 *)job->dk + token * a->k_stride + channel, a->k_stride, a->k_len - key,
                         job->shared + y.dk + at, copy, y.cut.query_parts, a->scale, a->head_dim, 0);
        if (job->dv)
            store_tokens((sd_bf16 *)job->dv + token * a->v_stride + channel, a->v_stride, a->k_len - key,
                         job->shared + y.dv + at, copy, y.cut.query_parts, 1, a->head_dim, 0);
    } else if (job->dq) {
        int64_t query = 32 * (chunk - y.key_chunks), at = (head * y.query_chunks + query / 32) * row;
        store_tokens((sd_bf16 *)job->dq + (b * a->q_len + query) * a->q_stride + channel, a->q_stride,
                     a->q_len - query, job->shared + y.dq + at, (size_t)(y.heads * y.query_chunks * row),
                     y.cut.key_parts, a->scale, a->head_dim, 1);
    }
}

static void bwd(const struct sd_attn *a, int bf16, struct sd_attn_plan *plan)
{
    (void)bf16;
    struct bwd_layout y = bwd_layout(a);
    int64_t chunks = y.heads * (y.key_chunks + y.query_chunks);
    plan->shared = (y.shared + 63) / 64 * 64;
    plan->local = y.local;
    plan->stage[0] = (struct sd_attn_stage){bwd_pack, chunks};
    plan->stage[1] = (struct sd_attn_stage){bwd_unit, y.heads * y.cut.key_parts * y.cut.query_parts};
    plan->stage[2] = (struct sd_attn_stage){bwd_finish, chunks};
    plan->stages = 3;
}

/* ---- is it there? ---- */

/* The processor has it, and the kernel lets this process use the tile registers (Linux asks to be asked). */
static int detect(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 22) || !(d & 1u << 24)) /* AMX-BF16, AMX-TILE */
        return 0;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & 1u << 5)) /* AVX512_BF16 */
        return 0;
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

const struct sd_attn_kernels *sd_attn_amx(void)
{
    static const struct sd_attn_kernels kernels = {fwd, bwd};
    static _Atomic int found; /* 0: not asked yet; two threads that ask at the same time get the same answer */
    int is = atomic_load_explicit(&found, memory_order_relaxed);
    if (!is) {
        is = detect() ? 1 : -1;
        atomic_store_explicit(&found, is, memory_order_relaxed);
    }
    return is > 0 ? &kernels : NULL;
}
#endif
