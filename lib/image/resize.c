#include "image/resize.h"

#include "image/resize_filters.h"

#include <string.h>

int sd_image_resize(const struct sd_image *from, uint32_t width, uint32_t height,
                    enum sd_resize_filter filter, struct sd_image *to, struct sd_err *err)
{
    bool shrinks = from->width >= width && from->height >= height;
    if (sd_image_alloc(to, width, height, from->channels, err))
        return -1;
    if (from->width == width && from->height == height) {
        memcpy(to->data, from->data, (size_t)width * height * (size_t)from->channels);
        return 0;
    }
    if (filter == SD_RESIZE_AUTO)
        filter = shrinks ? SD_RESIZE_AREA : SD_RESIZE_LANCZOS;
    int bad = filter == SD_RESIZE_LANCZOS ? sd_resize_lanczos(from, to)
              : shrinks                   ? sd_resize_area(from, to)
                                          : sd_resize_area_enlarge(from, to);
    if (!bad)
        return 0;
    sd_image_free(to);
    return sd_err_memory(err, (size_t)from->width * height);
}

int sd_resize_filter_parse(const char *name, enum sd_resize_filter *filter, struct sd_err *err)
{
    static const char *const names[] = {"auto", "area", "lanczos"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i])) {
            *filter = (enum sd_resize_filter)i;
            return 0;
        }
    return sd_err_set(err, SD_ERR_USAGE, "\"%s\" is no filter: %s", name, SD_RESIZE_NAMES);
}
