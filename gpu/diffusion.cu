/* The forward diffusion, steps back and the loss. Tensors [N, ...] are rows, one a sample. */
#include "rows.h"

namespace
{

int64_t sample_length(const struct sd_tensor *x)
{
    int64_t n = sd_tensor_count(x);
    return n ? n / x->dim[0] : 1;
}

/* --- mix --- */

template <int W>
__global__ void mix_kernel(int64_t units, sd_divider sample, const float *__restrict__ x,
                           const float *__restrict__ noise, const float *__restrict__ t,
                           const float *__restrict__ table, float *__restrict__ y)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t row = 2 * static_cast<int64_t>(t[sample.quotient(i)]);
        float a = table[row], b = table[row + 1];
        sd_wide<float, W> v = sd_load<W>(x, i), e = sd_load<W>(noise, i);
        for (int k = 0; k < W; k++)
            v.v[k] = a * v.v[k] + b * e.v[k];
        sd_store(y, i, v);
    }
}

template <int W> void mix_by(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[0];
    int64_t units = sd_tensor_count(x) / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, mix_kernel<W>, units,
              sd_divider(sample_length(x) / W), sd_in<float>(c, 0), sd_in<float>(c, 1), sd_in<float>(c, 2),
              sd_in<float>(c, 3), sd_out<float>(c));
}

void mix(const struct sd_call *c)
{
    bool wide = sd_aligned(c->in[0]) && sd_aligned(c->in[1]) && sd_aligned(c->out[0]);
    if (wide && sample_length(c->node->in[0]) % SD_WIDE == 0)
        mix_by<SD_WIDE>(c);
    else
        mix_by<1>(c);
}

/* --- combine --- */

struct terms {
    const float *x[SD_COMBINE_TERMS];
    const float *coef; /* the first sample's */
    int64_t width;     /* from one sample's to the next's */
    int n;
    bool limited;
};

template <int W> __global__ void combine_kernel(int64_t units, sd_divider sample, struct terms t, float *y)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        const float *coef = t.coef + sample.quotient(i) * t.width;
        sd_wide<float, W> sum{};
        for (int term = 0; term < t.n; term++) {
            float by = coef[term];
            sd_wide<float, W> x = sd_load<W>(t.x[term], i);
            for (int k = 0; k < W; k++)
                sum.v[k] += by * x.v[k];
        }
        float most = t.limited ? coef[t.n] : INFINITY;
        for (int k = 0; k < W; k++) /* NaN stays */
            sum.v[k] = sum.v[k] > most ? most : sum.v[k] < -most ? -most : sum.v[k];
        sd_store(y, i, sum);
    }
}

template <int W> void combine_by(const struct sd_call *c, const struct terms &t)
{
    const struct sd_tensor *y = c->node->out[0];
    int64_t units = sd_tensor_count(y) / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, combine_kernel<W>, units,
              sd_divider(sample_length(y) / W), t, sd_out<float>(c));
}

void combine(const struct sd_call *c)
{
    const struct sd_node *node = c->node;
    struct terms t = {
        {}, sd_in<float>(c, 0) + node->attr.offset, node->in[0]->dim[1], node->n_in - 1, node->attr.limited};
    bool wide = sd_aligned(c->out[0]) && sample_length(node->out[0]) % SD_WIDE == 0;
    for (int k = 0; k < t.n; k++) {
        t.x[k] = sd_in<float>(c, k + 1);
        wide &= sd_aligned(t.x[k]);
    }
    if (wide)
        combine_by<SD_WIDE>(c, t);
    else
        combine_by<1>(c, t);
}

/* --- loss: sums of terms, a part a block, to scratch; then the parts --- */

/* All threads of a launch take one way here. d^2 / (root + delta) is root - delta, but loses nothing where d
 * is small. */
__device__ float term(enum sd_loss kind, float d, float delta)
{
    if (kind == SD_LOSS_L2)
        return d * d;
    if (kind == SD_LOSS_L1)
        return fabsf(d);
    float under = sqrtf(d * d + delta * delta) + delta;
    return under == 0 ? 0 : 2 * d * d / under;
}

__device__ float slope(enum sd_loss kind, float d, float delta)
{
    if (kind == SD_LOSS_L2)
        return 2 * d;
    if (kind == SD_LOSS_L1)
        return d > 0 ? 1 : d < 0 ? -1 : d; /* NaN stays */
    float root = sqrtf(d * d + delta * delta);
    return root == 0 ? 0 : 2 * d / root;
}

/* The samples' weights and deltas; the latter NULL where the kind has none. */
struct sample_rows {
    enum sd_loss kind;
    const float *weights, *deltas;

    __device__ float delta(int64_t sample) const
    {
        return deltas ? deltas[sample] : 0;
    }
    __device__ float weight(int64_t sample) const
    {
        return kind == SD_LOSS_HUBER ? weights[sample] * deltas[sample] : weights[sample];
    }
};

