/* bfloat16 attention on AMX tiles, backward. attention_amx.h tells how it is laid out. */
#if defined(__x86_64__) && defined(__linux__)
#include "tensor/cpu/attention_amx.h"

#define BACK_QUERIES 256 /* backward: queries of a block */

/* Tiles of one chunk of 32 keys: K rows, V rows (2 * deep each), K turned (wide); of 32 queries: Q columns,
 * dO columns, Q pairs, dO pairs. Then f32: lse in log2 units and delta = rowsum(dO * o); sums of dq^T [query
 * tile][wide] one copy a key part, of dk and dv [key tile][wide] one copy a query part. */
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
    size_t key_tiles = (size_t)(y.heads * y.key_chunks) * TILE,
           query_tiles = (size_t)(y.heads * y.query_chunks) * TILE;
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
    float *lse = (float *)(job->shared + y.lse) + 32 * at,
          *delta = (float *)(job->shared + y.delta) + 32 * at;
    for (int64_t i = 0; i < 32; i++) {
        /* the great number gives p = 0 for queries that only fill up the chunk */
        lse[i] = i < there ? job->lse[head * a->q_len + query + i] * SD_LOG2E : 1e30F;
        delta[i] = i < there ? row_dot(o + i * a->o_stride, dout + i * a->o_stride, dim) : 0;
    }
}

/* 32 keys by 32 queries: s and dp, [key tile][query tile], become p and ds [key tile] with queries paired (A
 * of dv and dk) and ds [query tile] with keys paired (B of dq^T). */
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
                __m512 x =
                    exp2_short(_mm512_fmsub_ps(_mm512_load_ps(s + (2 * i + j) * TILE + r), f, l[j]), 0);
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
    int64_t query_to =
        sd_attn_min((query_part + 1) * query_blocks / y.cut.query_parts * step, y.query_chunks);
    int64_t keys = head * y.key_chunks, queries = head * y.query_chunks, pack = 4 * y.deep + 2 * y.wide;
    int64_t row = 2 * y.wide * TILE; /* of the sums, a chunk */
    tiles s = (tiles)local + y.s, dp = (tiles)local + y.dp, p = (tiles)local + y.p, ds = (tiles)local + y.ds;
    tiles dst = (tiles)local + y.dst;
    tiles dq = job->shared + y.dq + (key_part * y.heads * y.query_chunks + queries) * row;
    tiles dk = job->shared + y.dk + (query_part * y.heads * y.key_chunks + keys) * row,
          dv = dk + (y.dv - y.dk);
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
INLINE void store_tokens(sd_bf16 *to, int64_t stride, int64_t tokens, ctiles from, size_t copy,
                         int64_t copies, float scale, int64_t dim, int turn)
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

void sd_attn_amx_bwd(const struct sd_attn *a, int bf16, struct sd_attn_plan *plan)
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
#else
typedef int sd_attn_amx_absent; /* ISO C wants something in a file */
#endif
