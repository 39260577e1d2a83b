/* Effects: gradient sums, the global norm, optimizers. Each is over many tensors, most of them small (a
 * LoRA's), so a launch takes a table of as many as fit among a kernel's arguments: the addresses are then
 * part of a recording, and nothing needs to be copied to the device before a run. */
#include "quant.h"

#include <float.h>
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

template <int K> __device__ struct piece piece_of(const table<K> &t)
{
    int low = 0, high = t.n; /* first[low] <= block < first[high] */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (t.first[middle] <= blockIdx.x)
            low = middle;
        else
            high = middle;
    }
    uintptr_t bits = 0;
    for (int k = 0; k < K; k++)
        bits |= reinterpret_cast<uintptr_t>(t.memory[low][k]);
    int64_t from = static_cast<int64_t>(blockIdx.x - t.first[low]) * PIECE, end = from + PIECE;
    return {low, from, end < t.count[low] ? end : t.count[low], bits % 16 == 0};
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

/* visit(x) for the second tensor of a piece's pair, as what it is. */
template <typename F> __device__ void by_second(const table<2> &t, const struct piece &p, F visit)
{
    const void *x = t.memory[p.set][1];
    if (t.type[p.set] == SD_BF16)
        visit(static_cast<const __nv_bfloat16 *>(x));
    else if (t.type[p.set] == SD_F16)
        visit(static_cast<const __half *>(x));
    else
        visit(static_cast<const float *>(x));
}

template <typename T> __device__ void add_piece(const struct piece &p, float *acc, const T *x)
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto sum = sd_load<W>(acc, i), more = sd_load<W>(x, i);
        for (int k = 0; k < W; k++)
            sum.v[k] += more.v[k];
        sd_store<W>(acc, i, sum);
    });
}

__global__ void accumulate_kernel(table<2> t)
{
    struct piece p = piece_of(t);
    float *acc = t.f32(p.set, 0);
    by_second(t, p, [&](const auto *x) { add_piece(p, acc, x); });
}

void accumulate(const struct sd_call *c)
{
    by_tables<2>(c, c->node->n_in / 2, [&](const table<2> &t, int, int64_t, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, accumulate_kernel, t);
    });
}

template <typename T>
__device__ void approach_piece(const struct piece &p, float rate, float *shadow, const T *x)
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto s = sd_load<W>(shadow, i), v = sd_load<W>(x, i);
        for (int k = 0; k < W; k++)
            s.v[k] += rate * (v.v[k] - s.v[k]);
        sd_store<W>(shadow, i, s);
    });
}

__global__ void ema_kernel(table<2> t, const float *rate)
{
    struct piece p = piece_of(t);
    float *shadow = t.f32(p.set, 0);
    by_second(t, p, [&](const auto *x) { approach_piece(p, *rate, shadow, x); });
}

void ema(const struct sd_call *c)
{
    int rate = c->node->n_in - 1;
    by_tables<2>(c, rate / 2, [&](const table<2> &t, int, int64_t, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, ema_kernel, t,
                  static_cast<const float *>(c->in[rate]));
    });
}

/* The sum of squares of each piece. */
__global__ void squares_kernel(table<1> t, double *sums)
{
    SD_SHARED(double, spare, SD_WARP);
    struct piece p = piece_of(t);
    const float *x = t.f32(p.set, 0);
    double sum = 0;
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto v = sd_load<W>(x, i);
        for (int k = 0; k < W; k++)
            sum += static_cast<double>(v.v[k]) * static_cast<double>(v.v[k]);
    });
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

__global__ void coefficient_kernel(int64_t pieces, const double *sums, double max_norm, const float *of,
                                   float *y)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < pieces; i += blockDim.x)
        sum += sums[i];
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x)
        return;
    double scale = of ? static_cast<double>(*of) : 1, norm = sqrt(sum) / scale;
    double coefficient = max_norm > 0 ? max_norm / (norm + 1e-6) : 1;
    y[SD_CLIP_NORM] = static_cast<float>(norm);
    y[SD_CLIP_COEFFICIENT] = static_cast<float>((coefficient > 1 ? 1 : coefficient) / scale); /* NaN stays */
    y[SD_CLIP_SKIP] = of && !(sum <= DBL_MAX) ? 1 : 0;
}

int64_t clip_pieces(const struct sd_call *c)
{
    int64_t n = 0;
    for (int i = 0; i < c->node->n_in - 1; i++)
        n += (sd_tensor_count(c->node->in[i]) + PIECE - 1) / PIECE;
    return n;
}

int clip_plan(struct sd_call *c, struct sd_err *err)
{
    c->scratch_bytes = static_cast<size_t>(clip_pieces(c)) * sizeof(double);
    return sd_cuda_plan_floats(c, err);
}

void clip(const struct sd_call *c)
{
    auto *sums = static_cast<double *>(c->scratch);
    int scale = c->node->n_in - 1;
    by_tables<1>(c, scale, [&](const table<1> &t, int, int64_t before, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, squares_kernel, t, sums + before);
    });
    sd_launch(sd_cuda_stream(c), dim3(1), dim3(1024), 0, coefficient_kernel, clip_pieces(c), sums,
              static_cast<double>(c->node->attr.scale), c->in[scale], c->out[0]);
}

