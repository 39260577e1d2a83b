/* The picture that a record trains on: decoded, resized, cut to its bucket; as sd-scripts does for its latent
 * caches (library/train_util.py load_images_and_masks_for_caching). */
#ifndef SD_DATA_CUT_H
#define SD_DATA_CUT_H

#include "data/subset.h"

struct sd_archives; /* store/archive.h */

/* What a record asks for. Strings are borrowed from the record. */
struct sd_cut {
    const char *path;
    struct sd_size bucket, resize;
    int64_t crop[2]; /* left, top of the bucket in the resized picture */
    enum sd_resize_filter filter;
    const char *filter_name;      /* static; NULL: automatic */
    bool flip;                    /* the mirrored picture's latents too */
    bool alpha;                   /* its alpha channel as a mask too */
    int64_t width, height, bytes; /* of the picture when it was scanned; -1: not told */
    const char *sha256;           /* likewise, or NULL */
};

/* Members path, bucket, resize, crop, and where they are there width, height, bytes, sha256; the rest is the
 * subset's. One that changes the picture at each use, with color_aug or random_crop, is an error: sd-scripts
 * caches no latents for it either. */
int sd_cut_read(struct sd_cut *cut, struct sd_record *r, const struct sd_subset *subset, struct sd_err *err);

struct sd_cut_picture {
    struct sd_image rgb; /* of the bucket's size */
    float *mask;         /* [bucket.h, bucket.w] in 0 .. 1, owned; NULL unless cut->alpha */
    struct sd_size original;
    int64_t bytes; /* of the file */
    char sha256[65];
};

/* A file that is not the one the record was made of is an error. archives: for pictures in them
 * (data/picture.h). */
int sd_cut_load(const struct sd_cut *cut, struct sd_archives *archives, struct sd_cut_picture *p,
                struct sd_err *err);
void sd_cut_picture_free(struct sd_cut_picture *p); /* takes an all-zero one */

#endif
