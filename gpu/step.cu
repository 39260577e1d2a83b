/* Steps of optimizers, over many parameters at once. */
#include "quant.h"
#include "tables.h"

extern "C" {
#include "tensor/rule.h"
}

namespace
{

/* A step of one element x with its gradient g, clipped, and its moments m; made from the row of hyper for its
 * parameter (tensor/rule.h). */
struct adam_numbers {
    float keep, decay, beta1, new1, beta2, new2, eps, rate, fresh, root;

    __device__ explicit adam_numbers(const float *h)
        : keep(h[SD_ADAM_KEEP]), decay(h[SD_ADAM_DECAY]), beta1(h[SD_ADAM_BETA1]), new1(h[SD_ADAM_NEW1]),
          beta2(h[SD_ADAM_BETA2]), new2(h[SD_ADAM_NEW2]), eps(h[SD_ADAM_EPS]), rate(h[SD_ADAM_RATE]),
          fresh(h[SD_ADAM_FRESH]), root(h[SD_ADAM_ROOT])
    {
    }

    /* What is to be divided; m[0] and m[1] are new then. */
    __device__ float moments(float x, float g, float *m) const
    {
        float d = g + decay * x;
        m[0] = beta1 * m[0] + new1 * d;
        m[1] = beta2 * m[1] + new2 * d * d;
        return rate * m[0] + fresh * d;
    }
};

struct adam : adam_numbers {
    static constexpr int count = 2;
    using adam_numbers::adam_numbers;

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float top = moments(x, g, m);
        x = x * keep - top / (sqrtf(m[1]) * root + eps);
    }
};

struct amsgrad : adam_numbers {
    static constexpr int count = 3;
    using adam_numbers::adam_numbers;

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float top = moments(x, g, m);
        m[2] = m[1] <= m[2] ? m[2] : m[1]; /* NaN stays */
        x = x * keep - top / (sqrtf(m[2]) * root + eps);
    }
};

/* Of its sign; NaN stays. */
__device__ float sign(float d)
{
    return d > 0 ? 1 : d < 0 ? -1 : d;
}

struct lion {
    static constexpr int count = 1;
    float keep, rate, beta1, new1, beta2, new2;

    __device__ explicit lion(const float *h)
        : keep(h[SD_LION_KEEP]), rate(h[SD_LION_RATE]), beta1(h[SD_LION_BETA1]), new1(h[SD_LION_NEW1]),
          beta2(h[SD_LION_BETA2]), new2(h[SD_LION_NEW2])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        x = keep * x - rate * sign(beta1 * m[0] + new1 * g);
        m[0] = beta2 * m[0] + new2 * g;
    }
};

struct sgd {
    static constexpr int count = 1;
    float keep, decay, momentum, newer, fresh, rate;

    __device__ explicit sgd(const float *h)
        : keep(h[SD_SGD_KEEP]), decay(h[SD_SGD_DECAY]), momentum(h[SD_SGD_MOMENTUM]), newer(h[SD_SGD_NEW]),
          fresh(h[SD_SGD_FRESH]), rate(h[SD_SGD_RATE])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float d = g + decay * x;
        m[0] = momentum * m[0] + newer * d;
        x = keep * x - (fresh * d + rate * m[0]);
    }
};

struct rmsprop {
    static constexpr int count = 1;
    float decay, alpha, newer, eps, rate;

    __device__ explicit rmsprop(const float *h)
        : decay(h[SD_RMSPROP_DECAY]), alpha(h[SD_RMSPROP_ALPHA]), newer(h[SD_RMSPROP_NEW]),
          eps(h[SD_RMSPROP_EPS]), rate(h[SD_RMSPROP_RATE])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float d = g + decay * x;
        m[0] = alpha * m[0] + newer * d * d;
        x -= rate * d / (sqrtf(m[0]) + eps);
    }
};

struct rmsprop_full {
    static constexpr int count = 3;
    float decay, alpha, newer, eps, rate, center, momentum;

