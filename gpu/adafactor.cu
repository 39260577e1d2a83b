/* AdaFactor, in five passes over tables of parameters: an update is scaled by sums over the whole parameter,
 * whose terms need sums over whole rows and columns. gather adds up squares of the gradient, and finds the
 * second moments that need no other block's; combine finds those of rows and columns that several blocks have
 * a part of, and measure the size of their updates; settle, one block a parameter, finds its rate; apply is
 * the step.
 *
 * Matrices of a few elements (a convolution's) are taken whole, many a block; larger ones in tiles. Of an
 * element gather and apply move 24 bytes, measure 4 where it lies in a tile; AdamW's step moves 32. */
#include "adafactor_tile.h"

namespace
{

/* --- vectors --- */

template <typename F> __device__ void each_of_vector(const struct task &t, F visit)
{
    int64_t from = int64_t{t.block} * PIECE, end = from + PIECE;
    each_unit({0, from, end < t.p.cut.columns ? end : t.p.cut.columns, t.p.wide}, visit);
}

__device__ void gather_vector(const struct task &t)
{
    double param = 0, update = 0;
    each_of_vector(t, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto x = sd_load<W>(t.p.param, i), g = sd_load<W>(t.p.grad, i), v = sd_load<W>(t.p.rows, i);
        for (int k = 0; k < W; k++) {
            float clipped = g.v[k] * t.clip;
            v.v[k] = followed(t, v.v[k], clipped * clipped);
            param += squared(x.v[k]);
            update += squared(clipped * rsqrtf(v.v[k]));
        }
        sd_store<W>(t.p.rows, i, v);
    });
    leave(t, param, update);
}

__device__ void apply_vector(const struct task &t)
{
    struct step step(t);
    each_of_vector(t, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto g = sd_load<W>(t.p.grad, i), v = sd_load<W>(t.p.rows, i);
        for (int k = 0; k < W; k++)
            g.v[k] *= t.clip * rsqrtf(v.v[k]);
        step.template operator()<W>(i, g);
    });
}

/* --- small matrices --- */

/* A block's matrices; all of their elements, rows and columns are counted from the block's first. */
struct batch {
    unsigned matrices, rows, columns, area;
    float per_columns, per_area;
    int64_t first; /* matrix */

    __device__ explicit batch(const struct task &t)
        : rows(static_cast<unsigned>(t.p.cut.rows)), columns(static_cast<unsigned>(t.p.cut.columns)),
          area(rows * columns), per_columns(1.0f / static_cast<float>(columns)),
          per_area(1.0f / static_cast<float>(area)), first(int64_t{t.block} * t.p.cut.batch)
    {
        int64_t left = t.p.cut.matrices - first;
        matrices = static_cast<unsigned>(left < t.p.cut.batch ? left : t.p.cut.batch);
    }

    /* n divided by what `per` is the inverse of: exact for all n < BATCH and divisors up to MOST_SMALL, and
     * cheap. */
    static __device__ unsigned quotient(unsigned n, float per)
    {
        return static_cast<unsigned>((static_cast<float>(n) + 0.5f) * per);
    }

    /* What an element's update is multiplied by. */
    __device__ float by(unsigned element, const float *row, const float *column) const
    {
        unsigned i = quotient(element, per_columns), matrix = quotient(element, per_area);
        return row[i] * column[matrix * columns + element - i * columns];
    }
};

/* Of second moments of rows and columns what gradients are to be multiplied by; in place. */
__device__ void to_factors(const struct batch &b, float *row, float *column)
{
    __syncthreads();
    for (unsigned k = threadIdx.x; k < b.matrices; k += SD_THREADS) {
        float *of = row + k * b.rows;
        double mean = 0;
        for (unsigned i = 0; i < b.rows; i++)
            mean += static_cast<double>(of[i]);
        mean /= static_cast<double>(b.rows);
        for (unsigned i = 0; i < b.rows; i++)
            of[i] = rsqrtf(of[i] / static_cast<float>(mean));
    }
    for (unsigned k = threadIdx.x; k < b.matrices * b.columns; k += SD_THREADS)
        column[k] = rsqrtf(column[k]);
    __syncthreads();
}

