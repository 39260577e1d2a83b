/* What lib/image shares inside. The decoders behind sd_image_decode: each fills *im (channels 3 or 4) or
 * leaves it empty. */
#ifndef SD_IMAGE_CODEC_H
#define SD_IMAGE_CODEC_H

#include "image/image.h"

typedef int sd_image_decoder(const uint8_t *bytes, size_t len, int channels, unsigned flags,
                             struct sd_image *im, struct sd_err *err);

/* a b / 255, rounded, in whole numbers, for a and b up to 255. */
static inline uint8_t sd_muldiv255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return (uint8_t)(((t >> 8) + t) >> 8);
}

sd_image_decoder sd_image_decode_png, sd_image_decode_jpeg, sd_image_decode_webp, sd_image_decode_bmp;

#endif
