/* The filters behind sd_image_resize; *to has its final size, which is not the source's. 0, or -1 when memory
 * is out. */
#ifndef SD_IMAGE_RESIZE_FILTERS_H
#define SD_IMAGE_RESIZE_FILTERS_H

#include "base/clones.h"
#include "image/image.h"

enum sd_resize_taps {
    SD_TAPS_AREA,     /* linear at the places INTER_AREA takes when it enlarges */
    SD_TAPS_LINEAR,   /* 2 */
    SD_TAPS_CUBIC,    /* 4 */
    SD_TAPS_LANCZOS4, /* 8 */
};

enum sd_resize_kernel { SD_KERNEL_LANCZOS, SD_KERNEL_BOX, SD_KERNEL_BICUBIC };

int sd_resize_nearest(const struct sd_image *from, struct sd_image *to);
int sd_resize_area(const struct sd_image *from, struct sd_image *to); /* to is not larger in any direction */
int sd_resize_taps(const struct sd_image *from, struct sd_image *to, enum sd_resize_taps kind);
int sd_resize_pillow(const struct sd_image *from, struct sd_image *to, enum sd_resize_kernel kind);

#endif