/* The new second moment of n squares that lie `apart`. */
__device__ float follow(const struct task &t, float *moment, const float *squares, unsigned n, unsigned apart)
{
    double sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += static_cast<double>(squares[i * apart]);
    return *moment = followed(t, *moment, static_cast<float>(sum / static_cast<double>(n)));
}

__device__ void gather_small(const struct task &t, float *spare)
{
    struct batch b(t);
    float *squares = spare, *row = squares + BATCH, *column = row + BATCH;
    int64_t first = b.first * b.area;
    double param = 0, update = 0;
    each_unit({0, first, first + b.matrices * b.area, t.p.wide}, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto x = sd_load<W>(t.p.param, i), g = sd_load<W>(t.p.grad, i);
        for (int k = 0; k < W; k++) {
            float clipped = g.v[k] * t.clip;
            squares[i * W - first + k] = clipped * clipped;
            param += squared(x.v[k]);
        }
    });
    __syncthreads();
    for (unsigned k = threadIdx.x; k < b.matrices * b.rows; k += SD_THREADS)
        row[k] = follow(t, t.p.rows + b.first * b.rows + k, squares + k * b.columns, b.columns, 1);
    for (unsigned k = threadIdx.x; k < b.matrices * b.columns; k += SD_THREADS) {
        unsigned matrix = batch::quotient(k, b.per_columns);
        column[k] = follow(t, t.p.columns + b.first * b.columns + k,
                           squares + matrix * b.area + k - matrix * b.columns, b.rows, b.columns);
    }
    to_factors(b, row, column);
    for (unsigned i = threadIdx.x; i < b.matrices * b.area; i += SD_THREADS) {
        float by = b.by(i, row, column);
        update += static_cast<double>(squares[i]) * squared(by);
    }
    leave(t, param, update);
}

__device__ void apply_small(const struct task &t, float *spare)
{
    struct batch b(t);
    struct step step(t);
    float *row = spare, *column = row + BATCH;
    int64_t first = b.first * b.area;
    for (unsigned k = threadIdx.x; k < b.matrices * b.rows; k += SD_THREADS)
        row[k] = t.p.rows[b.first * b.rows + k];
    for (unsigned k = threadIdx.x; k < b.matrices * b.columns; k += SD_THREADS)
        column[k] = t.p.columns[b.first * b.columns + k];
    to_factors(b, row, column);
    each_unit({0, first, first + b.matrices * b.area, t.p.wide}, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto g = sd_load<W>(t.p.grad, i);
        for (int k = 0; k < W; k++)
            g.v[k] *= t.clip * b.by(static_cast<unsigned>(i * W - first) + k, row, column);
        step.template operator()<W>(i, g);
    });
}

/* --- passes --- */

__global__ void gather_kernel(parameters all)
{
    SD_SHARED(float, spare, 3 * BATCH);
    struct task t = task_of_block(all);
    if (t.stays)
        return;
    if (t.p.cut.kind == VECTOR)
        gather_vector(t);
    else if (t.p.cut.kind == SMALL)
        gather_small(t, spare);
    else if (t.p.wide)
        gather_tile<UNIT>(t, spare);
    else
        gather_tile<1>(t, spare);
}

/* One row or column of tiled matrices a thread. */
__global__ void combine_kernel(parameters all)
{
    SD_SHARED(double, spare, SD_WARP);
    int set = set_of_block(all.n, [&](int i) { return all.p[i].first_line; });
    struct task t = task_of(all, set, all.p[set].first_line);
    if (t.stays)
        return;
    const struct cut &c = t.p.cut;
    unsigned lines = c.row_lines + c.column_lines, line = t.block % lines;
    bool is_row = line < c.row_lines;
    int64_t n = is_row ? c.rows : c.columns, parts = is_row ? c.across : c.down, matrix = t.block / lines;
    int64_t i = int64_t{is_row ? line : line - c.row_lines} * SD_THREADS + threadIdx.x;
    const float *from = (is_row ? t.p.parts : t.p.column_parts()) + matrix * parts * n;
    float *moment = (is_row ? t.p.rows : t.p.columns) + matrix * n;
    double sum = 0, fresh = 0;
    if (i < n) {
        SD_UNROLL(8)
        for (int64_t k = 0; k < parts; k++)
            sum += static_cast<double>(from[k * n + i]);
        moment[i] = followed(t, moment[i],
                             static_cast<float>(sum / static_cast<double>(is_row ? c.columns : c.rows)));
        fresh = static_cast<double>(moment[i]);
    }
    fresh = sd_block_sum(fresh, spare);
    if (is_row && threadIdx.x == 0)
        t.p.row_sums()[matrix * c.row_lines + line] = fresh;
}

