/* Wide accesses and index arithmetic for kernels that walk tensors as rows of units, a unit being the
 * elements that one thread moves at once. */
#ifndef SD_GPU_ROWS_H
#define SD_GPU_ROWS_H

#include "kernel.h"

/* Elements of a unit where addresses and row lengths allow it: 16 bytes of halves, twice 16 of f32. */
constexpr int SD_WIDE = 8;

/* Elements in 16 bytes, the most that one access moves. */
template <typename T> constexpr int SD_PACK = 16 / sizeof(T);

/* W neighbours in memory, moved by accesses of up to 16 bytes. */
template <typename T, int W> struct alignas(sizeof(T) * W < 16 ? sizeof(T) * W : 16) sd_wide {
    T v[W];
};

/* Unit number `at` of x. */
template <int W, typename T> __device__ sd_wide<float, W> sd_load(const T *x, int64_t at)
{
    sd_wide<T, W> in = reinterpret_cast<const sd_wide<T, W> *>(x)[at];
    sd_wide<float, W> out;
    for (int k = 0; k < W; k++)
        out.v[k] = to_f32(in.v[k]);
    return out;
}

template <int W, typename T> __device__ void sd_store(T *y, int64_t at, const sd_wide<float, W> &v)
{
    sd_wide<T, W> out;
    for (int k = 0; k < W; k++)
        out.v[k] = from_f32<T>(v.v[k]);
    reinterpret_cast<sd_wide<T, W> *>(y)[at] = out;
}

/* Adds up what the threads of one column hold, in a block of `across` by `down` threads, both powers of two
 * and at most SD_THREADS together; the first row gets the sums. spare holds SD_THREADS * W. */
template <int W> __device__ void sd_add_down(sd_wide<float, W> &sum, float *spare, int across, int down)
{
    int thread = static_cast<int>(threadIdx.x), row = thread / across;
    for (int k = 0; k < W; k++)
        spare[k * SD_THREADS + thread] = sum.v[k];
    for (int step = down / 2; step; step /= 2) {
        __syncthreads();
        for (int k = 0; k < W && row < step; k++)
            spare[k * SD_THREADS + thread] = sum.v[k] += spare[k * SD_THREADS + thread + step * across];
    }
    __syncthreads(); /* spare may be used again */
}

static inline bool sd_aligned(const void *p)
{
    return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

/* Division by a number known before the launch, for it costs a dozen instructions instead of a hundred:
 * n / by = n * factor / 2^(63 + bits), exact for 0 <= n < 2^63 (Granlund and Montgomery, Division by
 * Invariant Integers using Multiplication, 1994, theorem 4.2). */
struct sd_divider {
    int64_t by;
    uint64_t factor;
    int shift; /* bits - 1 */

    explicit sd_divider(int64_t d) : by(d > 1 ? d : 1), factor(0), shift(0)
    {
        if (by == 1)
            return;
        int bits = 64 - __builtin_clzll(static_cast<unsigned long long>(by - 1));
        unsigned __int128 n = static_cast<unsigned __int128>(1) << (63 + bits);
        unsigned __int128 m = static_cast<unsigned __int128>(by);
        factor = static_cast<uint64_t>((n + m - 1) / m);
        shift = bits - 1;
    }

    __device__ int64_t quotient(int64_t n) const
    {
        uint64_t high =
            static_cast<uint64_t>(static_cast<unsigned __int128>(static_cast<uint64_t>(n)) * factor >> 64);
        return by == 1 ? n : static_cast<int64_t>(high >> shift);
    }
};

/* f(U{}) for the largest type U of 1 to 16 bytes that divides all the bits of `all`: lengths, offsets and
 * addresses in bytes, or-ed. For kernels that move elements of any type. */
template <typename F> void sd_by_unit(uint64_t all, F f)
{
    all |= 16;
    switch (all & -all) {
    case 16:
        return f(sd_wide<uint32_t, 4>{});
    case 8:
        return f(sd_wide<uint32_t, 2>{});
    case 4:
        return f(uint32_t{});
    case 2:
        return f(uint16_t{});
    default:
        return f(uint8_t{});
    }
}

static inline uint64_t sd_bits(const void *p)
{
    return reinterpret_cast<uintptr_t>(p);
}

#endif
