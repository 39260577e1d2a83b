/* Matrix product on AMX tiles.
 *
 * Both factors are packed into blocks of 32 rows (columns) by steps of 32 along k, two tiles of 16 rows of 64
 * bytes each. The smaller factor is packed whole first, by all threads (`shared`); the other is cut into
 * units, which a thread packs for itself as it goes (`own`). k is cut into parts that keep both in the
 * second-level cache; between parts the sums of a unit wait in f32.
 *
 * A tile of the left factor of an AMX product holds 16 rows by 32 k; of the right, 16 pairs of k by 16
 * columns. What is stored with k running along its rows is cheap to pack as a left tile, the rest as a right
 * one. The larger factor gets what is cheap for it: where that makes b the left factor, y comes out
 * transposed and is turned when stored.
 *
 * Right tiles hold their 32 columns in the order that interleaving leaves them in (column_of). */
#include "tensor/cpu/gemm.h"

#if !defined(__x86_64__) || !defined(__linux__)
const struct sd_gemm_kernels *sd_gemm_amx(void)
{
    return NULL;
}
#else
#include <omp.h>

#include "tensor/cpu/ahead.h"
#include "tensor/cpu/amx.h"

#define STEP (2 * TILE) /* of a block's 32 rows by 32 k */
#define SUMS (4 * TILE) /* of a block of sums, 32 by 32 */
#define PART 12         /* steps of a part of k at most */

/* One factor: `count` rows of op(a), or columns of op(b), by k. */
struct side {
    const sd_bf16 *x;
    int64_t count, k, blocks;
    bool along;    /* stored [count, k], else [k, count] */
    bool left;     /* packed as left tiles */
    ctiles packed; /* NULL, or x as tiles already, [part][block][step] */
};

struct job {
    const struct sd_gemm *g;
    struct side own, shared;
    bool own_a;  /* own is a and shared b, else the other way round */
    bool turned; /* sums are [n, m] */
    int64_t steps, parts;
    int64_t group, unit, units; /* own blocks packed at a time, blocks of a unit, how many units */
    size_t shared_bytes, local_bytes;
    const float *bias;
    const void *acc;
    void *y;
};