    __device__ explicit rmsprop_full(const float *h)
        : decay(h[SD_RMSPROP_DECAY]), alpha(h[SD_RMSPROP_ALPHA]), newer(h[SD_RMSPROP_NEW]),
          eps(h[SD_RMSPROP_EPS]), rate(h[SD_RMSPROP_RATE]), center(h[SD_RMSPROP_CENTER]),
          momentum(h[SD_RMSPROP_MOMENTUM])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float d = g + decay * x;
        m[0] = alpha * m[0] + newer * d * d;
        m[1] = alpha * m[1] + newer * d;
        float variance = m[0] - center * m[1] * m[1];
        m[2] = momentum * m[2] + d / (sqrtf(variance < 0 ? 0 : variance) + eps);
        x -= rate * m[2];
    }
};

struct adadelta {
    static constexpr int count = 2;
    float decay, rho, newer, eps, rate;

    __device__ explicit adadelta(const float *h)
        : decay(h[SD_ADADELTA_DECAY]), rho(h[SD_ADADELTA_RHO]), newer(h[SD_ADADELTA_NEW]),
          eps(h[SD_ADADELTA_EPS]), rate(h[SD_ADADELTA_RATE])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float d = g + decay * x;
        m[0] = rho * m[0] + newer * d * d;
        float s = d * sqrtf(m[1] + eps) / sqrtf(m[0] + eps);
        m[1] = rho * m[1] + newer * s * s;
        x -= rate * s;
    }
};

struct adamax {
    static constexpr int count = 2;
    float decay, beta1, new1, beta2, eps, rate;

    __device__ explicit adamax(const float *h)
        : decay(h[SD_ADAMAX_DECAY]), beta1(h[SD_ADAMAX_BETA1]), new1(h[SD_ADAMAX_NEW1]),
          beta2(h[SD_ADAMAX_BETA2]), eps(h[SD_ADAMAX_EPS]), rate(h[SD_ADAMAX_RATE])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float d = g + decay * x, now = fabsf(d) + eps, before = beta2 * m[1];
        m[0] = beta1 * m[0] + new1 * d;
        m[1] = now <= before ? before : now; /* NaN stays */
        x -= rate * m[0] / m[1];
    }
};

struct rprop {
    static constexpr int count = 2;
    float up, down, least, most;

    __device__ explicit rprop(const float *h)
        : up(h[SD_RPROP_UP]), down(h[SD_RPROP_DOWN]), least(h[SD_RPROP_LEAST]), most(h[SD_RPROP_MOST])
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count]) const
    {
        float turn = g * m[0], larger = up * m[1], smaller = down * m[1];
        if (turn > 0)
            m[1] = larger < most ? larger : most;
        else if (turn < 0)
            m[1] = smaller > least ? smaller : least;
        m[0] = turn < 0 ? 0 : g;
        x -= m[1] * sign(m[0]);
    }
};

/* A piece's step, or zeroed gradients where the update is skipped. */
template <typename S>
__global__ void step_kernel(table<2 + S::count> t, const float *clipping, const float *hypers)
{
    struct piece p = piece_of(t);
    float *param = t.f32(p.set, 0), *grad = t.f32(p.set, 1), clip = clipping[SD_CLIP_COEFFICIENT];
    const float *hyper = hypers + p.set * SD_STEP_HYPER;
    if (clipping[SD_CLIP_SKIP] != 0 || hyper[SD_STEP_LIVE] == 0)
        return sd_zero_piece(p, grad);
    S step(hyper);
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value;
        auto x = sd_load<W>(param, i), g = sd_load<W>(grad, i);
        sd_wide<float, W> moment[S::count];
        for (int j = 0; j < S::count; j++)
            moment[j] = sd_load<W>(t.f32(p.set, 2 + j), i);
        for (int k = 0; k < W; k++) {
            float m[S::count];
            for (int j = 0; j < S::count; j++)
                m[j] = moment[j].v[k];
            step(x.v[k], g.v[k] * clip, m);
            for (int j = 0; j < S::count; j++)
                moment[j].v[k] = m[j];
        }
        sd_store<W>(param, i, x);
        sd_store<W>(grad, i, sd_wide<float, W>{});
        for (int j = 0; j < S::count; j++)
            sd_store<W>(t.f32(p.set, 2 + j), i, moment[j]);
    });
}

