/* Format and size of a picture from its header, reading as little of the file as possible. */
#ifndef SD_IMAGE_PROBE_H
#define SD_IMAGE_PROBE_H

#include "image/image.h"

struct sd_image_info {
    enum sd_image_format format; /* by the first bytes, whatever the name says */
    uint32_t width, height;      /* as stored: EXIF orientation is ignored, as sd-scripts does */
    uint64_t bytes;              /* size of the file */
};

enum { SD_IMAGE_PROBE_BYTES = 4096 }; /* read at once */

/* buf is scratch. Usually one pread and one lseek. The message does not name the file. */
int sd_image_probe_fd(int fd, uint8_t buf[SD_IMAGE_PROBE_BYTES], struct sd_image_info *info,
                      struct sd_err *err);
int sd_image_probe_memory(const void *bytes, size_t len, struct sd_image_info *info, struct sd_err *err);
int sd_image_probe(const char *path, struct sd_image_info *info,
                   struct sd_err *err); /* the message names it */

#endif
