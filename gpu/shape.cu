/* Ops that only move elements, whatever their type, in the largest units that fit; and the transpose of
 * upsample. */
#include "rows.h"

namespace
{

/* --- concat, slice, pad_channels --- */

/* Columns [from, to) of y come from x, whose rows are `width` long, there from column `skip` on. All lengths
 * are in bytes before the launch, in units in the kernel. */
struct piece {
    const void *x;
    int64_t width, skip, from, to;
};

template <typename U> __device__ bool take(const struct piece &p, int64_t row, int64_t col, U *unit)
{
    bool mine = p.from <= col && col < p.to;
    if (mine)
        *unit = static_cast<const U *>(p.x)[row * p.width + p.skip + col - p.from];
    return mine;
}

/* y's rows are `row` units; what no piece gives is zero. */
template <typename U>
__global__ void gather_kernel(int64_t units, sd_divider row, struct piece a, struct piece b,
                              U *__restrict__ y)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t r = row.quotient(i), col = i - r * row.by;
        U unit{};
        if (!take(a, r, col, &unit))
            take(b, r, col, &unit);
        y[i] = unit;
    }
}

uint64_t bits_of(const struct piece &p)
{
    return sd_bits(p.x) | static_cast<uint64_t>(p.width | p.skip | p.from | p.to);
}

struct piece in_units(const struct piece &p, int64_t unit)
{
    return {p.x, p.width / unit, p.skip / unit, p.from / unit, p.to / unit};
}

int64_t row_bytes(const struct sd_tensor *t)
{
    return t->dim[t->ndim - 1] * static_cast<int64_t>(sd_dtype_size(t->dtype));
}

void gather(const struct sd_call *c, const struct piece &a, const struct piece &b)
{
    const struct sd_tensor *y = c->node->out[0];
    int64_t row = row_bytes(y), bytes = static_cast<int64_t>(sd_tensor_bytes(y));
    uint64_t all = sd_bits(c->out[0]) | static_cast<uint64_t>(row) | bits_of(a) | bits_of(b);
    sd_by_unit(all, [&](auto u) {
        using U = decltype(u);
        int64_t size = sizeof(U), units = bytes / size;
        sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, gather_kernel<U>, units,
                  sd_divider(row / size), in_units(a, size), in_units(b, size), static_cast<U *>(c->out[0]));
    });
}

void concat(const struct sd_call *c)
{
    int64_t a = row_bytes(c->node->in[0]), b = row_bytes(c->node->in[1]);
    gather(c, {c->in[0], a, 0, 0, a}, {c->in[1], b, 0, a, a + b});
}

int64_t offset_bytes(const struct sd_call *c)
{
    return c->node->attr.offset * static_cast<int64_t>(sd_dtype_size(c->node->out[0]->dtype));
}

void slice(const struct sd_call *c)
{
    gather(c, {c->in[0], row_bytes(c->node->in[0]), offset_bytes(c), 0, row_bytes(c->node->out[0])}, {});
}

void pad_channels(const struct sd_call *c)
{
    int64_t x = row_bytes(c->node->in[0]), at = offset_bytes(c);
    gather(c, {c->in[0], x, 0, at, at + x}, {});
}

/* --- assign --- */

void assign(const struct sd_call *c)
{
    size_t bytes = sd_tensor_bytes(c->node->in[0]);
    if (bytes)
        cudaMemcpyAsync(c->in[0], c->in[1], bytes, cudaMemcpyDeviceToDevice, sd_cuda_stream(c));
}

/* --- upsample, by the pixels of the small picture: each is read, or written, once --- */

struct scaling {
    sd_divider pixel, width, height; /* units a pixel; the small picture's */
    int64_t large_width, large_height;
};

struct span {
    int64_t from, to;
};

/* The `large` positions p that come from position i of small: floor(p * small / large) = i. */
__device__ struct span made_from(int64_t i, const sd_divider &small, int64_t large)
{
    return {small.quotient(i * large + small.by - 1), small.quotient((i + 1) * large + small.by - 1)};
}

/* Where the pixels lie that unit i of the small pictures becomes: rows, columns, and the unit of the first
 * pixel of the large picture. */
struct target {
    struct span rows, columns;
    int64_t at;
};

