/* Which data set a record belongs to, and the bucket settings of that: the member `dataset` that sd-config
 * writes (sd-record(5)), or the command line's where there is none.
 *
 * A record's `dataset` is parsed once for each distinct text; equal settings are one data set. */
#ifndef SD_DATA_BUCKET_DATASET_H
#define SD_DATA_BUCKET_DATASET_H

#include "data/bucket.h"
#include "record/record.h"

struct sd_bucket_settings { /* all a data set says of buckets */
    int64_t index;          /* its place in the configuration; -1: the command line's */
    int64_t batch_size;
    struct sd_bucket_config config;
};

enum { SD_BUCKET_VARIANTS = 6 };

struct sd_bucket_variant { /* what the settings could be instead */
    const char *what;      /* "steps of 32"; NULL for the settings themselves */
    struct sd_buckets buckets;
};

struct sd_bucket_dataset {
    struct sd_bucket_settings settings;
    size_t number; /* counted up as they first come; which that is depends on the threads */
    struct sd_bucket_variant variants[SD_BUCKET_VARIANTS]; /* [0] is what is chosen by */
    size_t n_variants;
};

struct sd_bucket_datasets;

/* base: what holds where a record says nothing; it must pass sd_buckets_init and sd_bucket_check_latents, or
 * NULL with err. variants: work them out too. */
struct sd_bucket_datasets *sd_bucket_datasets_new(const struct sd_bucket_settings *base, bool variants,
                                                  struct sd_err *err);
void sd_bucket_datasets_free(struct sd_bucket_datasets *d);

struct sd_bucket_last { /* a thread's memory of the last record's; all zero at first */
    const struct sd_bucket_dataset *dataset;
    struct sd_buf text;
};

/* The record's data set, which lives as long as d; NULL with err. Thread-safe. */
const struct sd_bucket_dataset *sd_bucket_dataset_of(struct sd_bucket_datasets *d,
                                                     struct sd_bucket_last *last, const struct sd_record *r,
                                                     struct sd_err *err);

/* All there are, sorted by index, then by their settings; the caller frees the array. NULL when memory is
 * out. */
const struct sd_bucket_dataset **sd_bucket_datasets_sorted(const struct sd_bucket_datasets *d, size_t *n);

#endif
