#include "image/fit.h"

#include "image/resize.h"

#include <string.h>

/* Each pixel becomes a square of factor x factor. */
static int multiply(const struct sd_image *from, uint32_t factor, struct sd_image *to, struct sd_err *err)
{
    size_t pixel = (size_t)from->channels;
    if (sd_image_alloc(to, (uint64_t)from->width * factor, (uint64_t)from->height * factor, from->channels,
                       err))
        return -1;
    size_t row = to->width * pixel;
    for (uint32_t y = 0; y < from->height; y++) {
        uint8_t *first = to->data + (size_t)y * factor * row;
        const uint8_t *p = from->data + (size_t)y * from->width * pixel;
        for (uint32_t x = 0; x < to->width; x++)
            memcpy(first + x * pixel, p + x / factor * pixel, pixel);
        for (uint32_t k = 1; k < factor; k++)
            memcpy(first + k * row, first, row);
    }
    return 0;
}

static uint32_t shrunk(uint32_t side, uint32_t longest, uint32_t limit)
{
    uint32_t n = (uint32_t)(((uint64_t)side * limit + longest / 2) / longest);
    return n ? n : 1;
}

int sd_image_fit(const struct sd_image *from, uint32_t side, bool enlarge, struct sd_image *to,
                 struct sd_err *err)
{
    uint32_t longest = from->width > from->height ? from->width : from->height;
    if (longest <= side)
        return multiply(from, enlarge ? side / longest : 1, to, err);
    return sd_image_resize(from, shrunk(from->width, longest, side), shrunk(from->height, longest, side),
                           SD_RESIZE_AUTO, to, err);
}
