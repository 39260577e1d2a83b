/* Any bytes as a picture: what decodes has the size its header tells, and can be resized and written.
 * fuzz-seeds: t/data/image */
#include "image/png.h"
#include "image/probe.h"
#include "image/resize.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_image_info info;
    struct sd_image im, small;
    struct sd_err err = {0};
    struct sd_buf out = SD_BUF_INIT;
    int channels = size & 1 ? 3 : 4;
    if (sd_image_probe_memory(data, size, &info, &err) || (uint64_t)info.width * info.height > 1 << 20)
        return 0; /* large ones only take long */
    if (sd_image_decode(data, size, channels, size & 2 ? SD_IMAGE_STRICT : 0, &im, &err)) {
        if (!err.msg[0] || im.data)
            abort();
        return 0;
    }
    if (im.channels != channels || !im.width || !im.height)
        abort();
    if ((uint64_t)im.width * im.height < 1 << 14 &&
        !sd_image_resize(&im, 7, 5, size & 4 ? SD_RESIZE_AREA : SD_RESIZE_LANCZOS, &small, &err)) {
        if (sd_png_encode(&small, NULL, 0, &out, &err))
            abort();
        sd_image_free(&small);
    }
    if (info.format == SD_IMAGE_PNG)
        sd_png_read_text(data, size, "parameters", &out, &err);
    sd_buf_free(&out);
    sd_image_free(&im);
    return 0;
}
