/* Pillow's LANCZOS resampling of 8-bit pictures: columns, then rows, each pass in 22-bit fixed point with the
 * result rounded to bytes in between, so that results are equal. */
#include "image/resize_filters.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PRECISION_BITS = 32 - 8 - 2, LOBES = 3 };

struct kernel {
    uint32_t size;   /* weights an output pixel has room for */
    uint32_t *bound; /* [n, 2]: first source pixel, number of them */
    int32_t *weight; /* [n, size] */
};

static double sinc(double x)
{
    return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI);
}

static double lanczos(double x)
{
    return x >= -LOBES && x < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
}

static void free_kernel(struct kernel *k)
{
    free(k->bound);
    free(k->weight);
}

static int make_kernel(uint32_t in, uint32_t out, struct kernel *k)
{
    double scale = (double)in / out, widen = scale < 1 ? 1 : scale, support = LOBES * widen;
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
            w[i] = lanczos(((double)(i + first) - center + 0.5) / widen);
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

static void resample_row(const uint8_t *in, const struct kernel *k, uint32_t width, size_t c, uint8_t *out)
{
    for (uint32_t x = 0; x < width; x++, out += c) {
        const int32_t *w = k->weight + (size_t)x * k->size;
        const uint8_t *p = in + k->bound[2 * x] * c;
        uint32_t n = k->bound[2 * x + 1];
        int32_t sum[4] = {1 << (PRECISION_BITS - 1), 1 << (PRECISION_BITS - 1), 1 << (PRECISION_BITS - 1),
                          1 << (PRECISION_BITS - 1)};
        for (uint32_t i = 0; i < n; i++)
            for (size_t j = 0; j < c; j++)
                sum[j] += p[i * c + j] * w[i];
        for (size_t j = 0; j < c; j++)
            out[j] = clip(sum[j]);
    }
}

/* Rows: all columns of one output row together, which the compiler turns into vectors. */
static void resample_column(const uint8_t *in, size_t row, const struct kernel *k, uint32_t y, int32_t *sum,
                            uint8_t *out)
{
    const int32_t *w = k->weight + (size_t)y * k->size;
    uint32_t first = k->bound[2 * y], n = k->bound[2 * y + 1];
    for (size_t x = 0; x < row; x++)
        sum[x] = 1 << (PRECISION_BITS - 1);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *p = in + (size_t)(first + i) * row;
        int32_t wi = w[i];
        for (size_t x = 0; x < row; x++)
            sum[x] += p[x] * wi;
    }
    for (size_t x = 0; x < row; x++)
        out[x] = clip(sum[x]);
}

static int across(const struct sd_image *from, uint8_t *to, uint32_t width)
{
    struct kernel k = {0};
    size_t c = (size_t)from->channels;
    int bad = make_kernel(from->width, width, &k);
    for (uint32_t y = 0; !bad && y < from->height; y++)
        resample_row(from->data + (size_t)y * from->width * c, &k, width, c, to + (size_t)y * width * c);
    free_kernel(&k);
    return bad;
}

static int down(const uint8_t *from, uint32_t from_height, struct sd_image *to)
{
    struct kernel k = {0};
    size_t row = to->width * (size_t)to->channels;
    int32_t *sum = malloc(row * sizeof *sum);
    int bad = !sum || make_kernel(from_height, to->height, &k);
    for (uint32_t y = 0; !bad && y < to->height; y++)
        resample_column(from, row, &k, y, sum, to->data + y * row);
    free_kernel(&k);
    free(sum);
    return bad ? -1 : 0;
}

int sd_resize_lanczos(const struct sd_image *from, struct sd_image *to)
{
    if (from->height == to->height)
        return across(from, to->data, to->width);
    if (from->width == to->width)
        return down(from->data, from->height, to);
    uint8_t *half = malloc((size_t)to->width * from->height * (size_t)from->channels);
    int bad = !half || across(from, half, to->width) || down(half, from->height, to);
    free(half);
    return bad ? -1 : 0;
}