/* Threads add in doubles, once a unit. */
template <int W, typename T>
__global__ void loss_parts_kernel(int64_t units, sd_divider sample, struct sample_rows rows,
                                  const T *__restrict__ pred, const float *__restrict__ target,
                                  double *__restrict__ parts)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        sd_wide<float, W> p = sd_load<W>(pred, i), t = sd_load<W>(target, i);
        int64_t n = sample.quotient(i);
        float delta = rows.delta(n), terms = 0;
        for (int k = 0; k < W; k++)
            terms += term(rows.kind, p.v[k] - t.v[k], delta);
        sum += static_cast<double>(rows.weight(n)) * static_cast<double>(terms);
    }
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

__global__ void loss_kernel(int n_parts, double count, const double *__restrict__ parts,
                            float *__restrict__ y)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < n_parts; i += static_cast<int>(blockDim.x))
        sum += parts[i];
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        *y = static_cast<float>(sum / count);
}

constexpr int64_t MOST_PARTS = 1024;

/* By the shape alone: 4 wide units a thread, or more where that made too many parts. */
int parts_of(const struct sd_tensor *pred)
{
    int64_t parts = sd_tensor_count(pred) / (SD_THREADS * SD_WIDE * 4);
    return static_cast<int>(parts < 1 ? 1 : parts > MOST_PARTS ? MOST_PARTS : parts);
}

int loss_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = static_cast<size_t>(parts_of(c->node->in[0])) * sizeof(double);
    return sd_cuda_plan_floats(c, err);
}

/* Input number `at`, and the one behind it. */
struct sample_rows rows_of(const struct sd_call *c, int at)
{
    return {c->node->attr.loss, sd_in<float>(c, at), sd_in<float>(c, at + 1)};
}

template <int W, typename T> void loss_parts(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[0];
    sd_launch(sd_cuda_stream(c), parts_of(pred), SD_THREADS, 0, loss_parts_kernel<W, T>,
              sd_tensor_count(pred) / W, sd_divider(sample_length(pred) / W), rows_of(c, 2), sd_in<T>(c, 0),
              sd_in<float>(c, 1), static_cast<double *>(c->scratch));
}

void loss(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[0];
    bool wide = sd_aligned(c->in[0]) && sd_aligned(c->in[1]) && sample_length(pred) % SD_WIDE == 0;
    sd_by_type(pred->dtype, [&](auto t) {
        if (wide)
            loss_parts<SD_WIDE, decltype(t)>(c);
        else
            loss_parts<1, decltype(t)>(c);
    });
    sd_launch(sd_cuda_stream(c), 1, SD_THREADS, 0, loss_kernel, parts_of(pred),
              static_cast<double>(sd_tensor_count(pred)), static_cast<const double *>(c->scratch),
              sd_out<float>(c));
}

/* --- loss_bwd --- */

template <int W, typename T>
__global__ void loss_bwd_kernel(int64_t units, sd_divider sample, struct sample_rows rows, double count,
                                const float *__restrict__ dy, const T *__restrict__ pred,
                                const float *__restrict__ target, T *__restrict__ dpred)
{
    float mean = static_cast<float>(static_cast<double>(*dy) / count);
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t n = sample.quotient(i);
        float by = mean * rows.weight(n), delta = rows.delta(n);
        sd_wide<float, W> p = sd_load<W>(pred, i), t = sd_load<W>(target, i);
        for (int k = 0; k < W; k++)
            p.v[k] = by * slope(rows.kind, p.v[k] - t.v[k], delta);
        sd_store(dpred, i, p);
    }
}

template <int W, typename T> void loss_bwd_by(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[1];
    int64_t n = sd_tensor_count(pred), units = n / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, loss_bwd_kernel<W, T>, units,
              sd_divider(sample_length(pred) / W), rows_of(c, 3), static_cast<double>(n), sd_in<float>(c, 0),
              sd_in<T>(c, 1), sd_in<float>(c, 2), sd_out<T>(c));
}

void loss_bwd(const struct sd_call *c)
{
    const struct sd_tensor *pred = c->node->in[1];
    bool wide = sd_aligned(c->in[1]) && sd_aligned(c->in[2]) && sd_aligned(c->out[0]) &&
                sample_length(pred) % SD_WIDE == 0;
    sd_by_type(pred->dtype, [&](auto t) {
        if (wide)
            loss_bwd_by<SD_WIDE, decltype(t)>(c);
        else
            loss_bwd_by<1, decltype(t)>(c);
    });
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_mix = {.plan = sd_cuda_plan_floats, .run = mix, .drop = NULL};
const struct sd_kernel sd_cuda_combine = {.plan = sd_cuda_plan_floats, .run = combine, .drop = NULL};
const struct sd_kernel sd_cuda_loss = {.plan = loss_plan, .run = loss, .drop = NULL};
const struct sd_kernel sd_cuda_loss_bwd = {.plan = sd_cuda_plan_floats, .run = loss_bwd, .drop = NULL};
}
