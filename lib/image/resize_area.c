/* OpenCV's INTER_AREA for 8-bit pictures: the same sums in the same order and precision, so that results are
 * equal. Follows the definition in OpenCV's imgproc (resize with INTER_AREA): three cases. whole factors in
 * both directions: integer sum over the block times 1/area, rounded to even; shrinking otherwise: float
 * weights of the covered pixels, columns first, then rows; enlarging in a direction: linear interpolation
 * between the pixels an output pixel covers, in 11-bit fixed point. */
#include "image/resize_filters.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static uint8_t round_to_byte(float v)
{
    long r = lrintf(v); /* to even, the default rounding */
    return (uint8_t)(r < 0 ? 0 : r > 255 ? 255 : r);
}

/* ---- whole factors ---- */

static void shrink_by_whole(const struct sd_image *from, struct sd_image *to, uint32_t fx, uint32_t fy)
{
    size_t c = (size_t)from->channels, row = from->width * c;
    float scale = 1.f / (float)(fx * fy);
    uint8_t *out = to->data;
    for (uint32_t y = 0; y < to->height; y++)
        for (uint32_t x = 0; x < to->width; x++)
            for (size_t k = 0; k < c; k++) {
                const uint8_t *p = from->data + (size_t)y * fy * row + (size_t)x * fx * c + k;
                int sum = 0;
                for (uint32_t j = 0; j < fy; j++)
                    for (uint32_t i = 0; i < fx; i++)
                        sum += p[j * row + i * c];
                /* OpenCV's vector code for 2x2 rounds halves up */
                *out++ = fx == 2 && fy == 2 ? (uint8_t)((sum + 2) >> 2) : round_to_byte((float)sum * scale);
            }
}

/* ---- any factors ---- */

struct weight {
    uint32_t from, to; /* indices of pixels */
    float w;
};

/* What part of each of n pixels goes to each of m. At most 2n entries; returns their number. */
static size_t area_weights(uint32_t n, uint32_t m, double scale, struct weight *list)
{
    size_t k = 0;
    for (uint32_t i = 0; i < m; i++) {
        double start = i * scale, end = start + scale;
        double cell = fmin(scale, n - start);
        int64_t first = (int64_t)ceil(start), last = (int64_t)floor(end);
        if (last > (int64_t)n - 1)
            last = (int64_t)n - 1;
        if (first > last)
            first = last;
        if (first - start > 1e-3)
            list[k++] = (struct weight){(uint32_t)(first - 1), i, (float)((first - start) / cell)};
        for (int64_t s = first; s < last; s++)
            list[k++] = (struct weight){(uint32_t)s, i, (float)(1.0 / cell)};
        if (end - last > 1e-3)
            list[k++] = (struct weight){(uint32_t)last, i, (float)(fmin(fmin(end - last, 1.), cell) / cell)};
    }
    return k;
}

static void shrink_row(const uint8_t *in, const struct weight *list, size_t n, size_t c, float *out)
{
    for (size_t j = 0; j < n; j++) {
        const uint8_t *p = in + list[j].from * c;
        float *o = out + list[j].to * c;
        for (size_t k = 0; k < c; k++)
            o[k] += (float)p[k] * list[j].w;
    }
}

static int shrink(const struct sd_image *from, struct sd_image *to, double scale_x, double scale_y)
{
    size_t c = (size_t)from->channels, row = to->width * c;
    struct weight *xs = malloc(((size_t)from->width * 2 + 2) * sizeof *xs);
    struct weight *ys = malloc(((size_t)from->height * 2 + 2) * sizeof *ys);
    float *line = malloc(row * sizeof *line), *sum = calloc(row, sizeof *sum);
    int bad = !xs || !ys || !line || !sum;
    if (!bad) {
        size_t nx = area_weights(from->width, to->width, scale_x, xs);
        size_t ny = area_weights(from->height, to->height, scale_y, ys);
        for (size_t j = 0; j < ny; j++) {
            for (size_t k = 0; k < row; k++)
                line[k] = 0;
            shrink_row(from->data + (size_t)ys[j].from * from->width * c, xs, nx, c, line);
            bool first = j == 0 || ys[j].to != ys[j - 1].to, last = j + 1 == ny || ys[j].to != ys[j + 1].to;
            for (size_t k = 0; k < row; k++)
                sum[k] = first ? ys[j].w * line[k] : sum[k] + ys[j].w * line[k];
            for (size_t k = 0; last && k < row; k++)
                to->data[ys[j].to * row + k] = round_to_byte(sum[k]);
        }
    }
    free(xs);
    free(ys);
    free(line);
    free(sum);
    return bad ? -1 : 0;
}

