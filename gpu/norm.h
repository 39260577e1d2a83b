/* What group norm and layer norm share: the cutting of [images, rows, channels] into blocks, and sums down
 * the rows by channel.
 *
 * Channels are the fastest dimension. A block takes a slab of rows and a strip of channels: COLUMNS threads
 * beside each other hold P channels each (16 bytes, or one channel where that does not divide), LANES of them
 * take every LANES-th row. So a thread meets the same channels all the time and keeps what belongs to them in
 * registers, reads of a warp lie in whole 128-byte lines, and groups may be of any width. */
#ifndef SD_GPU_NORM_H
#define SD_GPU_NORM_H

#include "rows.h"

#include <type_traits>

constexpr int SD_NORM_COLUMNS = 8, SD_NORM_LANES = 32, SD_NORM_THREADS = SD_NORM_COLUMNS * SD_NORM_LANES;

/* f(T{}, std::integral_constant<int, P>{}) for a tensor of type and rows of ch: P channels a pack. Memory of
 * whole tensors is aligned to more than a pack. */
template <typename F> void sd_norm_by_pack(enum sd_dtype type, int64_t ch, F f)
{
    sd_by_type(type, [&](auto zero) {
        constexpr int n = SD_PACK<decltype(zero)>;
        if (ch % n == 0)
            f(zero, std::integral_constant<int, n>{});
        else
            f(zero, std::integral_constant<int, 1>{});
    });
}

/* The same for a backward kernel, with dy's type before x's: that of x, or f32 where paths of both types met
 * (lib/tensor/pass/grad.c). */
template <typename F> void sd_norm_by_types(enum sd_dtype dy, enum sd_dtype x, int64_t ch, F f)
{
    sd_norm_by_pack(x, ch, [&](auto zero, auto pack) {
        if (dy == SD_F32)
            f(0.0f, zero, pack);
        else
            f(zero, zero, pack);
    });
}

/* plan() of a backward kernel: refuses types that sd_norm_by_types does not tell apart. */
int sd_norm_plan_bwd(struct sd_call *c, struct sd_err *err);

/* How [images, rows, ch] is cut: slabs of `slab` rows, strips of SD_NORM_COLUMNS packs. */
struct sd_norm_cut {
    int64_t images, rows, ch, slab;
    unsigned slabs, strips; /* an image's; a row's */
};

static inline struct sd_norm_cut sd_norm_cut_of(enum sd_dtype type, int64_t images, int64_t rows, int64_t ch)
{
    struct sd_norm_cut s = {images, rows, ch, 0, 0, 0};
    sd_norm_by_pack(type, ch, [&](auto, auto pack) {
        int64_t strip = SD_NORM_COLUMNS * pack;
        s.strips = static_cast<unsigned>((ch + strip - 1) / strip);
    });
    /* About 1024 blocks: enough for any card, and few enough that what they leave to be merged is small. */
    int64_t each = (images * rows * s.strips + 1023) / 1024, least = 2 * SD_NORM_LANES;
    s.slab = each < least ? least : (each + SD_NORM_LANES - 1) / SD_NORM_LANES * SD_NORM_LANES;
    s.slabs = static_cast<unsigned>((rows + s.slab - 1) / s.slab);
    return s;
}

static inline dim3 sd_norm_grid(const struct sd_norm_cut &s)
{
    return dim3(static_cast<unsigned>(s.images) * s.slabs * s.strips);
}

/* What one thread works on. */
struct sd_norm_part {
    int64_t image, from, to; /* rows [from, to) of the image, every SD_NORM_LANES-th */
    int64_t slab;            /* counted over all images */
    int64_t strip, ch;       /* first channel of the block's strip, and of the thread */
    int64_t rows;            /* of the whole block */
    bool inside;             /* the thread has channels at all */

    /* Which pack of the tensor its channels in a row are. */
    template <int P> __device__ int64_t pack(const sd_norm_cut &s, int64_t row) const
    {
        return ((image * s.rows + row) * s.ch + ch) / P;
    }
};