__device__ void zero_piece(const struct piece &p, float *x)
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        sd_store<W>(x, i, sd_wide<float, W>{});
    });
}

/* Optimizers: a step of one element x with its gradient g, clipped, and its moments m; made from the row of
 * hyper for its parameter. */
struct adamw_step {
    static constexpr int moments = 2, width = SD_ADAMW_HYPER;
    float keep, eps, rate, beta1, new1, beta2, new2, root;

    __device__ explicit adamw_step(const float *hyper)
        : keep(hyper[SD_ADAMW_KEEP]), eps(hyper[SD_ADAMW_EPS]), rate(hyper[SD_ADAMW_RATE]),
          beta1(hyper[SD_ADAMW_BETA1]), new1(hyper[SD_ADAMW_NEW1]), beta2(hyper[SD_ADAMW_BETA2]),
          new2(hyper[SD_ADAMW_NEW2]), root(hyper[SD_ADAMW_ROOT])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[moments]) const
    {
        m[0] = beta1 * m[0] + new1 * g;
        m[1] = beta2 * m[1] + new2 * g * g;
        x = x * keep - rate * m[0] / (sqrtf(m[1]) * root + eps);
    }
};

struct lion_step {
    static constexpr int moments = 1, width = SD_LION_HYPER;
    float keep, rate, beta1, new1, beta2, new2;

    __device__ explicit lion_step(const float *hyper)
        : keep(hyper[SD_LION_KEEP]), rate(hyper[SD_LION_RATE]), beta1(hyper[SD_LION_BETA1]),
          new1(hyper[SD_LION_NEW1]), beta2(hyper[SD_LION_BETA2]), new2(hyper[SD_LION_NEW2])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[moments]) const
    {
        float d = beta1 * m[0] + new1 * g;
        x = keep * x - rate * (d > 0 ? 1 : d < 0 ? -1 : d); /* NaN stays */
        m[0] = beta2 * m[0] + new2 * g;
    }
};

struct sgd_step {
    static constexpr int moments = 1, width = SD_SGD_HYPER;
    float decay, momentum, fresh, rate;

    __device__ explicit sgd_step(const float *hyper)
        : decay(hyper[SD_SGD_DECAY]), momentum(hyper[SD_SGD_MOMENTUM]), fresh(hyper[SD_SGD_NEW]),
          rate(hyper[SD_SGD_RATE])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[moments]) const
    {
        float d = fresh * (g + decay * x);
        m[0] = momentum * m[0] + d;
        x -= rate * (d + momentum * m[0]);
    }
};

/* A piece's step, or zeroed gradients where the update is skipped. */
template <typename S>
__global__ void step_kernel(table<2 + S::moments> t, const float *clipping, const float *hypers)
{
    struct piece p = piece_of(t);
    float *param = t.f32(p.set, 0), *grad = t.f32(p.set, 1), clip = clipping[SD_CLIP_COEFFICIENT];
    if (clipping[SD_CLIP_SKIP] != 0)
        return zero_piece(p, grad);
    S step(hypers + p.set * S::width);
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto x = sd_load<W>(param, i), g = sd_load<W>(grad, i);
        sd_wide<float, W> moment[S::moments];
        for (int j = 0; j < S::moments; j++)
            moment[j] = sd_load<W>(t.f32(p.set, 2 + j), i);
        for (int k = 0; k < W; k++) {
            float m[S::moments];
            for (int j = 0; j < S::moments; j++)
                m[j] = moment[j].v[k];
            step(x.v[k], g.v[k] * clip, m);
            for (int j = 0; j < S::moments; j++)
                moment[j].v[k] = m[j];
        }
        sd_store<W>(param, i, x);
        sd_store<W>(grad, i, sd_wide<float, W>{});
        for (int j = 0; j < S::moments; j++)
            sd_store<W>(t.f32(p.set, 2 + j), i, moment[j]);
    });
}

static_assert(PIECE % SD_QUANT_BLOCK == 0, "a piece begins with a block");

