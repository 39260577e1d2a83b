/* Layer norm of the rows of [..., C]: a warp a row, a block where rows are wide. A row comes from memory
 * once; that it is read again, for its deviations and to be normalised, is the first-level cache's business.
 * Backward: dx = rstd (w dy - mean(w dy) - xhat mean(w dy xhat)); dw, db down the rows in two stages
 * (norm.h). */
#include "norm.h"

namespace
{

constexpr int WIDE = 8192; /* channels from which a row takes a block */

/* The threads of a row: width of them, this one's number. */
template <bool wide> struct team {
    static constexpr int width = wide ? SD_THREADS : SD_WARP, rows = SD_THREADS / width; /* rows a block */

    static __device__ int member()
    {
        return threadIdx.x % width;
    }
    /* Of the grid's rows, the first that is this team's; all teams of a block go on for as long as the first.
     */
    static __device__ int64_t first()
    {
        return static_cast<int64_t>(blockIdx.x) * rows + threadIdx.x / width;
    }
    static __device__ float sum(float x, float *spare)
    {
        if constexpr (wide)
            return sd_block_sum(x, spare);
        else
            return sd_warp_sum(x);
    }
};

template <typename T, int P, bool wide>
__global__ void layer_norm_kernel(int64_t rows, int64_t ch, float eps, const T *x, const float *w,
                                  const float *b, T *y, float2 *stats)
{
    SD_SHARED(float, spare, SD_WARP);
    using team = team<wide>;
    int64_t packs = ch / P;
    for (int64_t row = team::first(); row < rows; row += static_cast<int64_t>(gridDim.x) * team::rows) {
        float sum = 0, square = 0;
        for (int64_t k = team::member(); k < packs; k += team::width) {
            sd_wide<float, P> v = sd_load<P>(x, row * packs + k);
            for (int i = 0; i < P; i++)
                sum += v.v[i];
        }
        float mean = team::sum(sum, spare) / static_cast<float>(ch);
        for (int64_t k = team::member(); k < packs; k += team::width) {
            sd_wide<float, P> v = sd_load<P>(x, row * packs + k);
            for (int i = 0; i < P; i++)
                square += (v.v[i] - mean) * (v.v[i] - mean);
        }
        float rstd = 1 / sqrtf(team::sum(square, spare) / static_cast<float>(ch) + eps);
        for (int64_t k = team::member(); k < packs; k += team::width) {
            sd_wide<float, P> v = sd_load<P>(x, row * packs + k);
            sd_wide<float, P> scale = sd_load<P>(w, k);
            sd_wide<float, P> bias = sd_load<P>(b, k);
            for (int i = 0; i < P; i++)
                v.v[i] = (v.v[i] - mean) * rstd * scale.v[i] + bias.v[i];
            sd_store<P>(y, row * packs + k, v);
        }
        if (stats && team::member() == 0)
            stats[row] = make_float2(mean, rstd);
    }
}

template <typename D, typename T, int P, bool wide>
__global__ void dx_kernel(int64_t rows, int64_t ch, const D *dy, const T *x, const float *w,
                          const float2 *stats, T *dx)
{
    SD_SHARED(float, spare, SD_WARP);
    using team = team<wide>;
    int64_t packs = ch / P;
    for (int64_t row = team::first(); row < rows; row += static_cast<int64_t>(gridDim.x) * team::rows) {
        float2 of = stats[row]; /* mean, rstd */
        float sum = 0, dot = 0;
        for (int64_t k = team::member(); k < packs; k += team::width) {
            sd_wide<float, P> v = sd_load<P>(x, row * packs + k);
            sd_wide<float, P> d = sd_load<P>(dy, row * packs + k);
            sd_wide<float, P> scale = sd_load<P>(w, k);
            for (int i = 0; i < P; i++) {
                sum += scale.v[i] * d.v[i];
                dot += scale.v[i] * d.v[i] * ((v.v[i] - of.x) * of.y);
            }
        }
        sum = team::sum(sum, spare) / static_cast<float>(ch);
        dot = team::sum(dot, spare) / static_cast<float>(ch);
        for (int64_t k = team::member(); k < packs; k += team::width) {
            sd_wide<float, P> v = sd_load<P>(x, row * packs + k);
            sd_wide<float, P> d = sd_load<P>(dy, row * packs + k);
            sd_wide<float, P> scale = sd_load<P>(w, k);
            for (int i = 0; i < P; i++)
                d.v[i] = of.y * (scale.v[i] * d.v[i] - sum - (v.v[i] - of.x) * of.y * dot);
            sd_store<P>(dx, row * packs + k, d);
        }
    }
}

/* partial = sum dy, sum dy xhat of each channel of a slab. */
template <typename D, typename T, int P>
__global__ void sums_kernel(sd_norm_cut s, const D *dy, const T *x, const float2 *stats, float2 *partial)
{
    SD_SHARED(float, shared, sd_norm_merge<P>::floats);
    sd_norm_part p = sd_norm_part_of<P>(s);
    float db[P] = {}, dw[P] = {};
    for (int64_t row = p.from; row < p.to && p.inside; row += SD_NORM_LANES) {
        float2 of = stats[row];
        sd_wide<float, P> v = sd_load<P>(x, p.template pack<P>(s, row));
        sd_wide<float, P> d = sd_load<P>(dy, p.template pack<P>(s, row));
        for (int i = 0; i < P; i++) {
            db[i] += d.v[i];
            dw[i] += d.v[i] * ((v.v[i] - of.x) * of.y);
        }
    }
    sd_norm_leave_sums<P>(s, p, shared, db, dw, partial);
}

struct sd_norm_cut cut_of(const struct sd_tensor *x)
{
    int64_t ch = x->dim[x->ndim - 1];
    return sd_norm_cut_of(x->dtype, 1, sd_tensor_count(x) / ch, ch);
}

/* f(std::bool_constant<whether a row takes a block>{}) */
template <typename F> void by_width(int64_t ch, F f)
{
    if (ch < WIDE)
        f(std::false_type{});
    else
        f(std::true_type{});
}

void layer_norm(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[0];
    struct sd_norm_cut s = cut_of(x);
    sd_norm_by_pack(x->dtype, s.ch, [&](auto zero, auto pack) {
        by_width(s.ch, [&](auto wide) {
            sd_launch(sd_cuda_stream(c), sd_grid(s.rows, team<wide()>::rows), dim3(SD_THREADS), 0,
                      layer_norm_kernel<decltype(zero), decltype(pack)::value, wide()>, s.rows, s.ch,
                      c->node->attr.eps, c->in[0], c->in[1], c->in[2], c->out[0], c->out[1]);
        });
    });
}

int plan_bwd(struct sd_call *c, struct sd_err *err)
{
    if (c->node->out[1] || c->node->out[2])
        c->scratch_bytes = sd_norm_partial_bytes(cut_of(c->node->in[1]));
    return sd_norm_plan_bwd(c, err);
}

void layer_norm_bwd(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[1];
    struct sd_norm_cut s = cut_of(x);
    void *w = c->in[2], *stats = c->in[3];
    auto *partial = static_cast<float2 *>(c->scratch);
    cudaStream_t stream = sd_cuda_stream(c);
    sd_norm_by_types(c->node->in[0]->dtype, x->dtype, s.ch, [&](auto dy, auto zero, auto pack) {
        using D = decltype(dy);
        using T = decltype(zero);
        constexpr int P = decltype(pack)::value;
        if (c->out[0])
            by_width(s.ch, [&](auto wide) {
                sd_launch(stream, sd_grid(s.rows, team<wide()>::rows), dim3(SD_THREADS), 0,
                          dx_kernel<D, T, P, wide()>, s.rows, s.ch, c->in[0], c->in[1], w, stats, c->out[0]);
            });
        if (c->out[1] || c->out[2])
            sd_launch(stream, sd_norm_grid(s), dim3(SD_NORM_THREADS), 0, sums_kernel<D, T, P>, s, c->in[0],
                      c->in[1], stats, partial);
    });
    sd_norm_sum_partials(stream, s, partial, static_cast<float *>(c->out[2]),
                         static_cast<float *>(c->out[1]));
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_layer_norm = {.plan = sd_cuda_plan_floats, .run = layer_norm, .drop = NULL};
const struct sd_kernel sd_cuda_layer_norm_bwd = {.plan = plan_bwd, .run = layer_norm_bwd, .drop = NULL};
}
