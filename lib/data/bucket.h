/* Aspect-ratio buckets, as sd-scripts chooses them (library/train_util.py BucketManager, model_util.py
 * make_bucket_resolutions; facts in doc/buckets.md). All sizes are [width, height] in pixels. */
#ifndef SD_DATA_BUCKET_H
#define SD_DATA_BUCKET_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sd_size {
    int64_t w, h;
};

struct sd_bucket_config {
    struct sd_size resolution; /* its area is every bucket's limit */
    int64_t min_reso, max_reso, steps;
    bool no_upscale; /* buckets follow the pictures, which are only shrunk; min and max do not count */
    bool single;     /* one bucket of exactly `resolution` */
};

#define SD_BUCKET_DEFAULT ((struct sd_bucket_config){.min_reso = 256, .max_reso = 1024, .steps = 64})

struct sd_buckets {
    struct sd_bucket_config config; /* min_reso rounded down and max_reso up to whole steps */
    struct sd_size *sizes;          /* owned; ascending by width, then height; none with no_upscale */
    size_t count;
};

struct sd_bucket_choice {
    struct sd_size bucket;  /* training size */
    struct sd_size resize;  /* size after resizing: covers the bucket */
    int64_t crop_x, crop_y; /* top-left of the bucket inside it, centred */
    double ar_error;        /* bucket's aspect ratio minus the picture's */
};

/* Checks the configuration and makes the list. 0 or -1. */
int sd_buckets_init(struct sd_buckets *b, const struct sd_bucket_config *config, struct sd_err *err);

/* Whether every bucket is whole latents, of 8 by 8 pixels. The message begins with the name of what is not:
 * bucket-reso-steps or resolution. 0 or -1. */
int sd_bucket_check_latents(const struct sd_bucket_config *config, struct sd_err *err);
void sd_buckets_free(struct sd_buckets *b);

/* 0, or -1 when no bucket can hold the picture (smaller than one step). Thread-safe. */
int sd_bucket_choose(const struct sd_buckets *b, struct sd_size image, struct sd_bucket_choice *choice,
                     struct sd_err *err);

/* The crop rectangle [left, top, right, bottom] that sd-scripts stores in latent caches (floor division
 * included, so left and top may be negative). */
void sd_bucket_crop_ltrb(struct sd_size bucket, struct sd_size image, double ltrb[4]);

/* "512" or "512,768" (width, height). */
int sd_size_parse(const char *text, struct sd_size *size, struct sd_err *err);

#endif
