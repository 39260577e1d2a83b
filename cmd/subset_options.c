#include "subset_options.h"

#include <stdio.h>

void cmd_subset_settle(struct sd_cmd *c, struct cmd_subset *s)
{
    struct sd_augment *a = &s->base.augment;
    struct sd_err err;
    int used = 0;
    s->base.caption.shuffle = s->shuffle;
    s->base.caption.enable_wildcard = s->wildcard;
    if (s->base.caption.separator && !*s->base.caption.separator)
        cmd_usage(c, "--caption-separator is empty");
    if (sd_resize_filter_parse(s->filter, &a->filter, &err))
        cmd_usage(c, "--resize-interpolation: %s", err.msg);
    if (!s->face_crop)
        return;
    if (sscanf(s->face_crop, "%lf,%lf%n", &a->face_range[0], &a->face_range[1], &used) != 2 ||
        s->face_crop[used] || !(a->face_range[0] > 0 && a->face_range[0] <= a->face_range[1]))
        cmd_usage(c, "--face-crop-aug-range: \"%s\" is not LOW,HIGH with 0 < LOW <= HIGH", s->face_crop);
    a->face_crop = true;
}
