/* Group norm with optional SiLU on [N,...,C].
 *
 * Forward, three launches: mean and sum of squared deviations of each channel of a slab (Welford 1962); those
 * of a group's channels in all slabs merged (Chan, Golub and LeVeque 1983); the normalising pass. x is read
 * twice, the second time often from the cache.
 *
 * Backward, with dz the gradient before the affine part and M the elements of a group, for which the sums by
 * channel of each slab are made first:
 *
 *     db = sum dz
 *     dw = sum dz xhat
 *     dx = rstd (w dz - sum_g(w dz)/M - xhat sum_g(w dz xhat)/M) */
#include "act.h"
#include "norm.h"

namespace
{

struct groups {
    unsigned n, len; /* groups an image, channels a group */
};

struct shape {
    sd_norm_cut cut;
    struct groups groups;
    bool silu;
};

struct shape shape_of(const struct sd_call *c, const struct sd_tensor *x)
{
    int64_t images = x->dim[0], ch = x->dim[x->ndim - 1], groups = c->node->attr.groups;
    return {sd_norm_cut_of(x->dtype, images, sd_tensor_count(x) / images / ch, ch),
            {static_cast<unsigned>(groups), static_cast<unsigned>(ch / groups)},
            c->node->attr.act == SD_ACT_SILU};
}

unsigned all_groups(const struct shape &s)
{
    return static_cast<unsigned>(s.cut.images) * s.groups.n;
}

/* What belongs to the channels of a thread: z = (x - mean) * slope + bias. */
template <int P> struct affine {
    float mean[P], slope[P], bias[P];

    __device__ float of(int i, float x) const
    {
        return (x - mean[i]) * slope[i] + bias[i];
    }
};

/* visit(i, group counted over all images) for each channel of a thread. */
template <int P, typename F>
__device__ void each_channel(const sd_norm_part &p, const struct groups &groups, F visit)
{
    unsigned ch = static_cast<unsigned>(p.ch), group = ch / groups.len, left = (group + 1) * groups.len - ch;
    for (int i = 0; i < P; i++, left--) {
        if (left == 0) {
            group++;
            left = groups.len;
        }
        visit(i, p.image * groups.n + group);
    }
}

template <int P>
__device__ void load_affine(const sd_norm_part &p, const struct groups &groups, const float2 *stats,
                            const float *w, const float *b, affine<P> &a)
{
    each_channel<P>(p, groups, [&](int i, int64_t group) {
        float2 of = stats[group];
        a.mean[i] = of.x;
        a.slope[i] = of.y * w[p.ch + i];
        a.bias[i] = b[p.ch + i];
    });
}

/* --- forward --- */

template <typename T, int P> __global__ void moments_kernel(sd_norm_cut s, const T *x, float2 *partial)
{
    using merge = sd_norm_merge<P>;
    SD_SHARED(float, shared, merge::floats);
    sd_norm_part p = sd_norm_part_of<P>(s);
    float mean[P] = {}, square[P] = {}, n = 0;
    for (int64_t row = p.from; row < p.to && p.inside; row += SD_NORM_LANES) {
        sd_wide<float, P> v = sd_load<P>(x, p.template pack<P>(s, row));
        float share = 1 / ++n;
        for (int i = 0; i < P; i++) {
            float off = v.v[i] - mean[i];
            mean[i] += off * share;
            square[i] += off * (v.v[i] - mean[i]);
        }
    }
    merge::leave(shared, mean, square);
    float all = 0, off = 0;
    for (int lane = merge::member(); lane < SD_NORM_LANES; lane += merge::team) {
        float count = static_cast<float>((p.rows - lane + SD_NORM_LANES - 1) / SD_NORM_LANES);
        all += merge::get(shared, 0, lane) * count;
    }
    all = merge::sum(all) / static_cast<float>(p.rows);
    for (int lane = merge::member(); lane < SD_NORM_LANES; lane += merge::team) {
        float count = static_cast<float>((p.rows - lane + SD_NORM_LANES - 1) / SD_NORM_LANES);
        float from = merge::get(shared, 0, lane) - all;
        off += merge::get(shared, 1, lane) + (count > 0 ? from * from * count : 0);
    }
    merge::put(s, p, all, merge::sum(off), partial);
}

/* A pair of partial, of which channel and of how many rows it is: number i of the slabs and channels of the
 * block's group. There are few, and 32 bits divide fast. */
struct entry {
    float2 value;
    unsigned ch;
    int64_t rows;
};

__device__ struct entry entry_of(const sd_norm_cut &s, const struct groups &groups, const float2 *partial,
                                 unsigned i)
{
    unsigned image = blockIdx.x / groups.n, group = blockIdx.x % groups.n;
    unsigned slab = i / groups.len, ch = group * groups.len + i % groups.len;
    int64_t left = s.rows - slab * s.slab, at = static_cast<int64_t>(image) * s.slabs + slab;
    return {partial[at * s.ch + ch], ch, left < s.slab ? left : s.slab};
}

/* A block a group; in doubles, for these are few. */
__global__ void stats_kernel(sd_norm_cut s, struct groups groups, float eps, const float2 *partial,
                             float2 *stats)
{
    SD_SHARED(double, spare, SD_WARP);
    unsigned entries = s.slabs * groups.len;
    double sum = 0, square = 0, count = static_cast<double>(s.rows) * groups.len;
    for (unsigned i = threadIdx.x; i < entries; i += blockDim.x) {
        struct entry e = entry_of(s, groups, partial, i);
        sum += static_cast<double>(e.value.x) * static_cast<double>(e.rows);
    }
    double mean = sd_block_sum(sum, spare) / count;
    for (unsigned i = threadIdx.x; i < entries; i += blockDim.x) {
        struct entry e = entry_of(s, groups, partial, i);
        double from = static_cast<double>(e.value.x) - mean;
        square += static_cast<double>(e.value.y) + from * from * static_cast<double>(e.rows);
    }
    square = sd_block_sum(square, spare);
    if (threadIdx.x == 0)
        stats[blockIdx.x] =
            make_float2(static_cast<float>(mean),
                        static_cast<float>(1 / sqrt(square / count + static_cast<double>(eps))));
}

template <typename T, int P>
__global__ void normalise_kernel(shape s, const T *x, const float2 *stats, const float *w, const float *b,
                                 T *y)
{
    sd_norm_part p = sd_norm_part_of<P>(s.cut);
    affine<P> a;
    if (!p.inside)
        return;
    load_affine<P>(p, s.groups, stats, w, b, a);
    for (int64_t row = p.from; row < p.to; row += SD_NORM_LANES) {
        int64_t at = p.template pack<P>(s.cut, row);
        sd_wide<float, P> v = sd_load<P>(x, at);
        for (int i = 0; i < P; i++) {
            float z = a.of(i, v.v[i]);
            v.v[i] = s.silu ? sd_silu::value(z) : z;
        }
        sd_store<P>(y, at, v);
    }
}

int plan(struct sd_call *c, struct sd_err *err)
{
    struct shape s = shape_of(c, c->node->in[0]);
    c->scratch_bytes = sd_norm_partial_bytes(s.cut) + (c->node->out[1] ? 0 : all_groups(s) * sizeof(float2));
    return sd_cuda_plan_floats(c, err);
}

void group_norm(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[0];
    struct shape s = shape_of(c, x);
    auto *partial = static_cast<float2 *>(c->scratch);
    float2 *stats =
        c->out[1] ? static_cast<float2 *>(c->out[1]) : partial + s.cut.images * s.cut.slabs * s.cut.ch;
    void *w = c->in[1], *b = c->in[2];
    sd_norm_by_pack(x->dtype, s.cut.ch, [&](auto zero, auto pack) {
        using T = decltype(zero);
        cudaStream_t stream = sd_cuda_stream(c);
        sd_launch(stream, sd_norm_grid(s.cut), dim3(SD_NORM_THREADS), 0, moments_kernel<T, pack()>, s.cut,
                  c->in[0], partial);
        sd_launch(stream, dim3(all_groups(s)), dim3(SD_THREADS), 0, stats_kernel, s.cut, s.groups,
                  c->node->attr.eps, partial, stats);
        sd_launch(stream, sd_norm_grid(s.cut), dim3(SD_NORM_THREADS), 0, normalise_kernel<T, pack()>, s,
                  c->in[0], stats, w, b, c->out[0]);
    });
}

/* --- backward --- */

/* dy of a pack becomes dz. */
template <int P>
__device__ void before_affine(const shape &s, const affine<P> &a, const sd_wide<float, P> &x,
                              sd_wide<float, P> &dy)
{
    for (int i = 0; i < P && s.silu; i++)
        dy.v[i] *= sd_silu::slope(a.of(i, x.v[i]));
}

/* partial = sum dz, sum dz xhat of each channel of a slab. */
template <typename D, typename T, int P>
__global__ void sums_kernel(shape s, const D *dy, const T *x, const float *w, const float *b,
                            const float2 *stats, float2 *partial)
{
    SD_SHARED(float, shared, sd_norm_merge<P>::floats);
    sd_norm_part p = sd_norm_part_of<P>(s.cut);
    affine<P> a;
    float db[P] = {}, dw[P] = {};
    if (p.inside) {
        load_affine<P>(p, s.groups, stats, w, b, a);
        for (int64_t row = p.from; row < p.to; row += SD_NORM_LANES) {
            int64_t at = p.template pack<P>(s.cut, row);
            sd_wide<float, P> v = sd_load<P>(x, at), dz = sd_load<P>(dy, at);
            before_affine(s, a, v, dz);
            for (int i = 0; i < P; i++) {
                db[i] += dz.v[i];
                dw[i] += dz.v[i] * (v.v[i] - a.mean[i]);
            }
        }
        each_channel<P>(p, s.groups, [&](int i, int64_t group) { dw[i] *= stats[group].y; });
    }
    sd_norm_leave_sums<P>(s.cut, p, shared, db, dw, partial);
}

/* A block a group: mean of w dz and of w dz xhat over its elements. */
__global__ void fold_kernel(sd_norm_cut s, struct groups groups, const float2 *partial, const float *w,
                            float2 *fold)
{
    SD_SHARED(double, spare, SD_WARP);
    double sum = 0, dot = 0, count = static_cast<double>(s.rows) * groups.len;
    for (unsigned i = threadIdx.x; i < s.slabs * groups.len; i += blockDim.x) {
        struct entry e = entry_of(s, groups, partial, i);
        sum += static_cast<double>(w[e.ch]) * static_cast<double>(e.value.x);
        dot += static_cast<double>(w[e.ch]) * static_cast<double>(e.value.y);
    }
    sum = sd_block_sum(sum, spare);
    dot = sd_block_sum(dot, spare);
    if (threadIdx.x == 0)
        fold[blockIdx.x] = make_float2(static_cast<float>(sum / count), static_cast<float>(dot / count));
}

/* dx = slope dz + (x - mean) lean + shift, by channel. */
template <typename D, typename T, int P>
__global__ void dx_kernel(shape s, const D *dy, const T *x, const float *w, const float *b,
                          const float2 *stats, const float2 *fold, T *dx)
{
    sd_norm_part p = sd_norm_part_of<P>(s.cut);
    affine<P> a;
    float lean[P], shift[P];
    if (!p.inside)
        return;
    load_affine<P>(p, s.groups, stats, w, b, a);
    each_channel<P>(p, s.groups, [&](int i, int64_t group) {
        float rstd = stats[group].y;
        shift[i] = -rstd * fold[group].x;
        lean[i] = -rstd * rstd * fold[group].y;
    });
    for (int64_t row = p.from; row < p.to; row += SD_NORM_LANES) {
        int64_t at = p.template pack<P>(s.cut, row);
        sd_wide<float, P> v = sd_load<P>(x, at), dz = sd_load<P>(dy, at);
        before_affine(s, a, v, dz);
        for (int i = 0; i < P; i++)
            dz.v[i] = a.slope[i] * dz.v[i] + (v.v[i] - a.mean[i]) * lean[i] + shift[i];
        sd_store<P>(dx, at, dz);
    }
}

int plan_bwd(struct sd_call *c, struct sd_err *err)
{
    struct shape s = shape_of(c, c->node->in[1]);
    c->scratch_bytes = sd_norm_partial_bytes(s.cut) + all_groups(s) * sizeof(float2);
    return sd_norm_plan_bwd(c, err);
}

void group_norm_bwd(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[1];
    struct shape s = shape_of(c, x);
    auto *partial = static_cast<float2 *>(c->scratch),
         *fold = partial + s.cut.images * s.cut.slabs * s.cut.ch;
    void *w = c->in[2], *b = c->in[3], *stats = c->in[4];
    cudaStream_t stream = sd_cuda_stream(c);
    sd_norm_by_types(c->node->in[0]->dtype, x->dtype, s.cut.ch, [&](auto dy, auto zero, auto pack) {
        using D = decltype(dy);
        using T = decltype(zero);
        sd_launch(stream, sd_norm_grid(s.cut), dim3(SD_NORM_THREADS), 0, sums_kernel<D, T, pack()>, s,
                  c->in[0], c->in[1], w, b, stats, partial);
        if (!c->out[0])
            return;
        sd_launch(stream, dim3(all_groups(s)), dim3(SD_THREADS), 0, fold_kernel, s.cut, s.groups, partial, w,
                  fold);
        sd_launch(stream, sd_norm_grid(s.cut), dim3(SD_NORM_THREADS), 0, dx_kernel<D, T, pack()>, s, c->in[0],
                  c->in[1], w, b, stats, fold, c->out[0]);
    });
    sd_norm_sum_partials(stream, s.cut, partial, static_cast<float *>(c->out[2]),
                         static_cast<float *>(c->out[1]));
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_group_norm = {.plan = plan, .run = group_norm, .drop = NULL};
const struct sd_kernel sd_cuda_group_norm_bwd = {.plan = plan_bwd, .run = group_norm_bwd, .drop = NULL};
}
