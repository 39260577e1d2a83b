/* Inside the attention kernels: what attention.c (choice, threads), attention_f32.inc (vector code, compiled
 * once per instruction set) and attention_amx.c share. */
#ifndef SD_TENSOR_CPU_ATTENTION_IMPL_H
#define SD_TENSOR_CPU_ATTENTION_IMPL_H

#include "tensor/cpu/attention.h"

#define SD_LOG2E 1.4426950408889634f
#define SD_LN2 0.6931471805599453f

/* The arguments of one call. */
struct sd_attn_job {
    struct sd_attn a;
    int bf16;
    const void *q, *k, *v, *o, *dout;
    const float *lse;
    void *out, *dq, *dk, *dv;
    float *lse_out;
    char *shared; /* scratch for all threads, 64-byte aligned */
};

/* A call is a few stages one after the other, each `count` independent pieces of work spread over the
 * threads. Pieces and their order of sums are set by shape alone: that is why the number of threads cannot
 * show in the result. */
struct sd_attn_stage {
    void (*run)(const struct sd_attn_job *job, int64_t piece, void *local);
    int64_t count;
};

struct sd_attn_plan {
    size_t shared, local; /* scratch bytes: for all, for each thread; multiples of 64 */
    struct sd_attn_stage stage[3];
    int stages;
};

struct sd_attn_kernels {
    void (*fwd)(const struct sd_attn *a, int bf16, struct sd_attn_plan *plan);
    void (*bwd)(const struct sd_attn *a, int bf16, struct sd_attn_plan *plan);
};

const struct sd_attn_kernels *sd_attn_amx(void); /* NULL where it cannot be built */
void sd_attn_amx_bwd(const struct sd_attn *a, int bf16, struct sd_attn_plan *plan);

size_t sd_attn_scratch(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16,
                       int backward);
void sd_attn_run(const struct sd_attn_kernels *kernels, const struct sd_attn_job *job, int backward,
                 void *scratch);

/* How the backward work of one head is cut besides into heads. A unit owns a range of keys (and adds to its
 * own copy of dq over all queries) or a range of queries (own copies of dk and dv over all keys); the copies
 * are summed in order afterwards. Two to four units a head are enough to keep a small machine busy, copies
 * cost memory traffic, and the cut must not follow the number of threads: so heads and batch count first, and
 * only what is missing to SD_ATTN_UNITS is made up by cutting, on the side where the copies are smaller. */
#define SD_ATTN_UNITS 16
struct sd_attn_cut {
    int64_t key_parts, query_parts; /* one of them is 1 */
};

static inline int64_t sd_attn_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static inline int64_t sd_attn_blocks(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

static inline int64_t sd_attn_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline struct sd_attn_cut sd_attn_cut(const struct sd_attn *a, int64_t key_block, int64_t query_block)
{
    int64_t heads = a->batch * a->heads, want = sd_attn_blocks(SD_ATTN_UNITS, heads);
    struct sd_attn_cut cut = {1, 1};
    if (a->q_len <= 2 * a->k_len)
        cut.key_parts = sd_attn_min(want, sd_attn_blocks(a->k_len, key_block));
    else
        cut.query_parts = sd_attn_min(want, sd_attn_blocks(a->q_len, query_block));
    return cut;
}

#endif
