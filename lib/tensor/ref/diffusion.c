#include "tensor/ref/array.h"

#include "base/philox.h"

#include <math.h>

static void randn(const struct sd_call *c)
{
    struct array state = in(c, 0), y = out(c, 0);
    const uint32_t *word = state.data;
    struct sd_philox p = {word[0] | (uint64_t)word[1] << 32, word[2] | (uint64_t)word[3] << 32};
    uint64_t grid = sd_philox_grid((uint64_t)y.n, (uint64_t)c->node->attr.threads);
    int64_t channels = y.ndim == 4 ? last(y) : 1, area = y.ndim == 4 ? y.dim[1] * y.dim[2] : 1;
    for (int64_t i = 0; i < y.n; i++) { /* i: as PyTorch counts */
        int64_t n = i / (channels * area), ch = i / area % channels, pixel = i % area;
        st(y, (n * area + pixel) * channels + ch, (double)sd_philox_normal(&p, grid, (uint64_t)i));
    }
}
const struct sd_kernel sd_ref_randn = {.run = randn};

static void mix(const struct sd_call *c)
{
    struct array x = in(c, 0), noise = in(c, 1), t = in(c, 2), table = in(c, 3), y = out(c, 0);
    int64_t len = x.n / x.dim[0];
    for (int64_t i = 0; i < x.n; i++) {
        int64_t step = (int64_t)ld(t, i / len);
        st(y, i, ld(table, 2 * step) * ld(x, i) + ld(table, 2 * step + 1) * ld(noise, i));
    }
}
const struct sd_kernel sd_ref_mix = {.run = mix};

static void combine(const struct sd_call *c)
{
    struct array coef = in(c, 0), y = out(c, 0);
    int64_t len = y.n / y.dim[0];
    int terms = c->node->n_in - 1;
    for (int64_t i = 0; i < y.n; i++) {
        int64_t row = i / len * last(coef) + c->node->attr.offset;
        double sum = 0;
        for (int k = 0; k < terms; k++)
            sum += ld(coef, row + k) * ld(in(c, k + 1), i);
        if (c->node->attr.limited && fabs(sum) > ld(coef, row + terms)) /* NaN stays */
            sum = copysign(ld(coef, row + terms), sum);
        st(y, i, sum);
    }
}
const struct sd_kernel sd_ref_combine = {.run = combine};

static double term(enum sd_loss kind, double d, double delta)
{
    double bend = 2 * (sqrt(d * d + delta * delta) - delta);
    return kind == SD_LOSS_L2      ? d * d
           : kind == SD_LOSS_L1    ? fabs(d)
           : kind == SD_LOSS_HUBER ? delta * bend
                                   : bend;
}

static double slope(enum sd_loss kind, double d, double delta)
{
    double root = sqrt(d * d + delta * delta), bend = root == 0 ? 0 : 2 * d / root;
    if (kind == SD_LOSS_L1)
        return d > 0 ? 1 : d < 0 ? -1 : d; /* NaN stays */
    return kind == SD_LOSS_L2 ? 2 * d : kind == SD_LOSS_HUBER ? delta * bend : bend;
}

static void loss(const struct sd_call *c)
{
    struct array pred = in(c, 0), target = in(c, 1), weight = in(c, 2), delta = in(c, 3), y = out(c, 0);
    int64_t len = pred.n / pred.dim[0];
    double sum = 0;
    for (int64_t i = 0; i < pred.n; i++)
        sum += ld(weight, i / len) *
               term(c->node->attr.loss, ld(pred, i) - ld(target, i), delta.data ? ld(delta, i / len) : 0);
    st(y, 0, sum / (double)pred.n);
}
const struct sd_kernel sd_ref_loss = {.run = loss};

static void loss_bwd(const struct sd_call *c)
{
    struct array dy = in(c, 0), pred = in(c, 1), target = in(c, 2), weight = in(c, 3), delta = in(c, 4),
                 dpred = out(c, 0);
    int64_t len = pred.n / pred.dim[0];
    for (int64_t i = 0; i < pred.n; i++)
        st(dpred, i,
           ld(dy, 0) * ld(weight, i / len) / (double)pred.n *
               slope(c->node->attr.loss, ld(pred, i) - ld(target, i), delta.data ? ld(delta, i / len) : 0));
}
const struct sd_kernel sd_ref_loss_bwd = {.run = loss_bwd};
