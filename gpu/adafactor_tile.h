/* AdaFactor of matrices that several blocks share: each has a tile. */
#ifndef SD_GPU_ADAFACTOR_TILE_H
#define SD_GPU_ADAFACTOR_TILE_H

#include "adafactor.h"

namespace
{

/* A thread's place in its block's tile: W neighbouring columns, every down-th row. */
template <int W> struct tile {
    static constexpr int rows_each = RUN / W;

    int64_t first_row, row, column; /* the tile's first row; the thread's first */
    unsigned matrix, right, below;  /* which tile across and down */
    int across, down;               /* threads */
    bool inside;                    /* there are such columns */

    __device__ explicit tile(const struct task &t)
    {
        const struct cut &c = t.p.cut;
        unsigned line = t.block / c.across;
        right = t.block % c.across;
        matrix = line / c.down;
        below = line % c.down;
        across = (1 << c.columns2) / W;
        down = SD_THREADS / across;
        first_row = int64_t{below} * (TILE >> c.columns2);
        row = first_row + static_cast<int>(threadIdx.x) / across;
        column = (int64_t{right} << c.columns2) + static_cast<int>(threadIdx.x) % across * W;
        inside = column < c.columns;
    }

    /* visit(row, unit) for what the thread has. */
    template <typename F> __device__ void each(const struct task &t, F visit) const
    {
        SD_UNROLL(rows_each)
        for (int k = 0; k < rows_each; k++) {
            int64_t i = row + k * down;
            if (inside && i < t.p.cut.rows)
                visit(i, ((matrix * t.p.cut.rows + i) * t.p.cut.columns + column) / W);
        }
    }
};

/* Sums of each row over the tile's columns, of each column over its rows, of the parameter's squares. */
template <int W> __device__ void gather_tile(const struct task &t, float *spare)
{
    struct tile<W> at(t);
    const struct cut &c = t.p.cut;
    int team = at.across < SD_WARP ? at.across : SD_WARP, teams = at.across / team; /* that share a row */
    float *row_sums = spare, *down = spare + TILE / 4; /* a row has four columns at least */
    sd_wide<float, W> column = {};
    double param = 0;
    SD_UNROLL(at.rows_each)
    for (int k = 0; k < at.rows_each; k++) {
        int64_t i = at.row + k * at.down;
        float row = 0;
        if (at.inside && i < c.rows) {
            int64_t unit = ((at.matrix * c.rows + i) * c.columns + at.column) / W;
            auto x = sd_load<W>(t.p.param, unit), g = sd_load<W>(t.p.grad, unit);
            for (int n = 0; n < W; n++) {
                float clipped = g.v[n] * t.clip, square = clipped * clipped;
                column.v[n] += square;
                row += square;
                param += squared(x.v[n]);
            }
        }
        for (int step = team / 2; step; step /= 2)
            row += __shfl_xor_sync(0xffffffffu, row, step);
        int thread = static_cast<int>(threadIdx.x);
        if (thread % team == 0)
            row_sums[(k * at.down + thread / at.across) * teams + thread % at.across / team] = row;
    }
    sd_add_down<W>(column, down, at.across, at.down);
    if (static_cast<int>(threadIdx.x) < at.across && at.inside)
        sd_store<W>(t.p.column_parts(), ((at.matrix * c.down + at.below) * c.columns + at.column) / W,
                    column);
    for (int64_t i = threadIdx.x; i < TILE >> c.columns2 && at.first_row + i < c.rows; i += SD_THREADS) {
        float sum = 0;
        for (int k = 0; k < teams; k++)
            sum += row_sums[i * teams + k];
        t.p.parts[(at.matrix * c.across + at.right) * c.rows + at.first_row + i] = sum;
    }
    leave(t, param, 0);
}

/* The mean of R over a tile's matrix. */
__device__ float mean_row(const struct task &t, unsigned matrix)
{
    SD_SHARED(double, spare, SD_WARP);
    unsigned n = t.p.cut.row_lines;
    const double *sums = t.p.row_sums() + int64_t{matrix} * n;
    double sum = 0;
    for (unsigned i = threadIdx.x; i < n; i += SD_THREADS)
        sum += sums[i];
    return static_cast<float>(sd_block_sum(sum, spare) / static_cast<double>(t.p.cut.rows));
}

/* visit(unit, clipped gradients times their factors) for what a thread has of a tile. */
template <int W, typename F> __device__ void each_of_tile(const struct task &t, F visit)
{
    struct tile<W> at(t);
    float mean = mean_row(t, at.matrix);
    sd_wide<float, W> column = {};
    if (at.inside)
        column = sd_load<W>(t.p.columns, (at.matrix * t.p.cut.columns + at.column) / W);
    for (int k = 0; k < W; k++)
        column.v[k] = t.clip * rsqrtf(column.v[k]);
    at.each(t, [&](int64_t row, int64_t unit) {
        auto g = sd_load<W>(t.p.grad, unit);
        float by = rsqrtf(t.p.rows[at.matrix * t.p.cut.rows + row] / mean);
        for (int k = 0; k < W; k++)
            g.v[k] *= by * column.v[k];
        visit(unit, g);
    });
}

template <int W> __device__ void measure_tile(const struct task &t)
{
    SD_SHARED(double, spare, SD_WARP);
    double update = 0;
    each_of_tile<W>(t, [&](int64_t, const sd_wide<float, W> &u) {
        for (int k = 0; k < W; k++)
            update += squared(u.v[k]);
    });
    update = sd_block_sum(update, spare);
    if (threadIdx.x == 0)
        t.p.sums[2 * int64_t{t.block} + 1] = update;
}

template <int W> __device__ void apply_tile(const struct task &t)
{
    struct step step(t);
    each_of_tile<W>(t,
                    [&](int64_t unit, const sd_wide<float, W> &u) { step.template operator()<W>(unit, u); });
}

} // namespace

#endif
