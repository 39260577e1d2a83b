/* The decoders behind sd_image_decode. Each fills *im (channels 3 or 4) or leaves it empty. */
#ifndef SD_IMAGE_CODEC_H
#define SD_IMAGE_CODEC_H

#include "image/image.h"

typedef int sd_image_decoder(const uint8_t *bytes, size_t len, int channels, unsigned flags,
                             struct sd_image *im, struct sd_err *err);

sd_image_decoder sd_image_decode_png, sd_image_decode_jpeg, sd_image_decode_webp, sd_image_decode_bmp;

#endif
