/* Resizing as the ecosystem does it, 8 bits a channel, with the arithmetic of the library each filter is
 * taken from, so that the bytes are equal.
 *
 * OpenCV (4.10; opencv/modules/imgproc/src/resize.cpp): nearest is INTER_NEAREST_EXACT, linear INTER_LINEAR,
 * cubic INTER_CUBIC, lanczos4 INTER_LANCZOS4: 2, 4 and 8 pixels around the place a pixel comes from, however
 * much the picture shrinks. area is INTER_AREA: the mean of the covered source area where both sides shrink,
 * else a variant of linear. Alpha is a channel like the others.
 *
 * Pillow (src/libImaging/Resample.c): lanczos (a = 3), box and pil-bicubic (a = -0.5) widen their kernels
 * when they shrink. Columns first, then rows (Pillow 13 begins with rows where that is less work, which
 * matters only where one side grows and the other shrinks). Colours are weighted by alpha. */
#ifndef SD_IMAGE_RESIZE_H
#define SD_IMAGE_RESIZE_H

#include "image/image.h"

enum sd_resize_filter {
    SD_RESIZE_AUTO, /* what sd-scripts does when nothing is asked for: area where the source is at least the
                       target in both directions, else lanczos */
    SD_RESIZE_NEAREST,
    SD_RESIZE_LINEAR,
    SD_RESIZE_CUBIC,
    SD_RESIZE_LANCZOS4,
    SD_RESIZE_AREA,
    SD_RESIZE_LANCZOS,
    SD_RESIZE_BOX,
    SD_RESIZE_PIL_BICUBIC,
};

/* The names in an option table, and the filter with this name: those of sd-scripts' resize_interpolation and
 * of its resizing tool, bilinear and bicubic (linear and cubic) among them, and ours. 0, or -1 when there is
 * none. */
#define SD_RESIZE_NAMES "auto|area|lanczos|box|nearest|linear|bilinear|cubic|bicubic|lanczos4|pil-bicubic"
int sd_resize_filter_parse(const char *name, enum sd_resize_filter *filter, struct sd_err *err);

/* Makes *to; from is kept. A picture of the same size is copied. */
int sd_image_resize(const struct sd_image *from, uint32_t width, uint32_t height,
                    enum sd_resize_filter filter, struct sd_image *to, struct sd_err *err);

#endif
