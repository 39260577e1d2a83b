/* Any bytes as a picture, PNG, JPEG, WebP or BMP: what decodes has the size its header tells or, where a
 * smaller one will do, one that suffices, and can be resized by every filter, put on white and written.
 * fuzz-seeds: t/data/image */
#include "image/jpeg.h"
#include "image/png.h"
#include "image/probe.h"
#include "image/resize.h"

#include <stdlib.h>

enum { FILTERS = SD_RESIZE_PIL_BICUBIC + 1 };

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
    if (im.channels != channels || im.width != info.width || im.height != info.height)
        abort();
    if ((uint64_t)im.width * im.height < 1 << 14 &&
        !sd_image_resize(&im, size & 8 ? 7 : 70, size & 16 ? 5 : 90, (enum sd_resize_filter)(size % FILTERS),
                         &small, &err)) {
        if (sd_png_encode(&small, NULL, 0, &out, &err) ||
            sd_jpeg_encode(&small, 1 + (int)(size % 100), &out, &err))
            abort();
        sd_image_free(&small);
    }
    sd_image_on_white(&im);
    if (!sd_image_decode_small(data, size, channels, 4, 9, NULL, &small, &err)) {
        if ((small.width < 4 || small.height < 9) && small.width != info.width)
            abort();
        sd_image_free(&small);
    }
    if (info.format == SD_IMAGE_PNG)
        sd_png_read_text(data, size, "parameters", &out, &err);
    sd_buf_free(&out);
    sd_image_free(&im);
    return 0;
}
