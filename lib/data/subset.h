/* How the pictures of one subset of a training set are treated at each use, and which dataset they belong to:
 * the record's members subset and dataset, which sd-config(1) writes.
 *
 *     "subset": {"shuffle_caption": true, "keep_tokens": 1, "flip_aug": true, ...}
 *     "dataset": {"index": 0, "batch_size": 4, "enable_bucket": true, ...}
 *
 * The names are those of sd-scripts' dataset configuration (docs/config_README-en.md). What they set counts;
 * for what they leave out a program's own options do. Records of one subset carry the same text, which is
 * read once. */
#ifndef SD_DATA_SUBSET_H
#define SD_DATA_SUBSET_H

#include "base/arena.h"
#include "data/augment.h"
#include "record/record.h"
#include "text/caption.h"

struct sd_subset {
    struct sd_caption_options caption;
    struct sd_augment augment;
    bool alpha_mask;    /* the alpha channel weighs the loss */
    int64_t dataset;    /* its index; batches hold pictures of one dataset */
    int64_t batch_size; /* of the dataset; 0 where it is not told */
    bool bucketed;      /* false: the dataset's enable_bucket is off */
};

struct sd_subsets { /* private */
    struct sd_subset base;
    struct sd_subset_known *known;
    size_t n, cap, last;
    struct sd_arena arena;
};

/* base: the program's own options, whose strings are borrowed. */
void sd_subsets_init(struct sd_subsets *s, const struct sd_subset *base);
void sd_subsets_free(struct sd_subsets *s);

/* The subset of a record: *out is shared by all records with the same two members and lives until
 * sd_subsets_free. Not to be called by several threads at once. 0 or -1. */
int sd_subsets_of(struct sd_subsets *s, const struct sd_record *r, struct sd_subset **out,
                  struct sd_err *err);

#endif
