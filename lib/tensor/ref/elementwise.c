#include "tensor/op.h"
#include "tensor/ref/array.h"

#include <math.h>

static void add(const struct sd_call *c)
{
    struct array a = in(c, 0), b = in(c, 1), y = out(c, 0);
    int64_t outer, mid, inner;
    sd_op_broadcast(c->node->in[0], c->node->in[1], &outer, &mid, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t m = 0; m < mid; m++)
            for (int64_t i = 0; i < inner; i++) {
                int64_t at = (o * mid + m) * inner + i;
                st(y, at, ld(a, at) + c->node->attr.scale * ld(b, o * inner + i));
            }
}
const struct sd_kernel sd_ref_add = {.run = add};

static void mul(const struct sd_call *c)
{
    struct array a = in(c, 0), b = in(c, 1), y = out(c, 0);
    int64_t outer, mid, inner;
    sd_op_broadcast(c->node->in[0], c->node->in[1], &outer, &mid, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t m = 0; m < mid; m++)
            for (int64_t i = 0; i < inner; i++) {
                int64_t at = (o * mid + m) * inner + i;
                st(y, at, ld(a, at) * ld(b, o * inner + i));
            }
}
const struct sd_kernel sd_ref_mul = {.run = mul};

static void reduce_to(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    int64_t outer, mid, inner;
    sd_op_broadcast(c->node->in[0], c->node->out[0], &outer, &mid, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            double sum = 0;
            for (int64_t m = 0; m < mid; m++)
                sum += ld(x, (o * mid + m) * inner + i);
            st(y, o * inner + i, sum);
        }
}
const struct sd_kernel sd_ref_reduce_to = {.run = reduce_to};

static void fill(const struct sd_call *c)
{
    struct array y = out(c, 0);
    for (int64_t i = 0; i < y.n; i++)
        st(y, i, c->node->attr.scale);
}
const struct sd_kernel sd_ref_fill = {.run = fill};

static void cast(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    for (int64_t i = 0; i < y.n; i++)
        st(y, i, ld(x, i));
}
const struct sd_kernel sd_ref_cast = {.run = cast};

static void scale(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    for (int64_t i = 0; i < y.n; i++)
        st(y, i, c->node->attr.scale * ld(x, i));
}
const struct sd_kernel sd_ref_scale = {.run = scale};

/* Normal distribution and density: gelu(x) = x cdf(x), gelu'(x) = cdf(x) + x pdf(x). */
static double cdf(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static double pdf(double x)
{
    return exp(-0.5 * x * x) * (M_2_SQRTPI * M_SQRT1_2 / 2);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* What GELU's approximation takes the tanh of. */
static double tanh_argument(double x)
{
    return M_2_SQRTPI * M_SQRT1_2 * (x + 0.044715 * x * x * x);
}

double sd_ref_act_of(enum sd_act act, double x)
{
    switch (act) {
    case SD_ACT_SILU:
        return x * sigmoid(x);
    case SD_ACT_GELU:
        return x * cdf(x);
    case SD_ACT_QUICK_GELU:
        return x * sigmoid(1.702 * x);
    case SD_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(tanh_argument(x)));
    case SD_ACT_SIGMOID:
        return sigmoid(x);
    default:
        return x;
    }
}

double sd_ref_act_slope(enum sd_act act, double x)
{
    double k = act == SD_ACT_QUICK_GELU ? 1.702 : 1, s = sigmoid(k * x);
    switch (act) {
    case SD_ACT_SILU:
    case SD_ACT_QUICK_GELU:
        return s * (1 + k * x * (1 - s));
    case SD_ACT_GELU:
        return cdf(x) + x * pdf(x);
    case SD_ACT_GELU_TANH: {
        double t = tanh(tanh_argument(x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * M_2_SQRTPI * M_SQRT1_2 * (1 + 3 * 0.044715 * x * x);
    }
    case SD_ACT_SIGMOID:
        return s * (1 - s);
    default:
        return 1;
    }
}

static void act(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    for (int64_t i = 0; i < y.n; i++)
        st(y, i, sd_ref_act_of(c->node->attr.act, ld(x, i)));
}
const struct sd_kernel sd_ref_act = {.run = act};

static void act_bwd(const struct sd_call *c)
{
    struct array dy = in(c, 0), x = in(c, 1), dx = out(c, 0);
    for (int64_t i = 0; i < dx.n; i++)
        st(dx, i, ld(dy, i) * sd_ref_act_slope(c->node->attr.act, ld(x, i)));
}
const struct sd_kernel sd_ref_act_bwd = {.run = act_bwd};

static void geglu(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    int64_t n = last(y);
    for (int64_t row = 0; row < y.n / n; row++)
        for (int64_t i = 0; i < n; i++) {
            double gate = ld(x, row * 2 * n + n + i);
            st(y, row * n + i, ld(x, row * 2 * n + i) * gate * cdf(gate));
        }
}
const struct sd_kernel sd_ref_geglu = {.run = geglu};

static void geglu_bwd(const struct sd_call *c)
{
    struct array dy = in(c, 0), x = in(c, 1), dx = out(c, 0);
    int64_t n = last(dy);
    for (int64_t row = 0; row < dy.n / n; row++)
        for (int64_t i = 0; i < n; i++) {
            int64_t at = row * 2 * n + i;
            double d = ld(dy, row * n + i), value = ld(x, at), gate = ld(x, at + n);
            st(dx, at, d * gate * cdf(gate));
            st(dx, at + n, d * value * sd_ref_act_slope(SD_ACT_GELU, gate));
        }
}
const struct sd_kernel sd_ref_geglu_bwd = {.run = geglu_bwd};
