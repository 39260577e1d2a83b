/* What lib/image shares inside. The decoders behind sd_image_decode: each fills *im (channels 3 or 4) or
 * leaves it empty. */
#ifndef SD_IMAGE_CODEC_H
#define SD_IMAGE_CODEC_H

#include "image/image.h"

struct sd_image_want {
    int channels;   /* 3 or 4 */
    unsigned flags; /* enum sd_image_flags */
    uint32_t width,
        height;     /* with one of them not 0: a smaller picture will do while it has as much as these */
    uint32_t *full; /* where width and height of the full picture go, or NULL */
};

typedef int sd_image_decoder(const uint8_t *bytes, size_t len, const struct sd_image_want *want,
                             struct sd_image *im, struct sd_err *err);

/* a / 255, rounded, in whole numbers, for a up to 255 * 255; as Pillow has it. */
static inline uint8_t sd_div255(unsigned a)
{
    a += 128;
    return (uint8_t)(((a >> 8) + a) >> 8);
}

sd_image_decoder sd_image_decode_png, sd_image_decode_jpeg, sd_image_decode_webp, sd_image_decode_bmp;

#endif
