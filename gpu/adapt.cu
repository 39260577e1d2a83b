/* Steps of optimizers that adapt their step size, over many parameters at once. */
#include "tables.h"

extern "C" {
#include "tensor/adapt.h"
}

namespace
{

/* What a parameter's row of hyper, the state and clip make for its elements. */
struct numbers {
    float clip, decay, eps, beta1, beta2, beta3, new1, new2, new3;
    float lose, part; /* LOSE r and 1 / (1 + PROX r) */
    float d, r, move; /* move: Prodigy's */
    bool first;

    /* from: what r is made of. */
    __device__ numbers(const float *h, const float *state, const float *clipping, float from)
        : clip(clipping[SD_CLIP_COEFFICIENT]), decay(h[SD_ADAPT_DECAY]), eps(h[SD_ADAPT_EPS]),
          beta1(h[SD_ADAPT_BETA1]), beta2(h[SD_ADAPT_BETA2]), beta3(h[SD_ADAPT_BETA3]),
          new1(h[SD_ADAPT_NEW1]), new2(h[SD_ADAPT_NEW2]), new3(h[SD_ADAPT_NEW3]), d(state[SD_ADAPT_D]),
          r(from * h[SD_ADAPT_RATE]), first(h[SD_ADAPT_FIRST] != 0)
    {
        lose = h[SD_ADAPT_LOSE] * r;
        part = 1 / (1 + h[SD_ADAPT_PROX] * r);
        move = beta1 == 0 && r > 0 ? d * h[SD_ADAPT_RATE] : r;
    }
};

/* Steps of one element x with its gradient g, clipped, and its moments m (tensor/adapt.h). `count` moments,
 * `written` of them in every update; SUMS whether it takes a gradient and adds to the sums. */
template <int COUNT, int WRITTEN, bool SUMS = true> struct rule : numbers {
    static constexpr int count = COUNT, written = WRITTEN;
    static constexpr bool sums = SUMS;

    __device__ rule(const float *h, const float *state, const float *clipping)
        : numbers(h, state, clipping, state[SD_ADAPT_D])
    {
    }
    __device__ rule(const float *h, const float *state, const float *clipping, float from)
        : numbers(h, state, clipping, from)
    {
    }
};

struct preprint : rule<3, 3> {
    using rule::rule;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        g += decay * x;
        m[0] = beta1 * m[0] + new1 * r * g;
        m[1] = beta2 * m[1] + new2 * g * g;
        m[2] = beta3 * m[2] + new3 * r * g;
        float root = sqrtf(m[1]) + eps;
        sum[SD_ADAPT_TOP] += static_cast<double>(g * g / root);
        sum[SD_ADAPT_SQUARES] += static_cast<double>(m[2] * m[2] / root);
        sum[SD_ADAPT_SIZE] += static_cast<double>(fabsf(m[2]));
        x -= lose * x + m[0] / root;
    }
};

struct adam : rule<3, 3> {
    using rule::rule;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        g += decay * x;
        sum[SD_ADAPT_TOP] += static_cast<double>(g * m[2] / (sqrtf(m[1]) + eps));
        m[0] = beta1 * m[0] + new1 * r * g;
        m[1] = beta2 * m[1] + new2 * g * g;
        m[2] = beta3 * m[2] + new3 * r * g;
        sum[SD_ADAPT_SIZE] += static_cast<double>(fabsf(m[2]));
        x -= lose * x + m[0] / (sqrtf(m[1]) + eps);
    }
};

struct adagrad : rule<3, 2> {
    using rule::rule;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        if (first) {
            m[0] = 1e-6f;
            m[2] = x;
        }
        g += decay * x;
        float root = sqrtf(m[0]) + eps;
        sum[SD_ADAPT_SQUARES] -= static_cast<double>(m[1] * m[1] / root);
        sum[SD_ADAPT_SIZE] -= static_cast<double>(fabsf(m[1]));
        m[0] += g * g;
        m[1] += r * g;
        root = sqrtf(m[0]) + eps;
        sum[SD_ADAPT_TOP] += static_cast<double>(g * g / root);
        sum[SD_ADAPT_SQUARES] += static_cast<double>(m[1] * m[1] / root);
        sum[SD_ADAPT_SIZE] += static_cast<double>(fabsf(m[1]));
        x = beta1 * x + new1 * (m[2] - m[1] / root);
    }
};

