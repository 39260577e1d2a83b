/* A set of records at a glance: how many, how large, in which buckets, with what captions and tags.
 *
 *     struct sd_stat s;
 *     sd_stat_init(&s, &(struct sd_stat_options){.top = 20, .smallest = 5});
 *     sd_stat_add(&s, record, err);       // for each
 *     sd_stat_write(&s, true, out, err);
 *
 * Memory grows with the number of distinct tags, not with that of records: what has to be kept of each record
 * goes to temporary files (base/spill.h, base/seen.h). Whatever its order, the same set gives the same
 * numbers; of things with equal counts those that came first are shown first. */
#ifndef SD_DATA_STAT_H
#define SD_DATA_STAT_H

#include "base/seen.h"
#include "base/spill.h"
#include "base/tally.h"
#include "record/record.h"

#include <stdbool.h>

struct sd_stat_options {
    int64_t top;      /* most frequent tags that are listed */
    int64_t pairs;    /* most frequent pairs of two of these that are listed, of the first SD_STAT_PAIRED */
    int64_t smallest; /* smallest pictures that are listed */
};

enum { SD_STAT_PAIRED = 1000 };

struct sd_stat_picture {
    int64_t w, h;
    uint64_t number; /* of the record, from 1 */
    char *path;      /* owned; NULL where the record has none */
};

struct sd_stat {
    struct sd_stat_options options;
    uint64_t records, errors, failed; /* all; that carry an error; of which sd_stat_add could make nothing */
    uint64_t repeated, bytes;         /* pictures with repeats; size of the files */
    uint64_t no_format, no_size, no_bucket, no_bytes;
    uint64_t portrait, square, landscape; /* pictures of known size */
    struct sd_spill sizes;                /* int32_t [w, h] of each */
    struct sd_tally formats;              /* names */
    struct sd_tally buckets,
        bucket_repeats;               /* int64_t [w, h]: pictures, and with repeats: in the same order */
    struct sd_stat_picture *smallest; /* by area */
    size_t n_smallest;
    uint64_t captioned, uncaptioned, blank; /* records: with text, without, with nothing but blanks */
    struct sd_seen texts;                   /* captions that are not blank */
    struct sd_tally chars, words;           /* int64_t: lengths of these */
    uint64_t tagged, untagged;              /* records */
    struct sd_tally tags;                   /* counted once a record */
    struct sd_tally tags_each;              /* int64_t: how many tags a tagged record has */
    struct sd_spill log; /* for pairs: uint32_t, of each record with several tags their number and they */
    struct sd_strings strings; /* scratch, as the next */
    uint32_t *ids;
    size_t ids_cap;
};

void sd_stat_init(struct sd_stat *s, const struct sd_stat_options *options);
void sd_stat_free(struct sd_stat *s);

/* Takes a record: path, width, height, format, bytes, bucket, repeats, caption, tags. One that carries an
 * error is counted as such and not looked at. On a member of a wrong type -1 with err; the record then counts
 * as failed and nowhere else. After a lack of memory or disk (SD_ERR_MACHINE) the numbers are of no use. */
int sd_stat_add(struct sd_stat *s, struct sd_record *r, struct sd_err *err);

/* Appends the report: a JSON object on one line, or lines for people. */
int sd_stat_write(const struct sd_stat *s, bool json, struct sd_buf *out, struct sd_err *err);

/* ---- what the report is made of ---- */

struct sd_stat_range {
    uint64_t n;              /* values; 0: the rest is not set */
    double min, median, max; /* of an even number of values the median is the smaller one in the middle */
};

enum sd_stat_measure { SD_STAT_WIDTH, SD_STAT_HEIGHT, SD_STAT_AREA, SD_STAT_ASPECT, SD_STAT_MEASURES };

/* The ranges of the pictures' sizes. */
int sd_stat_sizes(const struct sd_stat *s, struct sd_stat_range ranges[SD_STAT_MEASURES], struct sd_err *err);

/* The range of a tally whose keys are one int64_t. */
int sd_stat_range(const struct sd_tally *t, struct sd_stat_range *range, struct sd_err *err);

/* Entries of a tally by falling count, those that came first in front: t->n pointers, the caller's to free;
 * never NULL on success. */
const struct sd_tally_entry **sd_stat_ranked(const struct sd_tally *t, struct sd_err *err);

struct sd_stat_pair {
    uint32_t a, b; /* ranks of the tags, a < b */
    uint64_t count;
};

/* The most frequent pairs of the listed tags, at most options.pairs of them; the caller's to free, never NULL
 * on success. */
struct sd_stat_pair *sd_stat_pairs(const struct sd_stat *s, const struct sd_tally_entry *const *ranked,
                                   size_t *n, struct sd_err *err);

#endif
