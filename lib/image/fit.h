/* Pictures made as large as a square allows, for people to look at. */
#ifndef SD_IMAGE_FIT_H
#define SD_IMAGE_FIT_H

#include "image/image.h"

/* Makes *to, whose longer side is at most side > 0 pixels. A larger picture is shrunk, the ratio of its sides
 * kept; a smaller one is copied, or with enlarge multiplied by the largest whole factor that fits, each pixel
 * becoming a square. */
int sd_image_fit(const struct sd_image *from, uint32_t side, bool enlarge, struct sd_image *to,
                 struct sd_err *err);

#endif