int sd_resize_area(const struct sd_image *from, struct sd_image *to)
{
    double scale_x = 1. / ((double)to->width / from->width),
           scale_y = 1. / ((double)to->height / from->height);
    double whole_x = rint(scale_x), whole_y = rint(scale_y);
    if (fabs(scale_x - whole_x) < DBL_EPSILON && fabs(scale_y - whole_y) < DBL_EPSILON) {
        shrink_by_whole(from, to, (uint32_t)whole_x, (uint32_t)whole_y);
        return 0;
    }
    return shrink(from, to, scale_x, scale_y);
}

/* ---- enlarging ---- */

enum { COEF_BITS = 11, COEF_ONE = 1 << COEF_BITS };

struct tap {
    uint32_t at[2]; /* the two source pixels */
    int w[2];       /* their weights, out of COEF_ONE */
};

static void linear_taps(uint32_t n, uint32_t m, struct tap *taps)
{
    double inverse = (double)m / n, scale = 1. / inverse;
    for (uint32_t i = 0; i < m; i++) {
        int64_t s = (int64_t)floor(i * scale);
        float f = (float)((i + 1) - (s + 1) * inverse);
        f = f <= 0 ? 0.f : f - floorf(f);
        if (s < 0 || s >= (int64_t)n - 1) {
            f = 0;
            s = s < 0 ? 0 : (int64_t)n - 1;
        }
        taps[i].at[0] = (uint32_t)s;
        taps[i].at[1] = s + 1 < (int64_t)n ? (uint32_t)s + 1 : (uint32_t)s;
        taps[i].w[0] = (int)lrintf((1.f - f) * COEF_ONE);
        taps[i].w[1] = (int)lrintf(f * COEF_ONE);
    }
}

static void linear_row(const uint8_t *in, const struct tap *taps, uint32_t m, size_t c, int *out)
{
    for (uint32_t x = 0; x < m; x++, out += c)
        for (size_t k = 0; k < c; k++)
            out[k] = in[taps[x].at[0] * c + k] * taps[x].w[0] + in[taps[x].at[1] * c + k] * taps[x].w[1];
}

int sd_resize_area_enlarge(const struct sd_image *from, struct sd_image *to)
{
    size_t c = (size_t)from->channels, row = to->width * c;
    struct tap *xs = malloc(to->width * sizeof *xs), *ys = malloc(to->height * sizeof *ys);
    int *lines = malloc(2 * row * sizeof *lines);
    int bad = !xs || !ys || !lines;
    if (!bad) {
        linear_taps(from->width, to->width, xs);
        linear_taps(from->height, to->height, ys);
        int64_t held[2] = {-1, -1}; /* which source row each half of lines holds */
        for (uint32_t y = 0; y < to->height; y++) {
            const int *part[2];
            for (int t = 0; t < 2; t++) {
                int64_t s = ys[y].at[t];
                int slot = s & 1; /* the two rows are neighbours or the same */
                if (held[slot] != s)
                    linear_row(from->data + (size_t)s * from->width * c, xs, to->width, c,
                               lines + slot * row);
                held[slot] = s;
                part[t] = lines + slot * row;
            }
            int w0 = ys[y].w[0], w1 = ys[y].w[1];
            for (size_t k = 0; k < row; k++) {
                int v = (((w0 * (part[0][k] >> 4)) >> 16) + ((w1 * (part[1][k] >> 4)) >> 16) + 2) >> 2;
                to->data[y * row + k] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
        }
    }
    free(xs);
    free(ys);
    free(lines);
    return bad ? -1 : 0;
}
