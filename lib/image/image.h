/* Pictures in memory: 8 bits a channel, RGB or RGBA, rows from the top without gaps; and their decoding.
 *
 * Decoding gives what Pillow's Image.open(f).convert("RGB") gives, which is what sd-scripts trains on:
 * palettes and grey are expanded, alpha is dropped (not blended), 16-bit channels keep their high byte but
 * 16-bit grey is cut at 255, CMYK is taken as Adobe writes it, EXIF orientation and colour profiles are
 * ignored. With 4 channels: convert("RGBA"). doc/images.md has each kind. */
#ifndef SD_IMAGE_IMAGE_H
#define SD_IMAGE_IMAGE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sd_image_format { SD_IMAGE_UNKNOWN, SD_IMAGE_PNG, SD_IMAGE_JPEG, SD_IMAGE_WEBP, SD_IMAGE_BMP };

const char *sd_image_format_name(enum sd_image_format format); /* "png" "jpeg" "webp" "bmp", as in records */

/* Larger pictures are refused. */
#define SD_IMAGE_MAX_PIXELS ((uint64_t)1 << 28)

struct sd_image {
    uint32_t width, height;
    int channels;  /* 3 or 4 */
    uint8_t *data; /* [height, width, channels], owned */
};

#define SD_IMAGE_INIT ((struct sd_image){0})

/* Zeroed pixels. All functions here leave *im empty on failure. */
int sd_image_alloc(struct sd_image *im, uint64_t width, uint64_t height, int channels, struct sd_err *err);
void sd_image_free(struct sd_image *im);

enum sd_image_flags {
    SD_IMAGE_STRICT =
        1, /* damage that decoders paint over (broken JPEG scans) is an error: for checking files */
};

/* The format is found by the first bytes. channels is 3 or 4. */
int sd_image_decode(const void *bytes, size_t len, int channels, unsigned flags, struct sd_image *im,
                    struct sd_err *err);

/* The same for a file; the message begins with the path. */
int sd_image_load(const char *path, int channels, unsigned flags, struct sd_image *im, struct sd_err *err);

/* A smaller picture to look at: a JPEG is decoded at a half, a quarter or an eighth of its size where at
 * least width x height pixels are left, in a fraction of the time; other formats, and small JPEGs, come as
 * they are. The pixels are not those of the full picture resized: not for training. */
int sd_image_decode_small(const void *bytes, size_t len, int channels, uint32_t width, uint32_t height,
                          uint32_t full[2], struct sd_image *im, struct sd_err *err);

/* ---- editing: *to is made, from is kept ---- */
int sd_image_crop(const struct sd_image *from, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                  struct sd_image *to, struct sd_err *err); /* the rectangle must lie inside */
void sd_image_flip(struct sd_image *im);                    /* left to right, in place */

/* Blends 4 channels over a white ground: 3 are left, in place. What sd-scripts' tagger does with every
 * picture that can have alpha; decode it with 4 channels. A picture of 3 channels stays as it is. */
void sd_image_on_white(struct sd_image *im);

#endif
