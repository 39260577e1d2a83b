/* Warp primitives and atomics. Included by cuda.h only. */
#ifndef SD_GPU_EMU_WARP_H
#define SD_GPU_EMU_WARP_H

constexpr int SD_EMU_BALLOT = -1;

/* Waits for the lanes of the warp that mask names (lanes past the block's end are left out); the value that
 * the lane source gave, or with SD_EMU_BALLOT a bit for each lane whose value is not 0. A lane that mask does
 * not name gives all ones. */
uint64_t sd_emu_exchange(const char *what, unsigned mask, uint64_t value, int source, sd_emu_site site);

int sd_emu_lane(void);       /* of the thread that runs */
unsigned __activemask(void); /* the lanes that have not left the kernel: no more is certain on a device */

template <typename T> T sd_emu_shuffle(const char *what, unsigned mask, T x, int source, sd_emu_site site)
{
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8 && sizeof(T) != 1);
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = sd_emu_exchange(what, mask, bits, source, site);
    memcpy(static_cast<void *>(&x), &bits, sizeof x);
    return x;
}

/* A source past its segment of width lanes gives the lane's own value. */
template <typename T> T __shfl_sync(unsigned mask, T x, int source, int width = warpSize, SD_EMU_CALLER)
{
    int lane = sd_emu_lane(), first = lane & ~(width - 1);
    return sd_emu_shuffle("__shfl_sync", mask, x, first | (source & (width - 1)), {file, line});
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, unsigned delta, int width = warpSize, SD_EMU_CALLER)
{
    int lane = sd_emu_lane(), in = lane & (width - 1);
    return sd_emu_shuffle("__shfl_up_sync", mask, x, delta > unsigned(in) ? lane : lane - int(delta),
                          {file, line});
}
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned delta, int width = warpSize, SD_EMU_CALLER)
{
    int lane = sd_emu_lane(), left = width - 1 - (lane & (width - 1));
    return sd_emu_shuffle("__shfl_down_sync", mask, x, delta > unsigned(left) ? lane : lane + int(delta),
                          {file, line});
}
template <typename T> T __shfl_xor_sync(unsigned mask, T x, int bits, int width = warpSize, SD_EMU_CALLER)
{
    int lane = sd_emu_lane(), last = lane | (width - 1), source = lane ^ bits;
    return sd_emu_shuffle("__shfl_xor_sync", mask, x, source < 0 || source > last ? lane : source,
                          {file, line});
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, SD_EMU_CALLER)
{
    sd_emu_exchange("__syncwarp", mask, 0, SD_EMU_BALLOT, {file, line});
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, SD_EMU_CALLER)
{
    return unsigned(sd_emu_exchange("__ballot_sync", mask, predicate != 0, SD_EMU_BALLOT, {file, line}));
}
static inline int __any_sync(unsigned mask, int predicate, SD_EMU_CALLER)
{
    return sd_emu_exchange("__any_sync", mask, predicate != 0, SD_EMU_BALLOT, {file, line}) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, SD_EMU_CALLER)
{
    return sd_emu_exchange("__all_sync", mask, predicate == 0, SD_EMU_BALLOT, {file, line}) == 0;
}

/* --- atomics: of integers only, since the order of float sums would change their bits --- */

template <typename T, typename F> T sd_emu_atomic(T *p, F f)
{
    static_assert(std::is_integral_v<T> && sizeof(T) >= 4);
    T old = *p;
    *p = f(old);
    return old;
}
template <typename T> T atomicAdd(T *p, std::type_identity_t<T> x)
{
    using U = std::make_unsigned_t<T>; /* sums wrap */
    return sd_emu_atomic(p, [=](T old) { return T(U(old) + U(x)); });
}
template <typename T> T atomicSub(T *p, std::type_identity_t<T> x)
{
    using U = std::make_unsigned_t<T>;
    return sd_emu_atomic(p, [=](T old) { return T(U(old) - U(x)); });
}
template <typename T> T atomicMax(T *p, std::type_identity_t<T> x)
{
    return sd_emu_atomic(p, [=](T old) { return old > x ? old : x; });
}
template <typename T> T atomicMin(T *p, std::type_identity_t<T> x)
{
    return sd_emu_atomic(p, [=](T old) { return old < x ? old : x; });
}
template <typename T> T atomicOr(T *p, std::type_identity_t<T> x)
{
    return sd_emu_atomic(p, [=](T old) { return old | x; });
}
template <typename T> T atomicAnd(T *p, std::type_identity_t<T> x)
{
    return sd_emu_atomic(p, [=](T old) { return old & x; });
}
template <typename T> T atomicExch(T *p, std::type_identity_t<T> x)
{
    return sd_emu_atomic(p, [=](T) { return x; });
}
template <typename T> T atomicCAS(T *p, std::type_identity_t<T> compare, std::type_identity_t<T> x)
{
    return sd_emu_atomic(p, [=](T old) { return old == compare ? x : old; });
}

#endif
