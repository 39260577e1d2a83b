/* Counts of things by their bytes: a hash table that only grows. */
#ifndef SD_BASE_TALLY_H
#define SD_BASE_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct sd_tally_entry {
    const char *key; /* NUL-ended */
    size_t len;
    uint64_t count;
    uint64_t hash; /* private */
};

/* An all-zero tally is an empty one. */
struct sd_tally {
    struct sd_tally_entry *entries; /* in the order they first came; owned */
    size_t n, cap;
    uint32_t *slots; /* entry + 1, or 0; owned */
    size_t mask;
    struct sd_arena keys;
};

/* Adds `by` to the count of key[len], which may be 0 to enter it only. *index, when index is not NULL,
 * becomes its place in entries. A count that would overflow stays at the most there is. 0, or -1 when memory
 * is out. */
int sd_tally_add(struct sd_tally *t, const void *key, size_t len, uint64_t by, size_t *index);

/* a + b, or the most there is. */
uint64_t sd_count_add(uint64_t a, uint64_t b);

void sd_tally_free(struct sd_tally *t);

#endif