static int64_t low(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t blocks(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* ---- packing ---- */

/* Column i of half h of a right block, among the block's 32. */
INLINE int column_of(int h, int i)
{
    return i / 4 * 8 + h * 4 + i % 4;
}

/* Stored [count, k]: 32 rows of one step. */
INLINE void pack_along(tiles to, const struct side *s, int64_t at, int64_t k)
{
    __mmask32 mask = low_bits(s->k - k);
    const sd_bf16 *x = s->x + at * s->k + k;
    int64_t there = s->count - at;
    for (int h = 0; h < 2; h++) {
        __m512i w[16];
        for (int i = 0; i < 16; i++) {
            int row = s->left ? 16 * h + i : column_of(h, i);
            w[i] = _mm512_maskz_loadu_epi16(row < there ? mask : 0, row < there ? x + row * s->k : x);
            _mm_prefetch((const char *)(x + (row + 32) * s->k), _MM_HINT_T1);
        }
        if (!s->left)
            transpose(w);
        for (int i = 0; i < 16; i++)
            _mm512_store_si512(to + h * TILE + i * 64, w[i]);
    }
}

/* Stored [k, count]: the same from 32 rows of 32 columns. */
INLINE void pack_across(tiles to, const struct side *s, int64_t at, int64_t k)
{
    __mmask32 mask = low_bits(s->count - at);
    const sd_bf16 *x = s->x + k * s->count + at;
    int64_t there = s->k - k;
    __m512i w[2][16];
    for (int i = 0; i < 16; i++) {
        __m512i even =
            _mm512_maskz_loadu_epi16(2 * i < there ? mask : 0, 2 * i < there ? x + 2 * i * s->count : x);
        __m512i odd = _mm512_maskz_loadu_epi16(2 * i + 1 < there ? mask : 0,
                                               2 * i + 1 < there ? x + (2 * i + 1) * s->count : x);
        _mm_prefetch((const char *)(x + (2 * i + 32) * s->count), _MM_HINT_T0);
        _mm_prefetch((const char *)(x + (2 * i + 33) * s->count), _MM_HINT_T0);
        w[0][i] = _mm512_unpacklo_epi16(even, odd);
        w[1][i] = _mm512_unpackhi_epi16(even, odd);
    }
    for (int h = 0; h < 2; h++) {
        if (s->left)
            transpose(w[h]);
        for (int i = 0; i < 16; i++)
            _mm512_store_si512(to + (s->left ? column_of(h, i) * 64 : h * TILE + i * 64), w[h][i]);
    }
}

/* Blocks from..from+n-1, steps k..k+steps-1, as to[block][step]. Memory is read in the order it lies in. */
AMX static void pack(tiles to, const struct side *s, int64_t from, int64_t n, int64_t k, int64_t steps)
{
    if (s->along)
        for (int64_t b = 0; b < n; b++)
            for (int64_t i = 0; i < steps; i++)
                pack_along(to + (b * steps + i) * STEP, s, 32 * (from + b), 32 * (k + i));
    else
        for (int64_t i = 0; i < steps; i++)
            for (int64_t b = 0; b < n; b++)
                pack_across(to + (b * steps + i) * STEP, s, 32 * (from + b), 32 * (k + i));
}

/* ---- products ---- */

INLINE void multiply(ctiles left, ctiles right, int64_t steps, struct sd_ahead *next, int64_t lines)
{
    struct sd_ahead f = *next;
    for (int64_t i = 0; i < steps; i++, left += STEP, right += STEP) {
        TILE_LOAD(4, left);
        TILE_LOAD(6, right);
        TILE_FMA(0, 4, 6);
        TILE_LOAD(7, right + TILE);
        TILE_FMA(1, 4, 7);
        TILE_LOAD(5, left + TILE);
        TILE_FMA(2, 5, 6);
        TILE_FMA(3, 5, 7);
        sd_ahead_fetch(&f, lines);
    }
    *next = f;
}

INLINE void sums_begin(ctiles sums, bool fresh)
{
    if (fresh) {
        TILE_ZERO(0);
        TILE_ZERO(1);
        TILE_ZERO(2);
        TILE_ZERO(3);
    } else {
        TILE_LOAD(0, sums);
        TILE_LOAD(1, sums + TILE);
        TILE_LOAD(2, sums + 2 * TILE);
        TILE_LOAD(3, sums + 3 * TILE);
    }
}

INLINE void sums_end(tiles sums)
{
    TILE_STORE(0, sums);
    TILE_STORE(1, sums + TILE);
    TILE_STORE(2, sums + 2 * TILE);
    TILE_STORE(3, sums + 3 * TILE);
}

INLINE __m512 widen(__m256i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

INLINE __m512 finished(const struct job *j, __m512 sum, int64_t column, __mmask16 mask)
{
    __m512 v = _mm512_mul_ps(sum, _mm512_set1_ps(j->g->scale));
    return j->bias ? _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, j->bias + column)) : v;
}

/* 32 elements of y from their sums */
INLINE void finish(const struct job *j, int64_t row, int64_t column, __m512 s0, __m512 s1)
{
    __mmask32 mask = low_bits(j->g->n - column);
    __mmask16 m0 = (__mmask16)mask, m1 = (__mmask16)(mask >> 16);
    int64_t at = row * j->g->n + column, next = at + 32 * j->g->n;
    __m512 v0 = finished(j, s0, column, m0), v1 = finished(j, s1, column + 16, m1);
    if (j->g->y_f32) {
        float *y = (float *)j->y + at;
        if (j->acc) {
            v0 = _mm512_add_ps(v0, _mm512_maskz_loadu_ps(m0, (const float *)j->acc + at));
            v1 = _mm512_add_ps(v1, _mm512_maskz_loadu_ps(m1, (const float *)j->acc + at + 16));
        }
        _mm512_mask_storeu_ps(y, m0, v0);
        _mm512_mask_storeu_ps(y + 16, m1, v1);
    } else {
        sd_bf16 *y = (sd_bf16 *)j->y;
        _mm_prefetch((const char *)(y + next), _MM_HINT_T1);
        if (j->acc) {
            __m512i old = _mm512_maskz_loadu_epi16(mask, (const sd_bf16 *)j->acc + at);
            v0 = _mm512_add_ps(v0, widen(_mm512_castsi512_si256(old)));
            v1 = _mm512_add_ps(v1, widen(_mm512_extracti64x4_epi64(old, 1)));
        }
        _mm512_mask_storeu_epi16(y + at, mask, (__m512i)_mm512_cvtne2ps_pbh(v1, v0));
    }
}

/* y from the sums [m, n] of a block */
AMX static void store_straight(const struct job *j, ctiles sums, int64_t row, int64_t column)
{
    __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
            high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (int i = 0; i < 32 && row + i < j->g->m; i++) {
        const double *s = (const double *)(sums + i / 16 * 2 * TILE + i % 16 * 64);
        __m512d x = _mm512_load_pd(s), y = _mm512_load_pd(s + TILE / sizeof(double));
        finish(j, row + i, column, _mm512_castpd_ps(_mm512_permutex2var_pd(x, low, y)),
               _mm512_castpd_ps(_mm512_permutex2var_pd(x, high, y)));
    }
}

/* y from the sums [n, m] of a block */
AMX static void store_turned(const struct job *j, ctiles sums, int64_t row, int64_t column)
{
    for (int h = 0; h < 2; h++, sums += TILE) {
        __m512i w[2][16];
        for (int t = 0; t < 2; t++) {
            for (int i = 0; i < 16; i++)
                w[t][i] = _mm512_load_si512(sums + t * 2 * TILE + i * 64);
            transpose(w[t]);
        }
        for (int i = 0; i < 16; i++)
            if (row + column_of(h, i) < j->g->m)
                finish(j, row + column_of(h, i), column, _mm512_castsi512_ps(w[0][i]),
                       _mm512_castsi512_ps(w[1][i]));
    }
}

/* One block of sums over a part of k; after the last part into y. */
INLINE void block(const struct job *j, ctiles own, ctiles shared, tiles sums, int64_t own_at,
                  int64_t shared_at, int64_t part, int64_t steps, struct sd_ahead *next)
{
    int64_t lines = blocks(32, j->shared.blocks);
    sums_begin(sums, part == 0);
    if (j->own.left)
        multiply(own, shared, steps, next, lines);
    else
        multiply(shared, own, steps, next, lines);
    sums_end(sums);
    if (part + 1 < j->parts)
        return;
    if (j->turned)
        store_turned(j, sums, 32 * (j->own.left ? shared_at : own_at),
                     32 * (j->own.left ? own_at : shared_at));
    else
        store_straight(j, sums, 32 * (j->own.left ? own_at : shared_at),
                       32 * (j->own.left ? shared_at : own_at));
}

static int64_t part_from(const struct job *j, int64_t part)
{
    return part * j->steps / j->parts;
}

static ctiles packed_at(const struct side *s, int64_t k, int64_t block, int64_t steps)
{
    return s->packed + (s->blocks * k + block * steps) * STEP;
}

static struct sd_ahead ahead_of(const struct side *s, int64_t from, int64_t n, int64_t k, int64_t steps)
{
    int64_t count = low(32 * n, s->count - 32 * from), deep = low(32 * steps, s->k - 32 * k);
    if (s->along)
        return (struct sd_ahead){(const char *)(s->x + 32 * from * s->k + 32 * k), 2 * s->k, 2 * deep, count,
                                 0};
    return (struct sd_ahead){(const char *)(s->x + 32 * k * s->count + 32 * from), 2 * s->count, 2 * count,
                             deep, 0};
}

/* What a unit packs after the group at `at` of a part: the group behind it, or the first of the next part. */
static struct sd_ahead next_of(const struct job *j, int64_t part, int64_t at, int64_t from, int64_t to)
{
    at += j->group;
    if (at >= to) {
        at = from;
        part++;
    }
    if (part >= j->parts)
        return (struct sd_ahead){0};
    int64_t k = part_from(j, part), steps = part_from(j, part + 1) - k, here = low(j->group, to - at);
    if (j->own.packed)
        return (struct sd_ahead){
            .row = packed_at(&j->own, k, at, steps), .width = here * steps * STEP, .rows = 1};
    return ahead_of(&j->own, at, here, k, steps);
}

AMX static void unit(const struct job *j, int64_t number, tiles local)
{
    int64_t from = number * j->unit, to = low(from + j->unit, j->own.blocks), n = j->shared.blocks;
    ctiles own = local;
    tiles sums = local + j->group * blocks(j->steps, j->parts) * STEP;
    tiles_begin();
    for (int64_t part = 0; part < j->parts; part++) {
        int64_t k = part_from(j, part), steps = part_from(j, part + 1) - k;
        for (int64_t at = from; at < to; at += j->group) {
            int64_t here = low(j->group, to - at);
            if (j->own.packed)
                own = packed_at(&j->own, k, at, steps);
            else
                pack(local, &j->own, at, here, k, steps);
            struct sd_ahead next = next_of(j, part, at, from, to);
            for (int64_t s = 0; s < n; s++)
                for (int64_t i = 0; i < here; i++)
                    block(j, own + i * steps * STEP, packed_at(&j->shared, k, s, steps),
                          j->parts > 1 ? sums + ((at - from + i) * n + s) * SUMS : sums, at + i, s, part,
                          steps, &next);
        }
    }
    tiles_end();
}

/* ---- plan: sizes are what measures best with 2 MiB of second-level cache ---- */

static struct side side(const void *x, int64_t count, int64_t k, bool along)
{
    return (struct side){.x = x, .count = count, .k = k, .along = along, .blocks = blocks(count, 32)};
}

static struct job job_of(const struct sd_gemm *g, const void *a, const void *b)
{
    struct job j = {.g = g, .steps = blocks(g->k, 32)};
    struct side left = side(a, g->m, g->k, !g->trans_a), right = side(b, g->n, g->k, g->trans_b);
    /* turning y costs too much after few steps */
    bool own_a = j.steps < 10 && left.along != right.along ? left.along : j.steps < 10 || g->m >= g->n;
    if (g->packed_b)
        right.packed = b;
    int64_t threads = omp_get_max_threads();
    j.own_a = own_a;
    j.own = own_a ? left : right;
    j.shared = own_a ? right : left;
    j.own.left = j.own.along;
    j.shared.left = !j.own.left;
    j.turned = own_a != j.own.left;
    j.parts = blocks(j.steps, j.own.along ? PART : PART / 2);
    int64_t steps = blocks(j.steps, j.parts), most = blocks(j.own.blocks, threads);
    j.group = j.shared.blocks * steps <= 512 && j.own.along ? 1 : low(8, most);
    j.unit = low(j.parts > 1 ? blocks(80, j.shared.blocks) : 8, most);
    if (j.unit < j.group)
        j.unit = j.group;
    if (j.parts > 1 && !j.own.along)
        j.group = j.shared.blocks <= 2 ? j.unit : j.group; /* read whole rows */
    j.units = blocks(j.own.blocks, j.unit);
    j.shared_bytes = j.shared.packed ? 0 : (size_t)(j.shared.blocks * j.steps * STEP);
    j.local_bytes = (size_t)(j.group * steps * STEP + (j.parts > 1 ? j.unit * j.shared.blocks : 1) * SUMS);
    return j;
}

static size_t scratch(const struct sd_gemm *g)
{
    struct job j = job_of(g, NULL, NULL);
    return j.shared_bytes + (size_t)omp_get_max_threads() * j.local_bytes;
}

/* Block by block, as [part][block][step]; inside a parallel region. */
static void pack_all(const struct job *j, const struct side *s, tiles to)
{
#pragma omp for schedule(static)
    for (int64_t i = 0; i < s->blocks * j->parts; i++) {
        int64_t part = i / s->blocks, at = i % s->blocks, k = part_from(j, part);
        int64_t steps = part_from(j, part + 1) - k;
        pack(to + (s->blocks * k + at * steps) * STEP, s, at, 1, k, steps);
    }
}

static void run(const struct sd_gemm *g, const void *a, const void *b, const float *bias, const void *acc,
                void *y, void *scratch)
{
    struct job j = job_of(g, a, b);
    j.bias = bias;
    j.acc = acc;
    j.y = y;
    bool pack_shared = !j.shared.packed;
    if (pack_shared)
        j.shared.packed = scratch;
#pragma omp parallel
    {
        tiles local = (tiles)scratch + j.shared_bytes + (size_t)omp_get_thread_num() * j.local_bytes;
        if (pack_shared)
            pack_all(&j, &j.shared, scratch);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < j.units; i++)
            unit(&j, i, local);
    }
}

/* b of a job */
static const struct side *side_b(const struct job *j)
{
    return j->own_a ? &j->shared : &j->own;
}

static size_t packed_bytes(const struct sd_gemm *g)
{
    struct job j = job_of(g, NULL, NULL);
    return (size_t)(side_b(&j)->blocks * j.steps * STEP);
}

static int packed_form(const struct sd_gemm *g)
{
    struct job j = job_of(g, NULL, NULL);
    return (int)j.parts * 2 + side_b(&j)->left;
}

static void pack_b(const struct sd_gemm *g, const void *b, void *packed)
{
    struct job j = job_of(g, NULL, b);
#pragma omp parallel
    pack_all(&j, side_b(&j), packed);
}

const struct sd_gemm_kernels *sd_gemm_amx(void)
{
    static const struct sd_gemm_kernels kernels = {scratch, run, packed_bytes, packed_form, pack_b};
    return &kernels;
}
#endif