__global__ void measure_kernel(parameters all)
{
    struct task t = task_of_block(all);
    if (t.stays || t.p.cut.kind != TILED)
        return;
    if (t.p.wide)
        measure_tile<UNIT>(t);
    else
        measure_tile<1>(t);
}

/* A block a parameter. */
__global__ void settle_kernel(parameters all)
{
    SD_SHARED(double, spare, SD_WARP);
    struct task t = task_of(all, static_cast<int>(blockIdx.x), 0);
    const struct cut &c = t.p.cut;
    double param = 0, update = 0, count = static_cast<double>(c.matrices * c.rows * c.columns);
    for (int64_t i = threadIdx.x; i < c.blocks && !t.stays; i += SD_THREADS) {
        param += t.p.sums[2 * i];
        update += t.p.sums[2 * i + 1];
    }
    double rms = sqrt(sd_block_sum(param, spare) / count);
    double excess =
        sqrt(sd_block_sum(update, spare) / count) / static_cast<double>(t.hyper[SD_ADAFACTOR_MOST]);
    double rate = static_cast<double>(t.hyper[SD_ADAFACTOR_RATE]);
    if (t.hyper[SD_ADAFACTOR_SCALED] != 0)
        rate *= fmax(static_cast<double>(t.hyper[SD_ADAFACTOR_LEAST]), rms);
    if (threadIdx.x)
        return;
    all.rms[all.from + blockIdx.x] = static_cast<float>(rms);
    all.scales[all.from + blockIdx.x] = {
        static_cast<float>(rate / (excess <= 1 ? 1 : excess)), /* NaN stays */
        static_cast<float>(rate * static_cast<double>(t.hyper[SD_ADAFACTOR_DECAY]))};
}

/* Zeroes a block's gradients. */
__device__ void clear(const struct task &t)
{
    const struct cut &c = t.p.cut;
    if (c.kind == TILED) {
        struct tile<1> at(t);
        at.each(t, [&](int64_t, int64_t unit) { t.p.grad[unit] = 0; });
        return;
    }
    int64_t count = c.matrices * c.rows * c.columns,
            each = c.kind == VECTOR ? PIECE : c.batch * c.rows * c.columns;
    int64_t from = t.block * each, to = from + each < count ? from + each : count;
    for (int64_t i = from + threadIdx.x; i < to; i += SD_THREADS)
        t.p.grad[i] = 0;
}

__global__ void apply_kernel(parameters all)
{
    SD_SHARED(float, spare, 2 * BATCH);
    struct task t = task_of_block(all);
    if (t.stays)
        clear(t);
    else if (t.p.cut.kind == VECTOR)
        apply_vector(t);
    else if (t.p.cut.kind == SMALL)
        apply_small(t, spare);
    else if (t.p.wide)
        apply_tile<UNIT>(t);
    else
        apply_tile<1>(t);
}

/* --- the node --- */

unsigned divided(int64_t n, int64_t by)
{
    return static_cast<unsigned>((n + by - 1) / by);
}

/* Tiles are squares of 64 elements; longer the one way where a matrix is short the other way. */
uint8_t tile_of(int64_t rows, int64_t columns)
{
    int n = 6;
    while (n < 8 && TILE >> (n + 1) >= rows && int64_t{1} << n < columns)
        n++;
    while (n > 2 && int64_t{1} << (n - 1) >= columns)
        n--;
    return static_cast<uint8_t>(n);
}

