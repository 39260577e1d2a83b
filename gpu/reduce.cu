/* reduce_to: sums over the middle of [outer, mid, inner], in two stages where the middle is long: slabs of it
 * to scratch, then the slabs. The order of additions follows from the shape alone. */
#include "rows.h"

extern "C" {
#include "tensor/op.h"
}

namespace
{

/* A block is `across` threads along a row times `down` rows, both powers of two. A tile is what it sums at
 * once: `across` units of the rows of one slab. */
struct tiling {
    int64_t outer, mid, units; /* rows of `units` units */
    int64_t slabs, rows;       /* slabs of mid, of so many rows */
    int across, down;
};

constexpr int64_t TILES = 1024;   /* enough for any card to be filled once or twice */
constexpr int64_t LEAST_ROWS = 8; /* a thread adds up at least, to be worth what the block does after */

int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

int64_t tile_columns(const struct tiling &t)
{
    return ceil_div(t.units, t.across);
}

/* Narrower than `across` by half while more than an eighth of the threads would idle, but not below 8: a
 * row's stretch of memory is then 128 bytes of halves. */
struct tiling tiling_of(int64_t outer, int64_t mid, int64_t units)
{
    struct tiling t = {outer, mid, units, 1, mid, 1, 1};
    while (t.across < SD_WARP && t.across < units)
        t.across *= 2;
    while (t.across > 8 && (tile_columns(t) * t.across - units) * 8 > units)
        t.across /= 2;
    t.down = SD_THREADS / t.across;
    while (t.down > 1 && t.down / 2 >= mid)
        t.down /= 2;
    while (t.across * t.down < SD_THREADS && t.across < units)
        t.across *= 2;
    return t;
}

/* Cuts mid into slabs where there are too few tiles. */
struct tiling slabbed(struct tiling t)
{
    int64_t tiles = t.outer * tile_columns(t), most = t.mid / (t.down * LEAST_ROWS);
    int64_t want = tiles ? TILES / tiles : 1;
    want = want < most ? want : most;
    if (want < 2)
        return t;
    t.rows = ceil_div(ceil_div(t.mid, want), t.down) * t.down;
    t.slabs = ceil_div(t.mid, t.rows);
    return t;
}

/* y [outer, slabs, units]. With `flat` a row is one unit and its elements are added up too: then inner is 1
 * and rows are W neighbours of mid. */
template <int W, bool flat, typename X, typename Y>
__global__ void __launch_bounds__(SD_THREADS)
    reduce_kernel(struct tiling t, sd_divider columns, sd_divider slabs, const X *__restrict__ x,
                  Y *__restrict__ y)
{
    constexpr int N = flat ? 1 : W;
    SD_SHARED(float, spare, SD_THREADS *N);
    int tx = static_cast<int>(threadIdx.x) % t.across, ty = static_cast<int>(threadIdx.x) / t.across;
    int64_t tiles = t.outer * t.slabs * columns.by;
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        int64_t place = columns.quotient(tile), outer = slabs.quotient(place), slab = place - outer * t.slabs;
        int64_t unit = (tile - place * columns.by) * t.across + tx;
        int64_t from = slab * t.rows, to = from + t.rows < t.mid ? from + t.rows : t.mid;
        sd_wide<float, N> sum{};
        if (unit < t.units) {
            SD_UNROLL(4)
            for (int64_t row = from + ty; row < to; row += t.down) {
                sd_wide<float, W> v = sd_load<W>(x, (outer * t.mid + row) * t.units + unit);
                for (int k = 0; k < W; k++)
                    sum.v[flat ? 0 : k] += v.v[k];
            }
        }
        sd_add_down(sum, spare, t.across, t.down);
        if (ty == 0 && unit < t.units)
            sd_store(y, place * t.units + unit, sum);
    }
}

template <int W, bool flat, typename X, typename Y>
void stage(const struct sd_call *c, const struct tiling &t, const X *x, Y *y)
{
    int64_t columns = tile_columns(t), tiles = t.outer * t.slabs * columns;
    sd_launch(sd_cuda_stream(c), sd_grid(tiles, 1), t.across * t.down, 0, reduce_kernel<W, flat, X, Y>, t,
              sd_divider(columns), sd_divider(t.slabs), x, y);
}

struct view {
    int64_t outer, mid, inner;
};

struct view view_of(const struct sd_call *c)
{
    struct view v;
    sd_op_broadcast(c->node->in[0], c->node->out[0], &v.outer, &v.mid, &v.inner);
    return v;
}

/* Both stages, or one. */
template <int W, bool flat, typename T>
void reduce(const struct sd_call *c, const struct tiling &t, const T *x, T *y)
{
    if (t.slabs == 1)
        return stage<W, flat>(c, t, x, y);
    float *sums = static_cast<float *>(c->scratch);
    stage<W, flat>(c, t, x, sums);
    constexpr int left = flat ? 1 : W;
    stage<left, false>(c, tiling_of(t.outer, t.slabs, t.units), static_cast<const float *>(sums), y);
}

bool wide_rows(const struct view &v)
{
    return v.inner % SD_WIDE == 0;
}

bool wide_runs(const struct view &v)
{
    return v.inner == 1 && v.mid % SD_WIDE == 0;
}

struct tiling tiling_for(const struct view &v, bool wide)
{
    if (wide && wide_runs(v))
        return slabbed(tiling_of(v.outer, v.mid / SD_WIDE, 1));
    return slabbed(tiling_of(v.outer, v.mid, wide && wide_rows(v) ? v.inner / SD_WIDE : v.inner));
}

template <typename T> void reduce_to_of(const struct sd_call *c, const T *x, T *y)
{
    struct view v = view_of(c);
    bool wide = sd_aligned(x) && sd_aligned(y);
    struct tiling t = tiling_for(v, wide);
    if (wide && wide_rows(v))
        reduce<SD_WIDE, false>(c, t, x, y);
    else if (wide && wide_runs(v))
        reduce<SD_WIDE, true>(c, t, x, y);
    else
        reduce<1, false>(c, t, x, y);
}

void reduce_to(const struct sd_call *c)
{
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        using T = decltype(t);
        reduce_to_of(c, static_cast<const T *>(c->in[0]), static_cast<T *>(c->out[0]));
    });
}

/* Addresses are not known yet, so whichever way needs more. */
int reduce_to_plan(struct sd_call *c, struct sd_err *err)
{
    struct view v = view_of(c);
    int64_t slabs = 1;
    for (int wide = 0; wide < 2; wide++) {
        struct tiling t = tiling_for(v, wide);
        slabs = t.slabs > slabs ? t.slabs : slabs;
    }
    c->scratch_bytes = slabs > 1 ? static_cast<size_t>(v.outer * slabs * v.inner) * sizeof(float) : 0;
    return sd_cuda_plan_floats(c, err);
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_reduce_to = {.plan = reduce_to_plan, .run = reduce_to, .drop = NULL};
}