template <int P> __device__ sd_norm_part sd_norm_part_of(const sd_norm_cut &s)
{
    sd_norm_part p;
    unsigned slab = blockIdx.x / s.strips, strip = blockIdx.x % s.strips;
    int64_t from = slab % s.slabs * s.slab;
    p.slab = slab;
    p.image = slab / s.slabs;
    p.strip = static_cast<int64_t>(strip) * SD_NORM_COLUMNS * P;
    p.ch = p.strip + threadIdx.x % SD_NORM_COLUMNS * P;
    p.rows = from + s.slab < s.rows ? s.slab : s.rows - from;
    p.from = from + threadIdx.x / SD_NORM_COLUMNS;
    p.to = from + p.rows;
    p.inside = p.ch < s.ch;
    return p;
}

/* Where the channels of a strip are merged: each lane of rows leaves two numbers a channel. Rows of the array
 * are a little longer than a strip, so that the threads that read below meet different banks. */
template <int P> struct sd_norm_merge {
    static constexpr int strip = SD_NORM_COLUMNS * P;    /* channels */
    static constexpr int team = SD_NORM_THREADS / strip; /* threads that merge one; neighbours in a warp */
    static constexpr int pitch = strip + P;              /* floats a lane */
    static constexpr int floats = 2 * SD_NORM_LANES * pitch; /* of shared memory */

    static __device__ int channel()
    {
        return threadIdx.x / team;
    }
    static __device__ int member()
    {
        return threadIdx.x % team;
    }

    static __device__ void leave(float *shared, const float (&a)[P], const float (&b)[P])
    {
        int lane = threadIdx.x / SD_NORM_COLUMNS, at = lane * pitch + threadIdx.x % SD_NORM_COLUMNS * P;
        for (int i = 0; i < P; i++) {
            shared[at + i] = a[i];
            shared[SD_NORM_LANES * pitch + at + i] = b[i];
        }
        __syncthreads();
    }
    static __device__ float get(const float *shared, int which, int lane)
    {
        return shared[(which * SD_NORM_LANES + lane) * pitch + channel()];
    }
    static __device__ void put(const sd_norm_cut &s, const sd_norm_part &p, float a, float b, float2 *partial)
    {
        int64_t ch = p.strip + channel();
        if (member() == 0 && ch < s.ch)
            partial[p.slab * s.ch + ch] = make_float2(a, b);
    }
    /* The sum over the team, to all of it. */
    static __device__ float sum(float x)
    {
        for (int step = team / 2; step; step /= 2)
            x += __shfl_xor_sync(0xffffffffu, x, step);
        return x;
    }
};

/* Ends a kernel that has two numbers a channel to be summed down the rows: the block's sums go to
 * partial[slab][channel]. */
template <int P>
__device__ void sd_norm_leave_sums(const sd_norm_cut &s, const sd_norm_part &p, float *shared,
                                   const float (&a)[P], const float (&b)[P], float2 *partial)
{
    using merge = sd_norm_merge<P>;
    float sum_a = 0, sum_b = 0;
    merge::leave(shared, a, b);
    for (int lane = merge::member(); lane < SD_NORM_LANES; lane += merge::team) {
        sum_a += merge::get(shared, 0, lane);
        sum_b += merge::get(shared, 1, lane);
    }
    merge::put(s, p, merge::sum(sum_a), merge::sum(sum_b), partial);
}

/* Room for such a pair a channel of each slab. */
static inline size_t sd_norm_partial_bytes(const struct sd_norm_cut &s)
{
    return static_cast<size_t>(s.images * s.slabs * s.ch) * sizeof(float2);
}

/* a, b [ch] (either may be NULL): the sums over all slabs. */
void sd_norm_sum_partials(cudaStream_t stream, const struct sd_norm_cut &s, const float2 *partial, float *a,
                          float *b);

#endif
