/* add, mul, scale, cast, fill, activations, GEGLU: memory-bound, one pass each. What may run in place
 * (ops.def) reads a unit before it writes the same one, so no pointer is __restrict__. */
#include "act.h"
#include "rows.h"

extern "C" {
#include "tensor/op.h"
}

namespace
{

/* --- y[i] = f(x[i]...) --- */

template <int W, typename F, typename... X> __device__ sd_wide<float, W> map_wide(const F &f, const X &...x)
{
    sd_wide<float, W> y;
    for (int k = 0; k < W; k++)
        y.v[k] = f(x.v[k]...);
    return y;
}

/* The first `wide` units of SD_WIDE elements, then what is left of n by single elements. */
template <typename F, typename Y, typename... X>
__global__ void map_kernel(F f, int64_t wide, int64_t n, Y *y, const X *...x)
{
    for (int64_t i = sd_first(); i < wide; i += sd_stride())
        sd_store(y, i, map_wide<SD_WIDE>(f, sd_load<SD_WIDE>(x, i)...));
    for (int64_t i = wide * SD_WIDE + sd_first(); i < n; i += sd_stride())
        sd_store(y, i, map_wide<1>(f, sd_load<1>(x, i)...));
}

template <typename F, typename Y, typename... X> void map(const struct sd_call *c, F f, Y *y, const X *...x)
{
    int64_t n = sd_tensor_count(c->node->out[0]);
    int64_t wide = sd_aligned(y) && (sd_aligned(x) && ...) ? n / SD_WIDE : 0;
    sd_launch(sd_cuda_stream(c), sd_grid(wide ? wide : n), SD_THREADS, 0, map_kernel<F, Y, X...>, f, wide, n,
              y, x...);
}

struct constant {
    float value;
    __device__ float operator()() const
    {
        return value;
    }
};

struct same {
    __device__ float operator()(float x) const
    {
        return x;
    }
};

struct scaled {
    float by;
    __device__ float operator()(float x) const
    {
        return by * x;
    }
};

struct scaled_sum {
    float by;
    __device__ float operator()(float a, float b) const
    {
        return a + by * b;
    }
};

struct product {
    __device__ float operator()(float a, float b) const
    {
        return a * b;
    }
};

template <typename A> struct activated {
    __device__ float operator()(float x) const
    {
        return A::value(x);
    }
};

template <typename A> struct activated_bwd {
    __device__ float operator()(float dy, float x) const
    {
        return dy * A::slope(x);
    }
};

void fill(const struct sd_call *c)
{
    sd_by_type(c->node->out[0]->dtype,
               [&](auto t) { map(c, constant{c->node->attr.scale}, sd_out<decltype(t)>(c)); });
}

void cast(const struct sd_call *c)
{
    sd_by_type(c->node->out[0]->dtype, [&](auto y) {
        sd_by_type(c->node->in[0]->dtype,
                   [&](auto x) { map(c, same{}, sd_out<decltype(y)>(c), sd_in<decltype(x)>(c, 0)); });
    });
}

void scale(const struct sd_call *c)
{
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        map(c, scaled{c->node->attr.scale}, sd_out<decltype(t)>(c), sd_in<decltype(t)>(c, 0));
    });
}

void act(const struct sd_call *c)
{
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        sd_by_act(c->node->attr.act, [&](auto a) {
            map(c, activated<decltype(a)>{}, sd_out<decltype(t)>(c), sd_in<decltype(t)>(c, 0));
        });
    });
}

/* dy may be f32 where x is not (pass/grad.c). */
void act_bwd(const struct sd_call *c)
{
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        sd_by_type(c->node->in[0]->dtype, [&](auto d) {
            sd_by_act(c->node->attr.act, [&](auto a) {
                map(c, activated_bwd<decltype(a)>{}, sd_out<decltype(t)>(c), sd_in<decltype(d)>(c, 0),
                    sd_in<decltype(t)>(c, 1));
            });
        });
    });
}

/* --- y = f(a, b), b broadcast --- */

/* a and y are rows of `row` units; `mid` neighbouring rows share one row of b. With splat a row shares one
 * element of b. */
template <int W, bool splat, typename F, typename T>
__global__ void broadcast_kernel(F f, int64_t units, sd_divider row, sd_divider mid, T *y, const T *a,
                                 const T *b)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t r = row.quotient(i);
        sd_wide<float, W> va = sd_load<W>(a, i), vb;
        if (splat) {
            float one = to_f32(b[r]);
            for (int k = 0; k < W; k++)
                vb.v[k] = one;
        } else {
            vb = sd_load<W>(b, mid.quotient(r) * row.by + i - r * row.by);
        }
        sd_store(y, i, map_wide<W>(f, va, vb));
    }
}

template <int W, bool splat, typename F, typename T>
void broadcast(const struct sd_call *c, F f, int64_t row, int64_t mid, T *y, const T *a, const T *b)
{
    int64_t units = sd_tensor_count(c->node->out[0]) / W;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, broadcast_kernel<W, splat, F, T>, f, units,
              sd_divider(row / W), sd_divider(mid), y, a, b);
}

