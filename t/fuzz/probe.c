/* Any bytes as a picture's header, from memory and from a file: both ways give the same.
 * fuzz-seeds: t/data/image */
#define _GNU_SOURCE
#include "image/probe.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    uint8_t buf[SD_IMAGE_PROBE_BYTES];
    struct sd_image_info a, b;
    struct sd_err err_a = {0}, err_b = {0};
    if (fd < 0)
        fd = memfd_create("probe", 0);
    if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
        return 0;
    int bad_a = sd_image_probe_memory(data, size, &a, &err_a), bad_b = sd_image_probe_fd(fd, buf, &b, &err_b);
    if (bad_a != bad_b || strcmp(err_a.msg, err_b.msg) || a.width != b.width || a.height != b.height ||
        (!bad_a && (!a.width || !a.height || a.bytes != size)))
        abort();
    return 0;
}
