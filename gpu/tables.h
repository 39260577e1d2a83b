/* Work on many tensors, most of them small (a LoRA's): a launch takes a table of as many as fit among a
 * kernel's arguments. The addresses are then part of a recording, and nothing needs to be copied to the
 * device before a run. */
#ifndef SD_GPU_TABLES_H
#define SD_GPU_TABLES_H

#include "rows.h"

#include <type_traits>

namespace
{

/* Arguments may take 4 KiB, and 32 764 bytes from CUDA 12.1 on. */
#if defined CUDART_VERSION && CUDART_VERSION >= 12010
constexpr size_t TABLE = 32000;
#else
constexpr size_t TABLE = 3968;
#endif

constexpr int PIECE = 4096; /* elements a block */
constexpr int UNIT = 4;     /* elements a thread moves at once */

/* Up to `most` sets of K tensors of one shape. */
template <int K> struct table {
    static constexpr int most =
        (TABLE - 16) / (K * sizeof(void *) + sizeof(int64_t) + sizeof(unsigned) + sizeof(uint8_t));

    void *memory[most][K];
    int64_t count[most];
    unsigned first[most + 1]; /* block of each set, and the number of all */
    uint8_t type[most];       /* of the set's last tensor; the others are f32 */
    int n;

    __device__ float *f32(int set, int k) const
    {
        return static_cast<float *>(memory[set][k]);
    }
};

/* The work of a block: elements [from, to) of set number `set`. */
struct piece {
    int set;
    int64_t from, to;
    bool wide; /* units of UNIT elements lie at multiples of 16 bytes */
};

/* Which of n sets this block belongs to, first(set) being the first block of each. */
template <typename F> __device__ int set_of_block(int n, F first)
{
    int low = 0, high = n; /* first(low) <= block < first(high) */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (first(middle) <= blockIdx.x)
            low = middle;
        else
            high = middle;
    }
    return low;
}

template <int K> __device__ struct piece piece_of(const table<K> &t)
{
    int set = set_of_block(t.n, [&](int i) { return t.first[i]; });
    uintptr_t bits = 0;
    for (int k = 0; k < K; k++)
        bits |= reinterpret_cast<uintptr_t>(t.memory[set][k]);
    int64_t from = static_cast<int64_t>(blockIdx.x - t.first[set]) * PIECE, end = from + PIECE;
    return {set, from, end < t.count[set] ? end : t.count[set], bits % 16 == 0};
}

/* visit(std::integral_constant<int, W>{}, unit) for what this thread has of a piece, W elements a unit. */
template <typename F> __device__ void each_unit(const struct piece &p, F visit)
{
    int64_t units = p.wide ? p.to / UNIT : p.from / UNIT;
    for (int64_t i = p.from / UNIT + threadIdx.x; i < units; i += SD_THREADS)
        visit(std::integral_constant<int, UNIT>{}, i);
    for (int64_t i = units * UNIT + threadIdx.x; i < p.to; i += SD_THREADS)
        visit(std::integral_constant<int, 1>{}, i);
}

/* Zeros for a piece of x. */
static inline __device__ void sd_zero_piece(const struct piece &p, float *x)
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        sd_store<W>(x, i, sd_wide<float, W>{});
    });
}

/* launch(table, first set, pieces before, grid) for all sets of a node, whose inputs they are in turn. */
template <int K, typename F> void by_tables(const struct sd_call *c, int sets, F launch)
{
    int64_t before = 0;
    for (int from = 0; from < sets; from += table<K>::most) {
        table<K> t;
        t.n = sets - from < t.most ? sets - from : t.most;
        t.first[0] = 0;
        for (int i = 0; i < t.n; i++) {
            int at = (from + i) * K;
            t.count[i] = sd_tensor_count(c->node->in[at]);
            t.first[i + 1] = t.first[i] + static_cast<unsigned>((t.count[i] + PIECE - 1) / PIECE);
            for (int k = 0; k < K; k++)
                t.memory[i][k] = c->in[at + k];
            t.type[i] = static_cast<uint8_t>(c->node->in[at + K - 1]->dtype);
        }
        if (t.first[t.n])
            launch(t, from, before, dim3(t.first[t.n]));
        before += t.first[t.n];
    }
}

} // namespace

#endif
