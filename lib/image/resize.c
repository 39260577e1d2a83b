#include "image/resize.h"

#include "image/resize_filters.h"

#include <stdlib.h>
#include <string.h>

int sd_resize_filter_parse(const char *name, enum sd_resize_filter *filter, struct sd_err *err)
{
    static const struct {
        const char *name;
        enum sd_resize_filter filter;
    } known[] = {
        {"auto", SD_RESIZE_AUTO},
        {"area", SD_RESIZE_AREA},
        {"lanczos", SD_RESIZE_LANCZOS},
        {"box", SD_RESIZE_BOX},
        {"nearest", SD_RESIZE_NEAREST},
        {"linear", SD_RESIZE_LINEAR},
        {"bilinear", SD_RESIZE_LINEAR},
        {"cubic", SD_RESIZE_CUBIC},
        {"bicubic", SD_RESIZE_CUBIC},
        {"lanczos4", SD_RESIZE_LANCZOS4},
        {"pil-bicubic", SD_RESIZE_PIL_BICUBIC},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            *filter = known[i].filter;
            return 0;
        }
    return sd_err_set(err, SD_ERR_USAGE, "no interpolation \"%.40s\": one of %s", name, SD_RESIZE_NAMES);
}

static int resize(const struct sd_image *from, struct sd_image *to, enum sd_resize_filter filter)
{
    bool shrinks = from->width >= to->width && from->height >= to->height;
    switch (filter == SD_RESIZE_AUTO ? shrinks ? SD_RESIZE_AREA : SD_RESIZE_LANCZOS : filter) {
    case SD_RESIZE_NEAREST:
        return sd_resize_nearest(from, to);
    case SD_RESIZE_LINEAR: /* halving is where OpenCV takes the mean for it */
        return from->width == 2 * (uint64_t)to->width && from->height == 2 * (uint64_t)to->height
                   ? sd_resize_area(from, to)
                   : sd_resize_taps(from, to, SD_TAPS_LINEAR);
    case SD_RESIZE_CUBIC:
        return sd_resize_taps(from, to, SD_TAPS_CUBIC);
    case SD_RESIZE_LANCZOS4:
        return sd_resize_taps(from, to, SD_TAPS_LANCZOS4);
    case SD_RESIZE_BOX:
        return sd_resize_pillow(from, to, SD_KERNEL_BOX);
    case SD_RESIZE_PIL_BICUBIC:
        return sd_resize_pillow(from, to, SD_KERNEL_BICUBIC);
    case SD_RESIZE_LANCZOS:
        return sd_resize_pillow(from, to, SD_KERNEL_LANCZOS);
    default:
        return shrinks ? sd_resize_area(from, to) : sd_resize_taps(from, to, SD_TAPS_AREA);
    }
}

int sd_image_resize(const struct sd_image *from, uint32_t width, uint32_t height,
                    enum sd_resize_filter filter, struct sd_image *to, struct sd_err *err)
{
    if (sd_image_alloc(to, width, height, from->channels, err))
        return -1;
    if (from->width == width && from->height == height) {
        memcpy(to->data, from->data, (size_t)width * height * (size_t)from->channels);
        return 0;
    }
    if (!resize(from, to, filter))
        return 0;
    sd_image_free(to);
    return sd_err_memory(err, (size_t)from->width * height);
}

/* The source index of each of m pixels taken from n: the middle of the pixel, in 16-bit fixed point, as
 * INTER_NEAREST_EXACT computes it. */
static uint32_t *nearest_indices(uint32_t n, uint32_t m)
{
    uint32_t *index = malloc(m * sizeof *index);
    int64_t step = (((int64_t)n << 16) + m / 2) / m, start = step / 2 - n % 2;
    for (uint32_t i = 0; index && i < m; i++) {
        int64_t s = (step * i + start) >> 16;
        index[i] = s < 0 ? 0 : s >= n ? n - 1 : (uint32_t)s;
    }
    return index;
}

int sd_resize_nearest(const struct sd_image *from, struct sd_image *to)
{
    size_t c = (size_t)from->channels;
    uint32_t *xs = nearest_indices(from->width, to->width), *ys = nearest_indices(from->height, to->height);
    int bad = !xs || !ys ? -1 : 0;
    uint8_t *out = to->data;
    for (uint32_t y = 0; !bad && y < to->height; y++) {
        const uint8_t *row = from->data + (size_t)ys[y] * from->width * c;
        for (uint32_t x = 0; x < to->width; x++, out += c)
            memcpy(out, row + xs[x] * c, c);
    }
    free(xs);
    free(ys);
    return bad;
}