template <typename F, typename T> void pair_of(const struct sd_call *c, F f, T *y, const T *a, const T *b)
{
    int64_t outer, mid, inner;
    sd_op_broadcast(c->node->in[0], c->node->in[1], &outer, &mid, &inner);
    bool wide = sd_aligned(y) && sd_aligned(a) && sd_aligned(b);
    if (mid == 1)
        map(c, f, y, a, b);
    else if (wide && inner % SD_WIDE == 0)
        broadcast<SD_WIDE, false>(c, f, inner, mid, y, a, b);
    else if (wide && inner == 1 && mid % SD_WIDE == 0)
        broadcast<SD_WIDE, true>(c, f, mid, 1, y, a, b);
    else
        broadcast<1, false>(c, f, inner, mid, y, a, b);
}

template <typename F> void pair(const struct sd_call *c, F f)
{
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        pair_of(c, f, sd_out<decltype(t)>(c), sd_in<decltype(t)>(c, 0), sd_in<decltype(t)>(c, 1));
    });
}

void add(const struct sd_call *c)
{
    pair(c, scaled_sum{c->node->attr.scale});
}

void mul(const struct sd_call *c)
{
    pair(c, product{});
}

/* --- GEGLU: a row of x is `row` units of values, then as many gates --- */

template <int W, typename T> __global__ void geglu_kernel(int64_t units, sd_divider row, T *y, const T *x)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t at = i + row.quotient(i) * row.by;
        sd_wide<float, W> value = sd_load<W>(x, at), gate = sd_load<W>(x, at + row.by);
        for (int k = 0; k < W; k++)
            value.v[k] *= sd_gelu::value(gate.v[k]);
        sd_store(y, i, value);
    }
}

template <int W, typename D, typename T>
__global__ void geglu_bwd_kernel(int64_t units, sd_divider row, T *dx, const D *dy, const T *x)
{
    for (int64_t i = sd_first(); i < units; i += sd_stride()) {
        int64_t at = i + row.quotient(i) * row.by;
        sd_wide<float, W> d = sd_load<W>(dy, i), value = sd_load<W>(x, at), gate = sd_load<W>(x, at + row.by);
        for (int k = 0; k < W; k++) {
            float cdf = sd_normal_cdf(gate.v[k]);
            float dvalue = d.v[k] * gate.v[k] * cdf;
            gate.v[k] = d.v[k] * value.v[k] * (cdf + gate.v[k] * sd_normal_pdf(gate.v[k]));
            value.v[k] = dvalue;
        }
        sd_store(dx, at, value);
        sd_store(dx, at + row.by, gate);
    }
}

/* Launches the wide or the narrow kernel on a half-width tensor `half`. */
template <typename... P, typename... A>
void gated(const struct sd_call *c, const struct sd_tensor *half, bool wide, void (*wide_kernel)(P...),
           void (*narrow_kernel)(P...), A... pointers)
{
    int64_t width = half->dim[half->ndim - 1], n = sd_tensor_count(half);
    wide &= width % SD_WIDE == 0;
    int64_t units = wide ? n / SD_WIDE : n;
    sd_launch(sd_cuda_stream(c), sd_grid(units), SD_THREADS, 0, wide ? wide_kernel : narrow_kernel, units,
              sd_divider(wide ? width / SD_WIDE : width), pointers...);
}

void geglu(const struct sd_call *c)
{
    bool wide = sd_aligned(c->out[0]) && sd_aligned(c->in[0]);
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        using T = decltype(t);
        gated(c, c->node->out[0], wide, geglu_kernel<SD_WIDE, T>, geglu_kernel<1, T>, sd_out<T>(c),
              sd_in<T>(c, 0));
    });
}

/* dy may be f32 where x is not. */
void geglu_bwd(const struct sd_call *c)
{
    bool wide = sd_aligned(c->out[0]) && sd_aligned(c->in[0]) && sd_aligned(c->in[1]);
    sd_by_type(c->node->out[0]->dtype, [&](auto t) {
        sd_by_type(c->node->in[0]->dtype, [&](auto d) {
            using T = decltype(t);
            using D = decltype(d);
            gated(c, c->node->in[0], wide, geglu_bwd_kernel<SD_WIDE, D, T>, geglu_bwd_kernel<1, D, T>,
                  sd_out<T>(c), sd_in<D>(c, 0), sd_in<T>(c, 1));
        });
    });
}

} // namespace

extern "C" {
#define KERNEL(name) \
    const struct sd_kernel sd_cuda_##name = {.plan = sd_cuda_plan_floats, .run = name, .drop = NULL};
KERNEL(fill)
KERNEL(cast)
KERNEL(scale)
KERNEL(act)
KERNEL(act_bwd)
KERNEL(add)
KERNEL(mul)
KERNEL(geglu)
KERNEL(geglu_bwd)
#undef KERNEL
}
