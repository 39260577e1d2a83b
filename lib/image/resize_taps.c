/* OpenCV's filters of 2, 4 and 8 taps for 8-bit pictures: columns, then rows. The kernels do not widen when
 * the picture shrinks.
 *
 * Linear and lanczos4 have weights in 11-bit fixed point. So has cubic in OpenCV's own code, but on x86
 * opencv-python hands cubic to Intel's IPP, which computes in float, and so do we: a byte in some 17,000 is
 * rounded to the other side. OpenCV without IPP differs by 1 in 2 % of the bytes. */
#include "image/resize_filters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COEF_BITS = 11, COEF_ONE = 1 << COEF_BITS, MOST = 8 };

union number {
    int32_t i; /* weights in units of 1 / COEF_ONE */
    float f;   /* of cubic */
};

struct taps {
    int64_t *first;       /* [m] the first source pixel, which may lie before the edge: edges repeat */
    union number *weight; /* [m, n] */
};

typedef void across_fn(const uint8_t *row, const struct taps *taps, uint32_t m, union number *out);
typedef void down_fn(const union number *const lines[], const union number *w, size_t n, uint8_t *out);

struct filter {
    int n;                                   /* taps */
    void (*weights)(float t, float w[MOST]); /* for a place t behind pixel n/2 - 1 of the taps */
    bool real;                               /* computes in float */
    across_fn *rgb, *rgba;
    down_fn *down;
};

/* ---- weights ---- */

static void linear(float t, float w[MOST])
{
    w[0] = 1.f - t;
    w[1] = t;
}

static void cubic(float t, float w[MOST])
{
    const float a = -0.75f;
    w[0] = ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a;
    w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    w[2] = ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1;
    w[3] = 1.f - w[0] - w[1] - w[2];
}

/* sinc(d) sinc(d/4) for d = t+3 .. t-4, made to sum up to 1, which the common factor sin(pi t) drops out of.
 */
static void lanczos4(float t, float w[MOST])
{
    float sum = 0;
    for (int i = 0; i < 8; i++) {
        double d = (double)t + 3 - i, angle = d * M_PI / 4;
        if (fabs(d) < 1e-6) { /* on a pixel */
            memset(w, 0, 8 * sizeof *w);
            w[i] = 1;
            return;
        }
        w[i] = (float)((i % 2 ? -1 : 1) * sin(angle) / (angle * angle));
        sum += w[i];
    }
    for (int i = 0; i < 8; i++)
        w[i] *= 1.f / sum;
}

/* Where output pixel i comes from: the pixel to the left of it, and how far behind that it is. */
static int64_t place(uint32_t i, uint32_t n, uint32_t m, enum sd_resize_taps kind, float *t)
{
    double inverse = (double)m / n, scale = 1. / inverse;
    if (kind == SD_TAPS_AREA) {
        int64_t s = (int64_t)floor(i * scale);
        float f = (float)((i + 1) - (s + 1) * inverse);
        *t = f <= 0 ? 0.f : f - floorf(f);
        return s;
    }
    double f = (i + 0.5) * scale - 0.5;
    if (kind != SD_TAPS_CUBIC)
        f = (float)f; /* as OpenCV has it; IPP keeps all digits */
    *t = (float)(f - floor(f));
    return (int64_t)floor(f);
}

/* across: outside of the outermost pixels' middles linear takes those alone; the rows have no such rule. */
static int make_taps(uint32_t n, uint32_t m, enum sd_resize_taps kind, const struct filter *filter,
                     bool across, struct taps *taps)
{
    size_t count = (size_t)filter->n;
    taps->first = malloc(m * sizeof *taps->first);
    taps->weight = malloc(m * count * sizeof *taps->weight);
    if (!taps->first || !taps->weight)
        return -1;
    for (uint32_t i = 0; i < m; i++) {
        float w[MOST], t;
        int64_t s = place(i, n, m, kind, &t);
        if (across && count == 2 && (s < 0 || s >= (int64_t)n - 1))
            t = 0;
        filter->weights(t, w);
        taps->first[i] = s - filter->n / 2 + 1;
        for (size_t k = 0; k < count; k++) {
            union number *to = &taps->weight[i * count + k];
            if (filter->real)
                to->f = w[k];
            else
                to->i = (int32_t)lrintf(w[k] * COEF_ONE);
        }
    }
    return 0;
}

static void free_taps(struct taps *taps)
{
    free(taps->first);
    free(taps->weight);
}

/* ---- columns: row has n/2 more pixels on each side ---- */

static inline __attribute__((always_inline)) void
across(const uint8_t *row, const struct taps *taps, uint32_t m, int c, int n, bool real, union number *out)
{
    const union number *w = taps->weight;
    for (uint32_t x = 0; x < m; x++, w += n, out += c) {
        const uint8_t *p = row + (taps->first[x] + n / 2) * c;
        for (int k = 0; k < c; k++) {
            int32_t sum = 0;
            float real_sum = 0;
            for (int i = 0; i < n; i++) {
                if (real)
                    real_sum += (float)p[i * c + k] * w[i].f;
                else
                    sum += p[i * c + k] * w[i].i;
            }
            out[k] = real ? (union number){.f = real_sum} : (union number){.i = sum};
        }
    }
}