struct adan_numbers : rule<5, 5> {
    using rule::rule;

    /* Returns the root of the new n. */
    __device__ float step(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        float diff = first ? 0 : g - m[4], u = g + beta2 * diff;
        m[0] = beta1 * m[0] + new1 * r * g;
        m[1] = beta2 * m[1] + new2 * r * diff;
        m[2] = beta3 * m[2] + new3 * u * u;
        m[3] = beta3 * m[3] + new3 * r * g;
        m[4] = g;
        float root = sqrtf(m[2]) + eps;
        sum[SD_ADAPT_SIZE] += static_cast<double>(fabsf(m[3]));
        x = (x - (lose * x + (m[0] + beta2 * m[1]) / root)) * part;
        return root;
    }
};

struct adan : adan_numbers {
    using adan_numbers::adan_numbers;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        float root = step(x, g, m, sum);
        sum[SD_ADAPT_TOP] += static_cast<double>(g * g / root);
        sum[SD_ADAPT_SQUARES] += static_cast<double>(m[3] * m[3] / root);
    }
};

struct adan_ip : adan_numbers {
    using adan_numbers::adan_numbers;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        sum[SD_ADAPT_TOP] += static_cast<double>(g * m[3] / (sqrtf(m[2]) + eps));
        step(x, g, m, sum);
    }
};

struct lion : rule<2, 2> {
    using rule::rule;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        float u = beta1 * m[0] + new1 * g;
        u = u > 0 ? 1 : u < 0 ? -1 : u; /* NaN stays */
        sum[SD_ADAPT_TOP] += static_cast<double>(u * m[1]);
        m[0] = beta2 * m[0] + new2 * r * g;
        m[1] = beta3 * m[1] + new3 * r * u;
        sum[SD_ADAPT_SIZE] += static_cast<double>(fabsf(m[1]));
        x -= lose * x + r * u;
    }
};

/* What r is made of in gradient descent: d over the first gradients' norm, as clipped. */
__device__ float normed(const float *h, const float *state, const float *clipping)
{
    float norm = state[SD_ADAPT_NORM], most = h[SD_ADAPT_MAX_NORM];
    if (norm == 0) {
        norm = clipping[SD_CLIP_NORM];
        float k = most > 0 ? most / (norm + 1e-6f) : 1;
        norm = k < 1 ? norm * k : norm;
    }
    return norm != 0 ? state[SD_ADAPT_D] / norm : 0;
}

struct sgd : rule<2, 1> {
    __device__ sgd(const float *h, const float *state, const float *clipping)
        : rule(h, state, clipping, normed(h, state, clipping))
    {
    }

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        if (first)
            m[1] = x;
        sum[SD_ADAPT_SQUARES] += static_cast<double>(g) * static_cast<double>(g);
        g += decay * x;
        sum[SD_ADAPT_TOP] += static_cast<double>(g * m[0]);
        m[0] += r * g;
        sum[SD_ADAPT_SIZE] += static_cast<double>(m[0]) * static_cast<double>(m[0]);
        x = beta1 * x + new1 * (m[1] - m[0]);
    }
};

struct prodigy : rule<4, 3> {
    using rule::rule;

    __device__ void operator()(float &x, float g, float (&m)[count], double (&sum)[SD_ADAPT_SUMS]) const
    {
        if (first)
            m[3] = x;
        g += decay * x;
        float dg = d * g;
        sum[SD_ADAPT_TOP] += static_cast<double>(g * (m[3] - x));
        m[0] = beta1 * m[0] + new1 * dg;
        m[1] = beta2 * m[1] + new2 * dg * dg;
        m[2] = beta3 * m[2] + new3 * d * dg;
        sum[SD_ADAPT_SIZE] += static_cast<double>(fabsf(m[2]));
    }
};

struct prodigy_move : rule<2, 0, false> {
    __device__ prodigy_move(const float *h, const float *state, const float *clipping)
        : rule(h, state, clipping, state[SD_ADAPT_BEFORE])
    {
    }

    __device__ void operator()(float &x, float, float (&m)[count], double (&)[SD_ADAPT_SUMS]) const
    {
        x -= lose * x + move * m[0] / (sqrtf(m[1]) + d * eps);
    }
};