/* A warp's step of the block [from, to), whose moments are codes, W elements a unit. */
template <int W, typename S>
__device__ void step_codes(const table<2 + 2 * S::moments> &t, int set, int64_t from, int64_t to, float clip,
                           const S &step, const float *maps)
{
    constexpr int M = S::moments, UNITS = SD_QUANT_BLOCK / SD_WARP / W;
    const int64_t first = from / W + threadIdx.x % SD_WARP, block = from / SD_QUANT_BLOCK;
    sd_wide<float, W> moment[M][UNITS];
    unsigned most[M] = {};
    SD_UNROLL(UNITS)
    for (int u = 0; u < UNITS; u++) {
        int64_t i = first + u * SD_WARP;
        if (i * W >= to)
            continue;
        auto x = sd_load<W>(t.f32(set, 0), i), g = sd_load<W>(t.f32(set, 1), i);
        for (int j = 0; j < M; j++)
            moment[j][u] = sd_from_codes(static_cast<const sd_codes<W> *>(t.memory[set][2 + j])[i],
                                         t.f32(set, 2 + M + j)[block], maps + j * SD_QUANT_CODES);
        for (int k = 0; k < W; k++) {
            float m[M];
            for (int j = 0; j < M; j++)
                m[j] = moment[j][u].v[k];
            step(x.v[k], g.v[k] * clip, m);
            for (int j = 0; j < M; j++) {
                moment[j][u].v[k] = m[j];
                most[j] = sd_magnitude(m[j], most[j]);
            }
        }
        sd_store<W>(t.f32(set, 0), i, x);
        sd_store<W>(t.f32(set, 1), i, sd_wide<float, W>{});
    }
    for (int j = 0; j < M; j++) {
        float max = sd_warp_magnitude(most[j]);
        __syncwarp(); /* all have read the one before */
        if (threadIdx.x % SD_WARP == 0)
            t.f32(set, 2 + M + j)[block] = max;
        SD_UNROLL(UNITS)
        for (int u = 0; u < UNITS; u++)
            if ((first + u * SD_WARP) * W < to)
                static_cast<sd_codes<W> *>(t.memory[set][2 + j])[first + u * SD_WARP] =
                    sd_to_codes(moment[j][u], max, maps + j * SD_QUANT_CODES);
    }
}

template <typename S>
__global__ void step8_kernel(table<2 + 2 * S::moments> t, const float *clipping, const float *hypers,
                             const float *given)
{
    SD_SHARED(float, maps, S::moments *SD_QUANT_CODES);
    struct piece p = piece_of(t);
    float clip = clipping[SD_CLIP_COEFFICIENT];
    if (clipping[SD_CLIP_SKIP] != 0)
        return zero_piece(p, t.f32(p.set, 1));
    for (int i = threadIdx.x; i < S::moments * SD_QUANT_CODES; i += SD_THREADS)
        maps[i] = given[i];
    __syncthreads();
    S step(hypers + p.set * S::width);
    int64_t from = p.from + threadIdx.x / SD_WARP * SD_QUANT_BLOCK;
    for (; from < p.to; from += SD_THREADS / SD_WARP * SD_QUANT_BLOCK) {
        int64_t to = from + SD_QUANT_BLOCK < p.to ? from + SD_QUANT_BLOCK : p.to;
        if (p.wide && to % UNIT == 0)
            step_codes<UNIT>(t, p.set, from, to, clip, step, maps);
        else
            step_codes<1>(t, p.set, from, to, clip, step, maps);
    }
}

template <typename S> void step(const struct sd_call *c)
{
    constexpr int M = S::moments;
    int last = c->node->n_in - 1, each = sd_step_inputs(c->node, M);
    auto *clip = static_cast<const float *>(c->in[last - 2]);
    auto *hyper = static_cast<const float *>(c->in[last - 1]),
         *maps = static_cast<const float *>(c->in[last]);
    auto launch = [&](auto kernel, const auto &t, int from, dim3 grid, auto... more) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, kernel, t, clip, hyper + from * S::width,
                  more...);
    };
    if (maps)
        by_tables<2 + 2 * M>(c, (last - 2) / each,
                             [&](const table<2 + 2 * M> &t, int from, int64_t, dim3 grid) {
                                 launch(step8_kernel<S>, t, from, grid, maps);
                             });
    else
        by_tables<2 + M>(c, (last - 2) / each, [&](const table<2 + M> &t, int from, int64_t, dim3 grid) {
            launch(step_kernel<S>, t, from, grid);
        });
}

/* One thread: the scale lives on the device, where the next step's backward starts from it. */
__global__ void loss_scale_kernel(struct sd_loss_scaling s, const float *clipping, float *scale,
                                  float *streak)
{
    float grown = *scale * s.growth, count = *streak + 1;
    if (clipping[SD_CLIP_SKIP] != 0) {
        *scale *= s.backoff;
        count = 0;
    } else if (count >= static_cast<float>(s.interval)) {
        if (grown <= FLT_MAX)
            *scale = grown;
        count = 0;
    }
    *streak = count;
}

void loss_scale(const struct sd_call *c)
{
    sd_launch(sd_cuda_stream(c), dim3(1), dim3(1), 0, loss_scale_kernel, c->node->attr.scaling, c->in[2],
              c->in[0], c->in[1]);
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_accumulate = {.plan = sd_cuda_plan_floats, .run = accumulate, .drop = NULL};
const struct sd_kernel sd_cuda_ema = {.plan = sd_cuda_plan_floats, .run = ema, .drop = NULL};
const struct sd_kernel sd_cuda_clip = {.plan = clip_plan, .run = clip, .drop = NULL};
const struct sd_kernel sd_cuda_adamw = {.plan = NULL, .run = step<adamw_step>, .drop = NULL};
const struct sd_kernel sd_cuda_lion = {.plan = NULL, .run = step<lion_step>, .drop = NULL};
const struct sd_kernel sd_cuda_sgd = {.plan = NULL, .run = step<sgd_step>, .drop = NULL};
const struct sd_kernel sd_cuda_loss_scale = {.plan = sd_cuda_plan_floats, .run = loss_scale, .drop = NULL};
}
