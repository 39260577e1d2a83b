#include "tensor/ref/array.h"

#include "tensor/enlarge.h"

#include <math.h>

/* |mean| of channel ch of sample n. */
static double middle(struct array x, int64_t n, int64_t ch)
{
    int64_t area = x.dim[1] * x.dim[2];
    double sum = 0;
    for (int64_t p = 0; p < area; p++)
        sum += ld(x, (n * area + p) * last(x) + ch);
    return fabs(sum / (double)area);
}

static void noise_offset(const struct sd_call *c)
{
    struct array x = in(c, 0), normal = in(c, 1), strength = in(c, 2), latents = in(c, 3), y = out(c, 0);
    int64_t area = x.dim[1] * x.dim[2], channels = last(x);
    for (int64_t plane = 0; plane < normal.n; plane++) {
        int64_t n = plane / channels, ch = plane % channels;
        double s = ld(strength, 0);
        if (latents.data)
            s = fmax(0, s + ld(strength, 1) * middle(latents, n, ch));
        for (int64_t p = 0; p < area; p++) {
            int64_t at = (n * area + p) * channels + ch;
            st(y, at, ld(x, at) + s * ld(normal, plane));
        }
    }
}
const struct sd_kernel sd_ref_noise_offset = {.run = noise_offset};

/* Element [i,k] of a level [h,w] enlarged to [H,W], the first of its plane being at `plane`. */
static double enlarged(struct array levels, int64_t plane, int64_t h, int64_t w, int64_t i, int64_t k,
                       const int64_t *dim)
{
    struct sd_between r = sd_between(i, h, dim[1]), s = sd_between(k, w, dim[2]);
    double up = (double)s.share, down = (double)r.share;
    double low =
        (1 - up) * ld(levels, plane + r.low * w + s.low) + up * ld(levels, plane + r.low * w + s.high);
    double high =
        (1 - up) * ld(levels, plane + r.high * w + s.low) + up * ld(levels, plane + r.high * w + s.high);
    return (1 - down) * low + down * high;
}

/* Element at of x [N,H,W,C] with all turns. */
static double with_turns(struct array x, struct array levels, struct array turns, int64_t at)
{
    int64_t ch = at % last(x), k = at / last(x) % x.dim[2], i = at / last(x) / x.dim[2] % x.dim[1];
    int64_t plane = at / last(x) / x.dim[2] / x.dim[1] * last(x) + ch, first = 0;
    double sum = ld(x, at);
    for (int64_t t = 0; t < turns.dim[0] && ld(turns, 3 * t) > 0; t++) {
        int64_t h = (int64_t)ld(turns, 3 * t), w = (int64_t)ld(turns, 3 * t + 1);
        sum += ld(turns, 3 * t + 2) * enlarged(levels, first + plane * h * w, h, w, i, k, x.dim);
        first += x.dim[0] * last(x) * h * w;
    }
    return sum;
}

static void noise_levels(const struct sd_call *c)
{
    struct array x = in(c, 0), levels = in(c, 1), turns = in(c, 2), y = out(c, 0);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < x.n; i++) {
        st(y, i, with_turns(x, levels, turns, i));
        sum += ld(y, i);
    }
    for (int64_t i = 0; i < x.n; i++)
        squares += (ld(y, i) - sum / (double)x.n) * (ld(y, i) - sum / (double)x.n);
    for (int64_t i = 0; i < x.n; i++)
        st(y, i, ld(y, i) / sqrt(squares / (double)(x.n - 1)));
}
const struct sd_kernel sd_ref_noise_levels = {.run = noise_levels};