/* Numbers known to the compiler: loops without counters. */
#define ACROSS(name, c, n, real)                                                                 \
    static void name(const uint8_t *row, const struct taps *taps, uint32_t m, union number *out) \
    {                                                                                            \
        across(row, taps, m, c, n, real, out);                                                   \
    }
ACROSS(linear_rgb, 3, 2, false)
ACROSS(linear_rgba, 4, 2, false)
ACROSS(cubic_rgb, 3, 4, true)
ACROSS(cubic_rgba, 4, 4, true)
ACROSS(lanczos4_rgb, 3, 8, false)
ACROSS(lanczos4_rgba, 4, 8, false)

/* The row with its outermost pixels repeated, so that taps need not look where they are. */
static void pad_row(const uint8_t *row, uint32_t n, size_t pad, size_t c, uint8_t *padded)
{
    memcpy(padded + pad * c, row, n * c);
    for (size_t i = 0; i < pad; i++) {
        memcpy(padded + i * c, row, c);
        memcpy(padded + (pad + n + i) * c, row + (n - 1) * c, c);
    }
}

/* ---- rows ---- */

static inline uint8_t clip(int32_t v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

SD_CLONES
static void linear_down(const union number *const lines[], const union number *w, size_t n, uint8_t *out)
{
    const union number *a = lines[0], *b = lines[1];
    for (size_t x = 0; x < n; x++)
        out[x] = clip((((w[0].i * (a[x].i >> 4)) >> 16) + ((w[1].i * (b[x].i >> 4)) >> 16) + 2) >> 2);
}

SD_CLONES
static void cubic_down(const union number *const lines[], const union number *w, size_t n, uint8_t *out)
{
    const union number *a = lines[0], *b = lines[1], *c = lines[2], *d = lines[3];
    for (size_t x = 0; x < n; x++) {
        float v = a[x].f * w[0].f + b[x].f * w[1].f + c[x].f * w[2].f + d[x].f * w[3].f;
        out[x] = clip((int32_t)rintf(v));
    }
}

/* The weights' magnitudes sum up to 1.72 a direction: at most 2.13e9 in the end, which an int holds. */
SD_CLONES
static void lanczos4_down(const union number *const lines[], const union number *w, size_t n, uint8_t *out)
{
    for (size_t x = 0; x < n; x++) {
        int32_t v = 1 << (2 * COEF_BITS - 1);
        for (int k = 0; k < 8; k++)
            v += lines[k][x].i * w[k].i;
        out[x] = clip(v >> (2 * COEF_BITS));
    }
}

/* ---- both ---- */

static const struct filter filters[] = {
    [SD_TAPS_AREA] = {2, linear, false, linear_rgb, linear_rgba, linear_down},
    [SD_TAPS_LINEAR] = {2, linear, false, linear_rgb, linear_rgba, linear_down},
    [SD_TAPS_CUBIC] = {4, cubic, true, cubic_rgb, cubic_rgba, cubic_down},
    [SD_TAPS_LANCZOS4] = {8, lanczos4, false, lanczos4_rgb, lanczos4_rgba, lanczos4_down},
};

struct resampler {
    const struct sd_image *from;
    const struct filter *filter;
    const struct taps *xs;
    uint32_t width; /* of the output */
    uint8_t *padded;
    union number *lines; /* the resampled source row s lies in place s % n */
    int64_t held[MOST];  /* which does */
};

static const union number *line(struct resampler *r, int64_t s)
{
    const struct sd_image *im = r->from;
    size_t c = (size_t)im->channels;
    s = s < 0 ? 0 : s >= im->height ? im->height - 1 : s;
    int slot = (int)(s % r->filter->n);
    union number *out = r->lines + (size_t)slot * r->width * c;
    if (r->held[slot] != s) {
        pad_row(im->data + (size_t)s * im->width * c, im->width, (size_t)r->filter->n / 2, c, r->padded);
        (c == 3 ? r->filter->rgb : r->filter->rgba)(r->padded, r->xs, r->width, out);
        r->held[slot] = s;
    }
    return out;
}

static void resample(struct resampler *r, const struct taps *ys, struct sd_image *to)
{
    size_t row = to->width * (size_t)to->channels, n = (size_t)r->filter->n;
    for (int i = 0; i < MOST; i++)
        r->held[i] = -1;
    for (uint32_t y = 0; y < to->height; y++) {
        const union number *lines[MOST];
        for (size_t i = 0; i < n; i++)
            lines[i] = line(r, ys->first[y] + (int64_t)i);
        r->filter->down(lines, ys->weight + y * n, row, to->data + y * row);
    }
}

int sd_resize_taps(const struct sd_image *from, struct sd_image *to, enum sd_resize_taps kind)
{
    const struct filter *filter = &filters[kind];
    struct taps xs = {0}, ys = {0};
    size_t c = (size_t)from->channels, n = (size_t)filter->n;
    struct resampler r = {.from = from, .filter = filter, .xs = &xs, .width = to->width};
    r.padded = malloc((from->width + n) * c);
    r.lines = malloc(n * to->width * c * sizeof *r.lines);
    int bad = !r.padded || !r.lines || make_taps(from->width, to->width, kind, filter, true, &xs) ||
              make_taps(from->height, to->height, kind, filter, false, &ys);
    if (!bad)
        resample(&r, &ys, to);
    free_taps(&xs);
    free_taps(&ys);
    free(r.padded);
    free(r.lines);
    return bad ? -1 : 0;
}