__device__ struct target target_of(int64_t i, const struct scaling &s)
{
    int64_t pixel = s.pixel.quotient(i), row = s.width.quotient(pixel), image = s.height.quotient(row);
    return {made_from(row - image * s.height.by, s.height, s.large_height),
            made_from(pixel - row * s.width.by, s.width, s.large_width),
            image * s.large_height * s.large_width * s.pixel.by + i - pixel * s.pixel.by};
}

template <typename U>
__global__ void upsample_kernel(int64_t units, struct scaling s, const U *__restrict__ x, U *__restrict__ y)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        struct target t = target_of(i, s);
        U unit = x[i];
        for (int64_t r = t.rows.from; r < t.rows.to; r++)
            for (int64_t q = t.columns.from; q < t.columns.to; q++)
                y[t.at + (r * s.large_width + q) * s.pixel.by] = unit;
    }
}

template <int W, typename Y, typename X>
__global__ void upsample_bwd_kernel(int64_t units, struct scaling s, const Y *__restrict__ dy,
                                    X *__restrict__ dx)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        struct target t = target_of(i, s);
        sd_wide<float, W> sum{};
        for (int64_t r = t.rows.from; r < t.rows.to; r++)
            SD_UNROLL(2)
        for (int64_t q = t.columns.from; q < t.columns.to; q++) {
            sd_wide<float, W> d = sd_load<W>(dy, t.at + (r * s.large_width + q) * s.pixel.by);
            for (int k = 0; k < W; k++)
                sum.v[k] += d.v[k];
        }
        sd_store(dx, i, sum);
    }
}

struct scaling scaling_of(const struct sd_tensor *small, const struct sd_tensor *large, int64_t pixel)
{
    return {sd_divider(pixel), sd_divider(small->dim[2]), sd_divider(small->dim[1]), large->dim[2],
            large->dim[1]};
}

void upsample(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[0], *y = c->node->out[0];
    int64_t pixel = row_bytes(x), bytes = static_cast<int64_t>(sd_tensor_bytes(x));
    sd_by_unit(sd_bits(c->in[0]) | sd_bits(c->out[0]) | static_cast<uint64_t>(pixel), [&](auto u) {
        using U = decltype(u);
        int64_t size = sizeof(U), units = bytes / size;
        sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, upsample_kernel<U>, units,
                  scaling_of(x, y, pixel / size), static_cast<const U *>(c->in[0]),
                  static_cast<U *>(c->out[0]));
    });
}

template <int W, typename Y, typename X> void sum_pixels(const struct sd_call *c, const Y *dy, X *dx)
{
    const struct sd_tensor *small = c->node->out[0];
    int64_t units = sd_tensor_count(small) / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, upsample_bwd_kernel<W, Y, X>, units,
              scaling_of(small, c->node->in[0], small->dim[3] / W), dy, dx);
}

/* dy may be f32 where x was not (pass/grad.c). */
void upsample_bwd(const struct sd_call *c)
{
    bool wide = sd_aligned(c->in[0]) && sd_aligned(c->out[0]) && c->node->out[0]->dim[3] % SD_WIDE == 0;
    sd_by_type(c->node->in[0]->dtype, [&](auto d) {
        sd_by_type(c->node->out[0]->dtype, [&](auto t) {
            const auto *dy = static_cast<const decltype(d) *>(c->in[0]);
            auto *dx = static_cast<decltype(t) *>(c->out[0]);
            if (wide)
                sum_pixels<SD_WIDE>(c, dy, dx);
            else
                sum_pixels<1>(c, dy, dx);
        });
    });
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_concat = {.plan = NULL, .run = concat, .drop = NULL};
const struct sd_kernel sd_cuda_slice = {.plan = NULL, .run = slice, .drop = NULL};
const struct sd_kernel sd_cuda_pad_channels = {.plan = NULL, .run = pad_channels, .drop = NULL};
const struct sd_kernel sd_cuda_assign = {.plan = NULL, .run = assign, .drop = NULL};
const struct sd_kernel sd_cuda_upsample = {.plan = NULL, .run = upsample, .drop = NULL};
const struct sd_kernel sd_cuda_upsample_bwd = {
    .plan = sd_cuda_plan_floats, .run = upsample_bwd, .drop = NULL};
}