/* A piece's step; adds to this thread's sums. */
template <typename S, int K>
__device__ void step_piece(const table<K> &t, const struct piece &p, const S &step,
                           double (&sum)[SD_ADAPT_SUMS])
{
    each_unit(p, [&](auto width, int64_t i) {
        constexpr int W = decltype(width)::value, B = K - S::count;
        auto x = sd_load<W>(t.f32(p.set, 0), i);
        sd_wide<float, W> g{}, moment[S::count];
        if constexpr (S::sums)
            g = sd_load<W>(t.f32(p.set, 1), i);
        for (int j = 0; j < S::count; j++)
            moment[j] = sd_load<W>(t.f32(p.set, B + j), i);
        for (int k = 0; k < W; k++) {
            float m[S::count];
            for (int j = 0; j < S::count; j++)
                m[j] = moment[j].v[k];
            step(x.v[k], g.v[k] * step.clip, m, sum);
            for (int j = 0; j < S::count; j++)
                moment[j].v[k] = m[j];
        }
        sd_store<W>(t.f32(p.set, 0), i, x);
        if constexpr (S::sums)
            sd_store<W>(t.f32(p.set, 1), i, sd_wide<float, W>{});
        for (int j = 0; j < S::count; j++)
            if (j < S::written || step.first)
                sd_store<W>(t.f32(p.set, B + j), i, moment[j]);
    });
}

/* Where the update is skipped or the parameter is not live, zeroed gradients and sums of 0. */
template <typename S, int K>
__global__ void adapt_step_kernel(table<K> t, const float *clipping, const float *hypers, const float *state,
                                  double *sums)
{
    SD_SHARED(double, spare, SD_WARP);
    struct piece p = piece_of(t);
    const float *h = hypers + p.set * SD_ADAPT_HYPER;
    double sum[SD_ADAPT_SUMS] = {};
    if (clipping[SD_CLIP_SKIP] == 0 && h[SD_ADAPT_LIVE] != 0)
        step_piece<S>(t, p, S(h, state, clipping), sum);
    else if (S::sums)
        sd_zero_piece(p, t.f32(p.set, 1));
    if constexpr (S::sums)
        for (int i = 0; i < SD_ADAPT_SUMS; i++) {
            double all = sd_block_sum(sum[i], spare);
            if (threadIdx.x == 0)
                sums[blockIdx.x * static_cast<int64_t>(SD_ADAPT_SUMS) + i] = all;
        }
}

__device__ void put_pair(float *to, double v)
{
    to[0] = static_cast<float>(v);
    to[1] = static_cast<float>(v - static_cast<double>(to[0]));
}

__device__ double pair(const float *from)
{
    return static_cast<double>(from[0]) + static_cast<double>(from[1]);
}

/* One block for each sum. */
__global__ void sums_kernel(int64_t pieces, const double *sums, float *y)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < pieces; i += blockDim.x)
        sum += sums[i * SD_ADAPT_SUMS + blockIdx.x];
    sum = sd_block_sum(sum, spare);
    if (threadIdx.x == 0)
        put_pair(y + 2 * static_cast<size_t>(blockIdx.x), sum);
}

template <typename S> void step_by(const struct sd_call *c)
{
    constexpr int K = 1 + S::sums + S::count;
    auto input = [c](int what) { return static_cast<const float *>(c->in[sd_adapt_input(c->node, what)]); };
    const float *clip = input(SD_ADAPT_IN_CLIP), *hyper = input(SD_ADAPT_IN_HYPER),
                *state = input(SD_ADAPT_IN_STATE);
    auto *sums = static_cast<double *>(c->scratch);
    int64_t pieces = 0;
    by_tables<K>(c, sd_adapt_input(c->node, SD_ADAPT_IN_CLIP) / K,
                 [&](const table<K> &t, int from, int64_t before, dim3 grid) {
                     auto row = static_cast<size_t>(from) * SD_ADAPT_HYPER;
                     auto at = static_cast<size_t>(before) * SD_ADAPT_SUMS;
                     sd_launch(sd_cuda_stream(c), grid, dim3(SD_THREADS), 0, adapt_step_kernel<S, K>, t, clip,
                               hyper + row, state, sums + at);
                     pieces = before + grid.x;
                 });
    if constexpr (S::sums)
        sd_launch(sd_cuda_stream(c), dim3(SD_ADAPT_SUMS), dim3(1024), 0, sums_kernel, pieces, sums,
                  c->out[0]);
}