static_assert(PIECE % SD_QUANT_BLOCK == 0, "a piece begins with a block");

/* A warp's step of the block [from, to), whose moments are codes, W elements a unit. */
template <int W, typename S>
__device__ void step_codes(const table<2 + 2 * S::count> &t, int set, int64_t from, int64_t to, float clip,
                           const S &step, const float *maps)
{
    constexpr int M = S::count, UNITS = SD_QUANT_BLOCK / SD_WARP / W;
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
__global__ void step8_kernel(table<2 + 2 * S::count> t, const float *clipping, const float *hypers,
                             const float *given)
{
    SD_SHARED(float, maps, S::count *SD_QUANT_CODES);
    struct piece p = piece_of(t);
    float clip = clipping[SD_CLIP_COEFFICIENT];
    const float *hyper = hypers + p.set * SD_STEP_HYPER;
    if (clipping[SD_CLIP_SKIP] != 0 || hyper[SD_STEP_LIVE] == 0)
        return sd_zero_piece(p, t.f32(p.set, 1));
    for (int i = threadIdx.x; i < S::count * SD_QUANT_CODES; i += SD_THREADS)
        maps[i] = given[i];
    __syncthreads();
    S step(hyper);
    int64_t from = p.from + threadIdx.x / SD_WARP * SD_QUANT_BLOCK;
    for (; from < p.to; from += SD_THREADS / SD_WARP * SD_QUANT_BLOCK) {
        int64_t to = from + SD_QUANT_BLOCK < p.to ? from + SD_QUANT_BLOCK : p.to;
        if (p.wide && to % UNIT == 0)
            step_codes<UNIT>(t, p.set, from, to, clip, step, maps);
        else
            step_codes<1>(t, p.set, from, to, clip, step, maps);
    }
}

/* launch(table, first parameter, grid) for all parameters, which have K inputs each. */
template <int K, typename F> void by_parameters(const struct sd_call *c, F launch)
{
    by_tables<K>(
        c, sd_step_input(c->node, SD_STEP_IN_CLIP) / K,
        [&](const table<K> &t, int from, int64_t, dim3 grid) { launch(t, from * SD_STEP_HYPER, grid); });
}

template <typename S> void step(const struct sd_call *c)
{
    auto input = [c](int what) { return static_cast<const float *>(c->in[sd_step_input(c->node, what)]); };
    const float *clip = input(SD_STEP_IN_CLIP), *hyper = input(SD_STEP_IN_HYPER);
    by_parameters<2 + S::count>(c, [&](const auto &t, int row, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, step_kernel<S>, t, clip, hyper + row);
    });
}

template <typename S> void step8(const struct sd_call *c)
{
    auto input = [c](int what) { return static_cast<const float *>(c->in[sd_step_input(c->node, what)]); };
    const float *clip = input(SD_STEP_IN_CLIP), *hyper = input(SD_STEP_IN_HYPER),
                *maps = input(SD_STEP_IN_MAPS);
    by_parameters<2 + 2 * S::count>(c, [&](const auto &t, int row, dim3 grid) {
        sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, step8_kernel<S>, t, clip, hyper + row, maps);
    });
}

template <typename S, bool codes> void step_by(const struct sd_call *c)
{
    if constexpr (codes)
        if (c->in[sd_step_input(c->node, SD_STEP_IN_MAPS)])
            return step8<S>(c);
    step<S>(c);
}

void run(const struct sd_call *c)
{
    static void (*const rules[SD_RULE_COUNT])(const struct sd_call *) = {
#define RULE(name, moments, codes, ...) step_by<name, codes>,
#include "tensor/rules.def"
#undef RULE
    };
    rules[c->node->attr.rule](c);
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_step = {.plan = NULL, .run = run, .drop = NULL};
}
