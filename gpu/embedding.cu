/* Table look-up and its transpose, and the sinusoids of timesteps. */
#include "rows.h"

#include <math.h>

namespace
{

/* Row of id number i; ids are checked before a run, one out of range would read row 0. */
__device__ int64_t row_of(const int32_t *ids, int64_t i, int64_t rows)
{
    int32_t id = ids[i];
    return id < 0 || id >= rows ? 0 : id;
}

template <typename U>
__global__ void embedding_kernel(int64_t units, sd_divider row, int64_t rows, const int32_t *__restrict__ ids,
                                 const U *__restrict__ table, U *__restrict__ y)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t token = row.quotient(i);
        y[i] = table[row_of(ids, token, rows) * row.by + i - token * row.by];
    }
}

void embedding(const struct sd_call *c)
{
    const struct sd_tensor *table = c->node->in[0], *y = c->node->out[0];
    int64_t row = table->dim[1] * static_cast<int64_t>(sd_dtype_size(table->dtype));
    int64_t bytes = static_cast<int64_t>(sd_tensor_bytes(y));
    sd_by_unit(sd_bits(c->in[0]) | sd_bits(c->out[0]) | static_cast<uint64_t>(row), [&](auto u) {
        using U = decltype(u);
        int64_t size = sizeof(U), units = bytes / size;
        sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, embedding_kernel<U>, units,
                  sd_divider(row / size), table->dim[0], static_cast<const int32_t *>(c->in[1]),
                  static_cast<const U *>(c->in[0]), static_cast<U *>(c->out[0]));
    });
}

/* --- backward: zeros, then a stable sort of the tokens by their row, then one sum for each row that occurs.
 * The sort counts, for each token, those that go before it: n^2 comparisons, a few microseconds for the
 * thousands of tokens of a batch. --- */

/* Of the tokens of one row: where they start in `order`, and how many they are; 0 for all but the first. */
struct occurrences {
    int64_t start, count;
};

/* One warp a token. */
__global__ void sort_kernel(int64_t n, int64_t rows, const int32_t *__restrict__ ids,
                            int64_t *__restrict__ order, struct occurrences *__restrict__ found)
{
    int64_t lane = threadIdx.x % SD_WARP;
    for (int64_t i = sd_first() / SD_WARP; i < n; i += sd_stride() / SD_WARP) {
        int64_t row = row_of(ids, i, rows), less = 0, before = 0, equal = 0;
        for (int64_t j = lane; j < n; j += SD_WARP) {
            int64_t other = row_of(ids, j, rows);
            less += other < row;
            equal += other == row;
            before += other == row && j < i;
        }
        less = sd_warp_sum(less);
        equal = sd_warp_sum(equal);
        before = sd_warp_sum(before);
        if (lane == 0) {
            order[less + before] = i;
            found[i] = {less, before ? 0 : equal};
        }
    }
}

constexpr int ACROSS = 16, DOWN = SD_THREADS / ACROSS; /* a block's threads by units of a row and tokens */

/* Block (x, y) sums the dy of all tokens with the row of token x, over the units from ACROSS * y on, if x is
 * the first of them. */
template <int W, typename T>
__global__ void embedding_bwd_kernel(int64_t n, int64_t rows, int64_t units, const int32_t *__restrict__ ids,
                                     const int64_t *__restrict__ order,
                                     const struct occurrences *__restrict__ found, const T *__restrict__ dy,
                                     float *__restrict__ dtable)
{
    SD_SHARED(float, spare, SD_THREADS *W);
    int tx = static_cast<int>(threadIdx.x) % ACROSS, ty = static_cast<int>(threadIdx.x) / ACROSS;
    for (int64_t i = blockIdx.x; i < n; i += gridDim.x) {
        struct occurrences o = found[i];
        if (!o.count)
            continue;
        for (int64_t first = static_cast<int64_t>(blockIdx.y) * ACROSS; first < units;
             first += static_cast<int64_t>(gridDim.y) * ACROSS) {
            int64_t unit = first + tx;
            sd_wide<float, W> sum{};
            if (unit < units) {
                SD_UNROLL(4)
                for (int64_t k = ty; k < o.count; k += DOWN) {
                    sd_wide<float, W> d = sd_load<W>(dy, order[o.start + k] * units + unit);
                    for (int e = 0; e < W; e++)
                        sum.v[e] += d.v[e];
                }
            }
            sd_add_down(sum, spare, ACROSS, DOWN);
            if (ty == 0 && unit < units)
                sd_store(dtable, row_of(ids, i, rows) * units + unit, sum);
        }
    }
}