struct cut cut_of(const struct sd_node *node, int param)
{
    struct sd_matrices m = sd_matrices_of(node, param);
    struct cut c = {};
    int64_t area = m.rows * m.columns;
    c.matrices = m.n;
    c.rows = m.rows;
    c.columns = m.columns;
    if (!m.factored) {
        c.kind = VECTOR;
        c.blocks = divided(m.columns, PIECE);
    } else if (area <= MOST_SMALL) {
        c.kind = SMALL;
        c.batch = static_cast<unsigned>(BATCH / area / UNIT * UNIT); /* blocks begin at units */
        c.blocks = divided(m.n, c.batch);
    } else {
        c.kind = TILED;
        c.columns2 = tile_of(m.rows, m.columns);
        c.across = divided(m.columns, 1 << c.columns2);
        c.down = divided(m.rows, TILE >> c.columns2);
        c.row_lines = divided(m.rows, SD_THREADS);
        c.column_lines = divided(m.columns, SD_THREADS);
        c.blocks = static_cast<unsigned>(m.n) * c.across * c.down;
        c.lines = static_cast<unsigned>(m.n) * (c.row_lines + c.column_lines);
    }
    return c;
}

size_t rounded(size_t bytes)
{
    return (bytes + 15) / 16 * 16; /* sums of columns are stored as units */
}

/* What scratch has of a parameter. */
size_t scratch_of(const struct cut &c)
{
    return rounded(c.doubles() * sizeof(double)) + rounded(c.floats() * sizeof(float));
}

int plan(struct sd_call *c, struct sd_err *)
{
    int n = sd_adafactor_params(c->node);
    c->scratch_bytes = rounded(static_cast<size_t>(n) * sizeof(struct scale));
    for (int i = 0; i < n; i++)
        c->scratch_bytes += scratch_of(cut_of(c->node, i));
    return 0;
}

void add(const struct sd_call *c, struct parameters *t, int param, char *&scratch)
{
    void **in = c->in + param * SD_ADAFACTOR_EACH;
    struct parameter *p = &t->p[t->n++];
    p->cut = cut_of(c->node, param);
    p->param = static_cast<float *>(in[SD_ADAFACTOR_PARAM]);
    p->grad = static_cast<float *>(in[SD_ADAFACTOR_GRAD]);
    p->rows = static_cast<float *>(in[SD_ADAFACTOR_ROWS]);
    p->columns = static_cast<float *>(in[SD_ADAFACTOR_COLUMNS]);
    p->m = static_cast<float *>(in[SD_ADAFACTOR_M]);
    p->sums = reinterpret_cast<double *>(scratch);
    p->parts = reinterpret_cast<float *>(scratch + rounded(p->cut.doubles() * sizeof(double)));
    scratch += scratch_of(p->cut);
    p->first_block = t->blocks;
    p->first_line = t->lines;
    p->wide = (p->cut.kind != TILED || p->cut.columns % UNIT == 0) && sd_aligned(p->param) &&
              sd_aligned(p->grad) && sd_aligned(p->m) && sd_aligned(p->columns) &&
              (p->cut.kind != VECTOR || sd_aligned(p->rows));
    t->blocks += static_cast<unsigned>(p->cut.blocks);
    t->lines += static_cast<unsigned>(p->cut.lines);
}

void run(const struct sd_call *c)
{
    int n = sd_adafactor_params(c->node);
    char *scratch = static_cast<char *>(c->scratch) + rounded(static_cast<size_t>(n) * sizeof(struct scale));
    cudaStream_t stream = sd_cuda_stream(c);
    struct parameters t;
    t.clip = sd_in<float>(c, c->node->n_in - 2);
    t.hyper = sd_in<float>(c, c->node->n_in - 1);
    t.rms = sd_out<float>(c);
    t.scales = static_cast<struct scale *>(c->scratch);
    for (t.from = 0; t.from < n; t.from += t.n) {
        t.n = 0;
        t.blocks = t.lines = 0;
        for (int i = t.from; i < n && t.n < t.most; i++)
            add(c, &t, i, scratch);
        auto launch = [&](auto kernel, unsigned blocks) {
            sd_launch(stream, dim3(blocks), dim3(SD_THREADS), 0, kernel, t);
        };
        launch(gather_kernel, t.blocks);
        if (t.lines) {
            launch(combine_kernel, t.lines);
            launch(measure_kernel, t.blocks);
        }
        launch(settle_kernel, static_cast<unsigned>(t.n));
        launch(apply_kernel, t.blocks);
    }
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_adafactor = {.plan = plan, .run = run, .drop = NULL};
}
