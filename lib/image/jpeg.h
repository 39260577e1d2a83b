/* Writing JPEG files. */
#ifndef SD_IMAGE_JPEG_H
#define SD_IMAGE_JPEG_H

#include "base/buf.h"
#include "image/image.h"

/* Appends the file's bytes to out: JFIF, baseline, colours at half resolution both ways (4:2:0) whatever the
 * quality, which is 1 to 100 as in libjpeg: what Pillow's save(quality=...) writes. Alpha is dropped. */
int sd_jpeg_encode(const struct sd_image *im, int quality, struct sd_buf *out, struct sd_err *err);

/* Writes the file whole or not at all; the message names it. */
int sd_jpeg_save(const char *path, const struct sd_image *im, int quality, struct sd_err *err);

#endif
