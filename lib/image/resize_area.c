/* OpenCV's INTER_AREA for 8-bit pictures where both sides shrink: the same sums in the same order and
 * precision, so that results are equal. Whole factors in both directions: integer sum over the block times
 * 1/area, rounded to even. Else: float weights of the covered pixels, columns first, then rows. */
#include "image/resize_filters.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static inline uint8_t round_to_byte(float v)
{
    int r = (int)rintf(v); /* to even, the default rounding */
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

/* One output pixel after the other, each summed up from left to right. */
static inline __attribute__((always_inline)) void shrink_row(const uint8_t *in, const struct weight *list,
                                                             size_t n, size_t c, float *out)
{
    for (size_t j = 0; j < n;) {
        uint32_t to = list[j].to;
        float sum[4] = {0};
        for (; j < n && list[j].to == to; j++)
            for (size_t k = 0; k < c; k++)
                sum[k] += (float)in[list[j].from * c + k] * list[j].w;
        for (size_t k = 0; k < c; k++)
            out[to * c + k] = sum[k];
    }
}

SD_CLONES
static void add_line(const float *line, float w, bool first, size_t n, float *sum)
{
    if (first)
        for (size_t k = 0; k < n; k++)
            sum[k] = w * line[k];
    else
        for (size_t k = 0; k < n; k++)
            sum[k] += w * line[k];
}

SD_CLONES
static void round_line(const float *sum, size_t n, uint8_t *out)
{
    for (size_t k = 0; k < n; k++)
        out[k] = round_to_byte(sum[k]);
}

static int shrink(const struct sd_image *from, struct sd_image *to, double scale_x, double scale_y)
{
    size_t c = (size_t)from->channels, row = to->width * c;
    struct weight *xs = malloc(((size_t)from->width * 2 + 2) * sizeof *xs);
    struct weight *ys = malloc(((size_t)from->height * 2 + 2) * sizeof *ys);
    float *line = malloc(row * sizeof *line), *sum = malloc(row * sizeof *sum);
    int bad = !xs || !ys || !line || !sum;
    if (!bad) {
        size_t nx = area_weights(from->width, to->width, scale_x, xs);
        size_t ny = area_weights(from->height, to->height, scale_y, ys);
        for (size_t j = 0; j < ny; j++) {
            const uint8_t *in = from->data + (size_t)ys[j].from * from->width * c;
            if (!j || ys[j].from != ys[j - 1].from) {
                if (c == 3)
                    shrink_row(in, xs, nx, 3, line);
                else
                    shrink_row(in, xs, nx, 4, line);
            }
            add_line(line, ys[j].w, !j || ys[j].to != ys[j - 1].to, row, sum);
            if (j + 1 == ny || ys[j].to != ys[j + 1].to)
                round_line(sum, row, to->data + ys[j].to * row);
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
