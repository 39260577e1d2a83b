/* Which of many 64-bit hashes are near each other, without comparing each with each; and the groups that
 * follow.
 *
 * The search is multi-index hashing (M. Norouzi, A. Punjani, D. Fleet, "Fast Exact Search in Hamming Space
 * with Multi-Index Hashing", 2014): the 64 bits are cut into m blocks. Two hashes at most d apart differ in
 * at most d/m bits of at least one block, so that for each block it is enough to look where that block is the
 * same but for d/m bits. m is chosen by how many hashes there are. */
#ifndef SD_DATA_NEAR_H
#define SD_DATA_NEAR_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { SD_NEAR_MAX_DISTANCE = 16 };

struct sd_near {
    uint64_t hash;
    uint32_t mark; /* what else tells items apart, for the callback to judge */
    uint32_t id;   /* the caller's */
};

/* Gets two items whose hashes differ in distance bits. */
typedef void sd_near_fn(void *ctx, const struct sd_near *a, const struct sd_near *b, unsigned distance);

/* Sorts the items and calls fn
 *   - for items of the same hash and mark: for the one of the smallest id with each of the others. After that
 * the one stands for all of them, so that a million copies of one picture take no longer than one;
 *   - for each two of those that are left and at most distance (0 .. SD_NEAR_MAX_DISTANCE) bits apart, once.
 * What is called, and in which order, depends on the items alone, not on their order. Fewer than 2^32 items.
 * Takes 16 bytes an item beside the items, and up to 16 MiB. 0 or -1. */
int sd_near_pairs(struct sd_near *items, size_t n, unsigned distance, sd_near_fn *fn, void *ctx,
                  struct sd_err *err);

/* Disjoint sets of 0..n-1 (union-find). A set's name is its smallest item, whatever the order of the joins.
 */
struct sd_sets {
    uint32_t *parent; /* [n], owned */
};

int sd_sets_init(struct sd_sets *s, size_t n,
                 struct sd_err *err); /* each item by itself; n at most 2^32 - 1 */
uint32_t sd_sets_find(struct sd_sets *s, uint32_t item);
void sd_sets_join(struct sd_sets *s, uint32_t a, uint32_t b);
void sd_sets_free(struct sd_sets *s);

#endif
