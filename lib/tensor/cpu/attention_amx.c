/* bfloat16 attention on AMX tiles, forward. attention_amx.h tells how it is laid out.
 *
 * V gets one more channel of ones, so that the sum of p (as rounded to bf16, which is right: it divides their
 * sum) comes out of the same product. */
#include "tensor/cpu/attention_impl.h"

#if !defined(__x86_64__) || !defined(__linux__)
const struct sd_attn_kernels *sd_attn_amx(void)
{
    return NULL;
}
#else
#include "tensor/cpu/attention_amx.h"

#define KEYS 128 /* forward: keys of a block of scores; with 32 queries 16 KiB, to stay in L1 */

struct fwd_layout {
    int64_t deep, wide; /* tiles of 32 channels; of 16 channels, the ones included */
    int64_t key_rows;   /* keys a head, filled up to 32 */
    int64_t groups;     /* 32 queries each, that share each block of keys while it is in cache */
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
        pack_rows(to + y.deep * TILE, k + 16 * a->k_stride, a->k_stride, a->k_len - key - 16, a->head_dim, 0,
                  0);
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

/* The maximum of 16 queries after a block whose greatest scores are given; where it grew, the sums so far are
 * brought to it. */
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

/* 32 keys by 16 queries of scores, tiles 0 and 2 of a chunk (or 1 and 3), become p in bf16, keys paired, in
 * place of the first. The half step that rounds is added within the polynomial. */
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
                scores(w->s + 4 * c * TILE, k + 2 * c * y->deep * TILE, w->q + 2 * g * y->deep * TILE,
                       y->deep);
                if (key + 32 * c + 32 > w->a->k_len || (w->a->causal && key + 32 * c + 31 > query))
                    mask_scores(w->a, w->s + 4 * c * TILE, 2, key + 32 * c, query);
            }
            for (int j = 0; j < 2; j++) {
                __m512 m[8], top;
                greatest_start(m);
                for (int64_t c = 0; c < 2 * chunks; c++)
                    greatest(m, w->s + (2 * c + j) * TILE, TILE);
                top = raise(w->top + 32 * g + 16 * j, greatest_end(m), w->factor, sum + j * y->wide * TILE,
                            y->wide);
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
        pack_rows(w.q + i / 16 * w.y.deep * TILE, (const sd_bf16 *)job->q + (there > 0 ? at : 0), a->q_stride,
                  there, a->head_dim, 1, score_flip(a));
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
        _mm512_storeu_ps(
            sum, store_queries(to, a->o_stride, w.queries - i, w.o + i / 16 * w.y.wide * TILE, a->head_dim));
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

/* ---- is it there? ---- */

/* The processor has it, and the kernel lets this process use the tile registers (Linux asks to be asked). */
const struct sd_attn_kernels *sd_attn_amx(void)
{
    static const struct sd_attn_kernels kernels = {fwd, sd_attn_amx_bwd};
    return &kernels;
}
#endif
