#include "image/codec.h"

#include "base/file.h"
#include "image/probe.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES = 1 << 30 }; /* the largest file sd_image_load reads */

const char *sd_image_format_name(enum sd_image_format format)
{
    static const char *const names[] = {"unknown", "png", "jpeg", "webp", "bmp"};
    return names[format];
}

int sd_image_alloc(struct sd_image *im, uint64_t width, uint64_t height, int channels, struct sd_err *err)
{
    *im = SD_IMAGE_INIT;
    if (!width || !height || width > UINT32_MAX || height > UINT32_MAX ||
        width * height > SD_IMAGE_MAX_PIXELS)
        return sd_err_set(err, SD_ERR_DATA, "%llux%llu pixels: at most %llu million are supported",
                          (unsigned long long)width, (unsigned long long)height,
                          (unsigned long long)(SD_IMAGE_MAX_PIXELS >> 20));
    size_t bytes = (size_t)(width * height) * (size_t)channels;
    im->data = calloc(1, bytes);
    if (!im->data)
        return sd_err_memory(err, bytes);
    im->width = (uint32_t)width;
    im->height = (uint32_t)height;
    im->channels = channels;
    return 0;
}

void sd_image_free(struct sd_image *im)
{
    free(im->data);
    *im = SD_IMAGE_INIT;
}

static int decode(const void *bytes, size_t len, const struct sd_image_want *want, struct sd_image *im,
                  struct sd_err *err)
{
    static sd_image_decoder *const decoders[] = {
        [SD_IMAGE_PNG] = sd_image_decode_png,
        [SD_IMAGE_JPEG] = sd_image_decode_jpeg,
        [SD_IMAGE_WEBP] = sd_image_decode_webp,
        [SD_IMAGE_BMP] = sd_image_decode_bmp,
    };
    struct sd_image_info info;
    *im = SD_IMAGE_INIT;
    if (sd_image_probe_memory(bytes, len, &info, err))
        return -1;
    if (want->full) {
        want->full[0] = info.width;
        want->full[1] = info.height;
    }
    int bad = decoders[info.format](bytes, len, want, im, err);
    if (bad)
        sd_image_free(im);
    return bad;
}

int sd_image_decode(const void *bytes, size_t len, int channels, unsigned flags, struct sd_image *im,
                    struct sd_err *err)
{
    return decode(bytes, len, &(struct sd_image_want){.channels = channels, .flags = flags}, im, err);
}

int sd_image_decode_small(const void *bytes, size_t len, int channels, uint32_t width, uint32_t height,
                          uint32_t full[2], struct sd_image *im, struct sd_err *err)
{
    return decode(bytes, len, &(struct sd_image_want){channels, 0, width, height, full}, im, err);
}

int sd_image_load(const char *path, int channels, unsigned flags, struct sd_image *im, struct sd_err *err)
{
    struct sd_buf file = SD_BUF_INIT;
    *im = SD_IMAGE_INIT;
    int bad = sd_file_read(path, FILE_BYTES, &file, err);
    if (!bad && sd_image_decode(file.data, file.len, channels, flags, im, err))
        bad = sd_err_prefix(err, "%s", path);
    sd_buf_free(&file);
    return bad;
}

int sd_image_crop(const struct sd_image *from, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                  struct sd_image *to, struct sd_err *err)
{
    if (x > from->width || width > from->width - x || y > from->height || height > from->height - y) {
        *to = SD_IMAGE_INIT;
        return sd_err_set(err, SD_ERR_DATA, "a crop of %ux%u at %u,%u does not lie in %ux%u pixels", width,
                          height, x, y, from->width, from->height);
    }
    if (sd_image_alloc(to, width, height, from->channels, err))
        return -1;
    size_t c = (size_t)from->channels, row = width * c;
    for (uint32_t i = 0; i < height; i++)
        memcpy(to->data + i * row, from->data + ((size_t)(y + i) * from->width + x) * c, row);
    return 0;
}

void sd_image_flip(struct sd_image *im)
{
    size_t c = (size_t)im->channels;
    for (uint32_t y = 0; y < im->height; y++) {
        uint8_t *left = im->data + (size_t)y * im->width * c, *right = left + (im->width - 1) * c;
        for (; left < right; left += c, right -= c)
            for (size_t k = 0; k < c; k++) {
                uint8_t t = left[k];
                left[k] = right[k];
                right[k] = t;
            }
    }
}

void sd_image_on_white(struct sd_image *im)
{
    const uint8_t *in = im->data;
    uint8_t *out = im->data;
    if (im->channels != 4)
        return;
    for (size_t n = (size_t)im->width * im->height; n; n--, in += 4, out += 3) {
        unsigned alpha = in[3];
        for (int k = 0; k < 3; k++)
            out[k] = sd_div255(in[k] * alpha + 255 * (255 - alpha));
    }
    im->channels = 3;
}
