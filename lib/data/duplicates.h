/* Which of many pictures are duplicates of each other, and which of them to keep.
 *
 * Pictures are added one by one, files of which the size alone does not say that they are unlike are summed
 * by the caller, then the groups are made. Copies are files of the same SHA-256; alike are pictures whose
 * perceptual hashes (image/phash.h) and mean colours are near. A group is all that such pairs connect. The
 * result depends on the pictures and their order alone. What is known of a picture, and its path, lie in
 * temporary files (base/spill.h). */
#ifndef SD_DATA_DUPLICATES_H
#define SD_DATA_DUPLICATES_H

#include "base/buf.h"
#include "base/spill.h"
#include "data/near.h"

#include <stdbool.h>

enum sd_keep { SD_KEEP_LARGEST, SD_KEEP_FIRST, SD_KEEP_NEWEST, SD_KEEP_OLDEST };

struct sd_dup_rules {
    bool alike; /* else only copies */
    unsigned distance, colour;
    enum sd_keep keep; /* of equals the first; largest: most pixels, then most bytes */
};

enum { SD_SUM_BYTES = 16 };

struct sd_dup_sum { /* of a file: the first bytes of its SHA-256 */
    uint8_t bytes[SD_SUM_BYTES];
    uint32_t id;
};

struct sd_dup_picture {
    uint64_t hash, bytes, pixels;
    int64_t modified; /* ns */
    uint64_t path;    /* place and length of its path: set by sd_duplicates_add */
    size_t path_len;
    uint8_t colour[3];
    bool good, hashed, summed; /* takes part; has a perceptual hash; has a sum */
};

struct sd_duplicates {
    bool *good; /* [n]: takes part; may be read, and taken away */
    struct sd_dup_sum *sums;
    size_t n, cap, n_sums, sums_cap;
    struct sd_spill pictures, paths;
    uint64_t path_bytes;
    struct sd_sets sets;      /* after sd_duplicates_group: a picture's group, named by its first */
    uint32_t *keeper, *size;  /* of the group of that name */
    size_t groups, redundant; /* groups of two and more; pictures in them that are not kept */
};

#define SD_DUPLICATES_INIT ((struct sd_duplicates){0})

/* Adds the next picture; its number is n before. path may be NULL for one that is not good, sum when it is
 * not summed. 0 or -1. */
int sd_duplicates_add(struct sd_duplicates *d, const struct sd_dup_picture *picture, const char *path,
                      const struct sd_dup_sum *sum, struct sd_err *err);
int sd_duplicates_add_sum(struct sd_duplicates *d, uint32_t id, const struct sd_dup_sum *sum,
                          struct sd_err *err);

/* The good pictures without a sum whose file has the size of another's, in *ids; the caller frees it. */
int sd_duplicates_unsummed(const struct sd_duplicates *d, uint32_t **ids, size_t *n, struct sd_err *err);

int sd_duplicates_group(struct sd_duplicates *d, const struct sd_dup_rules *rules, struct sd_err *err);

/* *path becomes the path of a good picture. From any thread. */
int sd_duplicates_path(const struct sd_duplicates *d, uint32_t id, struct sd_buf *path, struct sd_err *err);

/* What two pictures differ in, in bits; 0 when one of them has no hash. */
int sd_duplicates_distance(const struct sd_duplicates *d, uint32_t a, uint32_t b, unsigned *bits,
                           struct sd_err *err);

void sd_duplicates_free(struct sd_duplicates *d);

#endif
