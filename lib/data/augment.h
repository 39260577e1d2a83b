/* Augmentation: what a training picture is made of each time it is used. Mirroring, random crops, crops
 * around a face, changes of colour; as BaseDataset.__getitem__ of kohya-ss/sd-scripts
 * (library/train_util.py), with the same draws from Python's generator in the same order:
 *
 *     mirrored = sd_augment_mirrors(a, random);
 *     sd_augment(a, &target, &picture, mirrored, random, &out, err);
 *     then the caption's own draws (text/caption.h).
 *
 * With cached latents only the first is possible: the others change the picture each time. */
#ifndef SD_DATA_AUGMENT_H
#define SD_DATA_AUGMENT_H

#include "base/pyrandom.h"
#include "data/bucket.h"
#include "image/resize.h"

struct sd_augment {
    bool flip, color, random_crop;
    bool face_crop;       /* the next is set */
    double face_range[2]; /* how large the face is to be, as shares of the training size: smallest, largest */
    enum sd_resize_filter filter;
};

/* What the picture is to become (members bucket, resize, crop of a record). */
struct sd_augment_target {
    struct sd_size bucket, resize;
    int64_t crop_x, crop_y; /* where nothing is drawn */
    bool bucketed;          /* false: enable_bucket is off, and random and face crops cut without resizing */
    const char *path;       /* the face lies where its name tells: NAME_cx_cy_width_height.png */
};

struct sd_augmented {
    struct sd_image picture; /* of the bucket's size, owned */
    struct sd_size resize;   /* what it was scaled to */
    int64_t crop_x, crop_y;  /* and cut at */
};

/* Whether the picture, or its latents, are used mirrored this time: half of the times, with flip. */
bool sd_augment_mirrors(const struct sd_augment *a, struct sd_pyrandom *random);

/* Whether the picture is another one each time, so that its latents cannot be cached. (Face crops are not
 * asked: sd-scripts caches the whole picture then.) */
bool sd_augment_varies(const struct sd_augment *a);

/* Makes *out of the whole picture, which is freed as soon as it is not needed. On failure *out is empty. */
int sd_augment(const struct sd_augment *a, const struct sd_augment_target *target, struct sd_image *picture,
               bool mirrored, struct sd_pyrandom *random, struct sd_augmented *out, struct sd_err *err);

#endif