int plan(struct sd_call *c, struct sd_err *)
{
    int64_t pieces = 0;
    for (int k = 0; k < sd_adapt_input(c->node, SD_ADAPT_IN_CLIP); k += sd_adapt_each(c->node))
        pieces += (sd_tensor_count(c->node->in[k]) + PIECE - 1) / PIECE;
    c->scratch_bytes = static_cast<size_t>(pieces) * SD_ADAPT_SUMS * sizeof(double);
    return 0;
}

void run(const struct sd_call *c)
{
    static void (*const rules[SD_ADAPT_RULES])(const struct sd_call *) = {
#define RULE(name, ...) step_by<name>,
#include "tensor/adapt.def"
#undef RULE
    };
    rules[c->node->attr.adapt_rule](c);
}

/* The next step size from an estimate. */
__device__ double next(const struct sd_adaptation &how, float *state, double estimate)
{
    double d = static_cast<double>(state[SD_ADAPT_D]), limit = d * how.growth;
    if (!how.prodigy) {
        double to = estimate < limit ? estimate : limit;
        return to > d ? to : d;
    }
    if (state[SD_ADAPT_D] == how.d0 && estimate > d)
        limit = estimate * how.growth;
    if (estimate > static_cast<double>(state[SD_ADAPT_MOST]))
        state[SD_ADAPT_MOST] = static_cast<float>(estimate);
    double most = static_cast<double>(state[SD_ADAPT_MOST]);
    return most < limit ? most : limit;
}

__device__ void change(const struct sd_adaptation &how, const float *sums, const float *clip,
                       const float *hyper, float *state)
{
    float *totals = state + SD_ADAPT_TOTALS;
    double total[SD_ADAPT_SUMS], d = static_cast<double>(state[SD_ADAPT_D]);
    float r = state[SD_ADAPT_D] * hyper[SD_ADAPT_RATE]; /* rounded as in the step */
    if (clip[SD_CLIP_SKIP] != 0)
        return;
    for (int i = 0; i < SD_ADAPT_SUMS; i++)
        total[i] = pair(sums + 2 * i) + (how.tracked ? pair(totals + 2 * i) : 0);
    state[SD_ADAPT_BEFORE] = 0;
    if (total[SD_ADAPT_SIZE] == 0)
        return;
    if (how.rooted && state[SD_ADAPT_NORM] == 0)
        state[SD_ADAPT_NORM] = static_cast<float>(sqrt(total[SD_ADAPT_SQUARES]));
    if (how.rooted)
        r /= state[SD_ADAPT_NORM];
    double w = static_cast<double>(how.fresh) * static_cast<double>(r) *
               (how.squared ? static_cast<double>(r) : 1) * (how.prodigy ? d : 1);
    total[SD_ADAPT_TOP] = static_cast<double>(how.keep) * pair(totals) + w * pair(sums);
    for (int i = 0; i < SD_ADAPT_SUMS; i++)
        put_pair(totals + 2 * i, total[i]);
    state[SD_ADAPT_BEFORE] = state[SD_ADAPT_D];
    if (hyper[SD_ADAPT_RATE] == 0)
        return;
    double size = how.rooted ? sqrt(total[SD_ADAPT_SIZE]) : total[SD_ADAPT_SIZE];
    double top = static_cast<double>(how.of_top) * total[SD_ADAPT_TOP] +
                 static_cast<double>(how.of_squares) * total[SD_ADAPT_SQUARES];
    state[SD_ADAPT_D] = static_cast<float>(next(how, state, top / (static_cast<double>(how.of_size) * size)));
}

/* One thread: the step size lives on the device, where the next update starts from it. */
__global__ void adapt_kernel(struct sd_adaptation how, const float *sums, const float *clip,
                             const float *hyper, float *state, float *y)
{
    change(how, sums, clip, hyper, state);
    *y = state[SD_ADAPT_D];
}

void adapt(const struct sd_call *c)
{
    sd_launch(sd_cuda_stream(c), dim3(1), dim3(1), 0, adapt_kernel, c->node->attr.adaptation, c->in[1],
              c->in[2], c->in[3], c->in[0], c->out[0]);
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_adapt_step = {.plan = plan, .run = run, .drop = NULL};
const struct sd_kernel sd_cuda_adapt = {.plan = sd_cuda_plan_floats, .run = adapt, .drop = NULL};
}
