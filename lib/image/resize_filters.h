/* The filters behind sd_image_resize; *to has its final size. 0, or -1 when memory is out. */
#ifndef SD_IMAGE_RESIZE_FILTERS_H
#define SD_IMAGE_RESIZE_FILTERS_H

#include "image/image.h"

int sd_resize_area(const struct sd_image *from, struct sd_image *to); /* to is not larger in any direction */
int sd_resize_area_enlarge(const struct sd_image *from, struct sd_image *to); /* it is in at least one */
int sd_resize_lanczos(const struct sd_image *from, struct sd_image *to);

#endif
