/* Pillow's resampling of 8-bit pictures: columns, then rows, each pass in 22-bit fixed point with the result
 * rounded to bytes in between, so that results are equal. With alpha the colours are multiplied by it before
 * and divided after (Pillow's modes RGBA, RGBa). */
#include "image/resize_filters.h"

#include "image/codec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION_BITS = 32 - 8 - 2, HALF = 1 << (PRECISION_BITS - 1), LOBES = 3, BLOCK = 256 };

struct weights {
    uint32_t size;   /* weights an output pixel has room for */
    uint32_t *bound; /* [n, 2]: first source pixel, number of them */
    int32_t *weight; /* [n, size] */
};

struct kernel {
    double (*at)(double x);
    double support; /* 0 outside of -support .. support */
};

static double sinc(double x)
{
    return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI);
}

static double lanczos(double x)
{
    return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
}

static double box(double x)
{
    return x > -0.5 && x <= 0.5;
}

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static const struct kernel kernels[] = {
    [SD_KERNEL_LANCZOS] = {lanczos, LOBES},
    [SD_KERNEL_BOX] = {box, 0.5},
    [SD_KERNEL_BICUBIC] = {bicubic, 2},
};

static void free_weights(struct weights *k)
{
    free(k->bound);
    free(k->weight);
}

static int make_weights(const struct kernel *kernel, uint32_t in, uint32_t out, struct weights *k)
{
    double scale = (double)in / out, widen = scale < 1 ? 1 : scale, support = kernel->support * widen;
    k->size = (uint32_t)ceil(support) * 2 + 1;
    k->bound = calloc(out, 2 * sizeof *k->bound);
    k->weight = calloc(out, k->size * sizeof *k->weight);
    double *w = calloc(k->size, sizeof *w);
    if (!k->bound || !k->weight || !w) {
        free(w);
        return -1;
    }
    for (uint32_t x = 0; x < out; x++) {
        double center = (x + 0.5) * scale, total = 0;
        int64_t first = (int64_t)(center - support + 0.5), last = (int64_t)(center + support + 0.5);
        first = first < 0 ? 0 : first;
        last = last > in ? in : last;
        for (int64_t i = 0; i < last - first; i++) {
            w[i] = kernel->at(((double)(i + first) - center + 0.5) / widen);
            total += w[i];
        }
        for (int64_t i = 0; i < last - first; i++) {
            double v = (total != 0 ? w[i] / total : w[i]) * (1 << PRECISION_BITS);
            k->weight[(size_t)x * k->size + (size_t)i] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        k->bound[2 * x] = (uint32_t)first;
        k->bound[2 * x + 1] = (uint32_t)(last - first);
    }
    free(w);
    return 0;
}

static uint8_t clip(int32_t v)
{
    v >>= PRECISION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static inline __attribute__((always_inline)) void row_of(const uint8_t *in, const struct weights *k,
                                                         uint32_t width, size_t c, uint8_t *out)
{
    for (uint32_t x = 0; x < width; x++, out += c) {
        const int32_t *w = k->weight + (size_t)x * k->size;
        const uint8_t *p = in + k->bound[2 * x] * c;
        uint32_t n = k->bound[2 * x + 1];
        int32_t sum[4] = {HALF, HALF, HALF, HALF};
        for (uint32_t i = 0; i < n; i++)
            for (size_t j = 0; j < c; j++)
                sum[j] += p[i * c + j] * w[i];
        for (size_t j = 0; j < c; j++)
            out[j] = clip(sum[j]);
    }
}

static void resample_row(const uint8_t *in, const struct weights *k, uint32_t width, size_t c, uint8_t *out)
{
    if (c == 3)
        row_of(in, k, width, 3, out);
    else
        row_of(in, k, width, 4, out);
}

/* Rows: a block of columns of one output row together, which the compiler turns into vectors. */
SD_CLONES
static void resample_column(const uint8_t *in, size_t row, const struct weights *k, uint32_t y, uint8_t *out)
{
    const int32_t *w = k->weight + (size_t)y * k->size;
    uint32_t first = k->bound[2 * y], n = k->bound[2 * y + 1];
    for (size_t at = 0; at < row; at += BLOCK) {
        size_t m = row - at < BLOCK ? row - at : BLOCK;
        int32_t sum[BLOCK];
        for (size_t x = 0; x < BLOCK; x++)
            sum[x] = HALF;
        for (uint32_t i = 0; i < n; i++) {
            const uint8_t *p = in + (size_t)(first + i) * row + at;
            for (size_t x = 0; x < m; x++)
                sum[x] += p[x] * w[i];
        }
        for (size_t x = 0; x < m; x++)
            out[at + x] = clip(sum[x]);
    }
}

static int across(const struct sd_image *from, uint8_t *to, uint32_t width, const struct kernel *kernel)
{
    struct weights k = {0};
    size_t c = (size_t)from->channels;
    int bad = make_weights(kernel, from->width, width, &k);
    for (uint32_t y = 0; !bad && y < from->height; y++)
        resample_row(from->data + (size_t)y * from->width * c, &k, width, c, to + (size_t)y * width * c);
    free_weights(&k);
    return bad;
}

static int down(const uint8_t *from, uint32_t from_height, struct sd_image *to, const struct kernel *kernel)
{
    struct weights k = {0};
    size_t row = to->width * (size_t)to->channels;
    int bad = make_weights(kernel, from_height, to->height, &k);
    for (uint32_t y = 0; !bad && y < to->height; y++)
        resample_column(from, row, &k, y, to->data + y * row);
    free_weights(&k);
    return bad;
}

static int resample(const struct sd_image *from, struct sd_image *to, const struct kernel *kernel)
{
    if (from->height == to->height)
        return across(from, to->data, to->width, kernel);
    if (from->width == to->width)
        return down(from->data, from->height, to, kernel);
    uint8_t *half = malloc((size_t)to->width * from->height * (size_t)from->channels);
    int bad = !half || across(from, half, to->width, kernel) || down(half, from->height, to, kernel);
    free(half);
    return bad ? -1 : 0;
}

/* ---- alpha ---- */

static void multiply_alpha(const struct sd_image *im, uint8_t *out)
{
    const uint8_t *p = im->data;
    for (size_t n = (size_t)im->width * im->height; n; n--, p += 4, out += 4) {
        for (int k = 0; k < 3; k++)
            out[k] = sd_div255((unsigned)p[k] * p[3]);
        out[3] = p[3];
    }
}

static void divide_alpha(struct sd_image *im)
{
    uint8_t *p = im->data;
    for (size_t n = (size_t)im->width * im->height; n; n--, p += 4)
        for (int k = 0; k < 3 && p[3] && p[3] < 255; k++) {
            unsigned v = 255u * p[k] / p[3];
            p[k] = (uint8_t)(v > 255 ? 255 : v);
        }
}

int sd_resize_pillow(const struct sd_image *from, struct sd_image *to, enum sd_resize_kernel kind)
{
    const struct kernel *kernel = &kernels[kind];
    if (from->channels == 3)
        return resample(from, to, kernel);
    struct sd_image weighted = *from;
    weighted.data = malloc((size_t)from->width * from->height * 4);
    if (!weighted.data)
        return -1;
    multiply_alpha(from, weighted.data);
    int bad = resample(&weighted, to, kernel);
    free(weighted.data);
    if (!bad)
        divide_alpha(to);
    return bad;
}
