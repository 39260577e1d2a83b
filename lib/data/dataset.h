/* The training set: records in memory, and the order in which epochs go through them in batches of one
 * bucket, as sd-scripts' BaseDataset orders them (make_buckets, shuffle_buckets) and a torch DataLoader
 * permutes them, over all datasets of a configuration where there are several. */
#ifndef SD_DATA_DATASET_H
#define SD_DATA_DATASET_H

#include "base/arena.h"
#include "base/rng.h"
#include "data/subset.h"

struct sd_item {
    const char *path;
    const char *latents; /* cache file; NULL: made of the picture at each use */
    const char *caption; /* what caption processing starts from; may be "" */
    size_t caption_len;
    struct sd_size bucket; /* 0x0: the whole picture, for looking only */
    struct sd_size resize; /* this and the crop: of pictures without cache */
    int64_t crop[2];
    int64_t repeats;
    struct sd_subset *subset; /* how it is treated */
    bool reg;                 /* a regularisation picture */
};

struct sd_dataset_options {
    int64_t batch_size; /* of datasets that tell none */
    bool look;          /* to look at, not to train on: pictures without a bucket are taken as a whole, */
                        /* and of those with latents too the record tells what was cut out */
    struct sd_subset subset; /* how pictures are treated whose record tells nothing else */
};

/* A batch: items of one bucket. */
struct sd_batch_ref {
    size_t bucket;
    size_t first, count; /* into that bucket's order */
};

struct sd_dataset_bucket {
    int64_t dataset; /* index of the dataset it belongs to */
    struct sd_size size;
    size_t batch_size;
    size_t *order; /* item indices, each as often as it repeats; shuffled each epoch */
    size_t count;
};

struct sd_dataset {
    struct sd_dataset_options options;
    struct sd_item *items; /* owned, like all below */
    size_t n_items, cap_items;
    struct sd_dataset_bucket *buckets; /* by dataset, width, height */
    size_t n_buckets;
    struct sd_batch_ref *batches; /* one epoch, in order */
    size_t n_batches, largest_batch;
    struct sd_batch_ref *shuffled; /* private from here: the batches before the loader permutes them */
    int64_t seed, epoch;           /* what the orders belong to; -1: not shuffled yet */
    struct sd_subsets subsets;
    struct sd_arena arena;
};

void sd_dataset_init(struct sd_dataset *d, const struct sd_dataset_options *options);
void sd_dataset_free(struct sd_dataset *d);

/* Takes what training needs from a record: path, latents, bucket (without latents also resize and crop),
 * caption, tags, class_tokens, repeats, reg, subset, dataset. Caption and tags are joined as for fine-tuning
 * metadata; without either class_tokens stands in. */
int sd_dataset_add(struct sd_dataset *d, struct sd_record *r, struct sd_err *err);

/* After the last record: buckets, batches. */
int sd_dataset_finish(struct sd_dataset *d, struct sd_err *err);

/* Orders an epoch; the first is 1. As in sd-scripts every epoch shuffles what the one before left, so the
 * order depends on seed and epoch alone, and going on from the epoch before is quickest. loader then permutes
 * the batches; it gives the two numbers that torch's DataLoader and RandomSampler take from the global
 * generator. */
int sd_dataset_epoch(struct sd_dataset *d, int64_t seed, int64_t epoch, struct sd_rng *loader,
                     struct sd_err *err);

/* Item k of batch b. */
const struct sd_item *sd_dataset_item(const struct sd_dataset *d, const struct sd_batch_ref *b, size_t k);

/* Pictures with repeats, all and regularisation only. */
int64_t sd_dataset_pictures(const struct sd_dataset *d, bool reg);

#endif
