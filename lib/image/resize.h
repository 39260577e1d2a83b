/* Resizing as the ecosystem does it, 8 bits a channel.
 *
 * SD_RESIZE_AREA is OpenCV's INTER_AREA: averages over the covered source area where both sides shrink, else
 * the variant of linear interpolation OpenCV takes in its place. SD_RESIZE_LANCZOS is Pillow's LANCZOS (a =
 * 3, widened when shrinking, two passes in fixed point: columns first; Pillow 13 begins with rows where that
 * is less work, which matters only where one side grows and the other shrinks). SD_RESIZE_AUTO is what
 * sd-scripts does when nothing is asked for: area where the source is at least the target in both directions,
 * else Lanczos. */
#ifndef SD_IMAGE_RESIZE_H
#define SD_IMAGE_RESIZE_H

#include "image/image.h"

enum sd_resize_filter { SD_RESIZE_AUTO, SD_RESIZE_AREA, SD_RESIZE_LANCZOS };

/* The names in an option table, and the filter with this name. 0, or -1 when there is none. */
#define SD_RESIZE_NAMES "auto|area|lanczos"
int sd_resize_filter_parse(const char *name, enum sd_resize_filter *filter, struct sd_err *err);

/* Makes *to; from is kept. A picture of the same size is copied. */
int sd_image_resize(const struct sd_image *from, uint32_t width, uint32_t height,
                    enum sd_resize_filter filter, struct sd_image *to, struct sd_err *err);

#endif