size_t found_offset(int64_t n)
{
    return static_cast<size_t>(n) * sizeof(int64_t);
}

int embedding_bwd_plan(struct sd_call *c, struct sd_err *err)
{
    int64_t n = sd_tensor_count(c->node->in[0]);
    c->scratch_bytes = found_offset(n) + static_cast<size_t>(n) * sizeof(struct occurrences);
    enum sd_dtype type = c->node->in[1]->dtype;
    return type == SD_F32 || type == SD_F16 || type == SD_BF16
               ? 0
               : sd_err_set(err, SD_ERR_DATA, "a gradient of type %s", sd_dtype_name(type));
}

template <int W, typename T>
void sum_rows(const struct sd_call *c, const int64_t *order, const struct occurrences *found)
{
    const struct sd_tensor *dtable = c->node->out[0];
    int64_t n = sd_tensor_count(c->node->in[0]), units = dtable->dim[1] / W;
    dim3 grid(sd_grid(n, 1).x, sd_grid(units, ACROSS).x);
    sd_launch(sd_cuda_stream(c), grid, SD_THREADS, 0, embedding_bwd_kernel<W, T>, n, dtable->dim[0], units,
              static_cast<const int32_t *>(c->in[0]), order, found, static_cast<const T *>(c->in[1]),
              static_cast<float *>(c->out[0]));
}

void embedding_bwd(const struct sd_call *c)
{
    const struct sd_tensor *dtable = c->node->out[0];
    int64_t n = sd_tensor_count(c->node->in[0]);
    int64_t *order = static_cast<int64_t *>(c->scratch);
    auto *found = reinterpret_cast<struct occurrences *>(static_cast<char *>(c->scratch) + found_offset(n));
    cudaMemsetAsync(c->out[0], 0, sd_tensor_bytes(dtable), sd_cuda_stream(c));
    if (n == 0)
        return;
    sd_launch(sd_cuda_stream(c), sd_grid(n * SD_WARP), SD_THREADS, 0, sort_kernel, n, dtable->dim[0],
              static_cast<const int32_t *>(c->in[0]), order, found);
    bool wide = sd_aligned(c->in[1]) && sd_aligned(c->out[0]) && dtable->dim[1] % SD_WIDE == 0;
    sd_by_type(c->node->in[1]->dtype, [&](auto t) {
        if (wide)
            sum_rows<SD_WIDE, decltype(t)>(c, order, found);
        else
            sum_rows<1, decltype(t)>(c, order, found);
    });
}

/* --- timesteps: in doubles, for a phase of a thousand radians has an error of 3e-5 in f32 --- */

__global__ void timestep_embedding_kernel(int64_t n, int64_t dim, double log_period, bool flip,
                                          const float *__restrict__ t, float *__restrict__ y)
{
    int64_t half = dim / 2, work = (dim + 1) / 2;
    for (int64_t i = sd_first(); i < n * work; i += sd_stride()) {
        int64_t sample = i / work, k = i - sample * work;
        float *row = y + sample * dim;
        if (k == half) { /* of an odd width the last */
            row[dim - 1] = 0;
            continue;
        }
        double phase = t[sample] * exp(-log_period * static_cast<double>(k) / static_cast<double>(half));
        row[k] = static_cast<float>(flip ? cos(phase) : sin(phase));
        row[half + k] = static_cast<float>(flip ? sin(phase) : cos(phase));
    }
}

void timestep_embedding(const struct sd_call *c)
{
    const struct sd_tensor *y = c->node->out[0];
    int64_t n = y->dim[0], dim = y->dim[1];
    sd_launch(sd_cuda_stream(c), sd_grid(n * ((dim + 1) / 2), 64), 64, 0, timestep_embedding_kernel, n, dim,
              log(static_cast<double>(c->node->attr.max_period)), c->node->attr.flip,
              static_cast<const float *>(c->in[0]), static_cast<float *>(c->out[0]));
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_embedding = {.plan = NULL, .run = embedding, .drop = NULL};
const struct sd_kernel sd_cuda_embedding_bwd = {
    .plan = embedding_bwd_plan, .run = embedding_bwd, .drop = NULL};
const struct sd_kernel sd_cuda_timestep_embedding = {
    .plan = sd_cuda_plan_floats, .run = timestep_embedding, .drop = NULL};
}
