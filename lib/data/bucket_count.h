/* What came into which bucket. All sums are whole numbers, so that they do not depend on which thread counted
 * what. */
#ifndef SD_DATA_BUCKET_COUNT_H
#define SD_DATA_BUCKET_COUNT_H

#include "base/tally.h"
#include "data/bucket_dataset.h"

struct sd_bucket_count {
    uint64_t pictures, repeated; /* each once; each as often as it repeats */
    uint64_t enlarged;           /* pictures scaled up */
    __int128 resized, cropped;   /* pixels after scaling; of these, cut off */
    __int128 enlargement;        /* sum over the enlarged of new side by old, in units of 2^-40 */
    __int128 ar_error;           /* sum of |bucket ratio - picture ratio|, in units of 2^-60 */
};

struct sd_bucket_counts { /* all zero at first; one for each thread */
    struct sd_tally keys; /* private, like the rest */
    struct sd_bucket_count *of;
    size_t cap;
};

/* Counts the picture under the data set's settings, and under each of its variants. 0, or -1 when memory is
 * out. */
int sd_bucket_counts_add(struct sd_bucket_counts *c, const struct sd_bucket_dataset *set,
                         struct sd_size image, int64_t repeats, const struct sd_bucket_choice *choice);
int sd_bucket_counts_merge(struct sd_bucket_counts *into, const struct sd_bucket_counts *from);
void sd_bucket_counts_free(struct sd_bucket_counts *c);

struct sd_bucket_row {
    struct sd_size bucket;
    struct sd_bucket_count count;
    uint64_t batches, unfull; /* batches in an epoch, and how many of them are not full: one or none */
};

struct sd_bucket_table {        /* of one data set under one variant */
    struct sd_bucket_row *rows; /* owned; sorted by width, then height */
    size_t n;
    struct sd_bucket_row sum; /* of all rows; without a bucket */
    uint64_t refused;         /* pictures too small for any bucket (no_upscale) */
};

int sd_bucket_table(const struct sd_bucket_counts *c, const struct sd_bucket_dataset *set, size_t variant,
                    struct sd_bucket_table *table, struct sd_err *err);
void sd_bucket_table_free(struct sd_bucket_table *t);

double sd_bucket_crop_share(const struct sd_bucket_count *c);  /* of the pixels after scaling; 0 for none */
double sd_bucket_enlargement(const struct sd_bucket_count *c); /* mean over the enlarged; 0 for none */
double sd_bucket_mean_error(const struct sd_bucket_count *c);  /* mean aspect error; 0 for none */

#endif
