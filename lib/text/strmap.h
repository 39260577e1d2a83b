/* A table from strings to numbers, open addressing. Keys are borrowed. {0} is an empty one. */
#ifndef SD_TEXT_STRMAP_H
#define SD_TEXT_STRMAP_H

#include <stdbool.h>
#include <stddef.h>

#include "text/str.h"

struct sd_strmap {
    struct sd_strmap_slot *slots; /* owned */
    size_t cap, n;
};

#define SD_STRMAP_NONE ((size_t)-1)

/* The key's number, or SD_STRMAP_NONE. */
size_t sd_strmap_get(const struct sd_strmap *m, struct sd_str key);

/* Sets the key's number; where it was there already, *old (may be NULL) receives the one before, else
 * SD_STRMAP_NONE. 0, or -1 when memory is out. */
int sd_strmap_put(struct sd_strmap *m, struct sd_str key, size_t value, size_t *old);

void sd_strmap_clear(struct sd_strmap *m); /* no keys, memory kept */
void sd_strmap_free(struct sd_strmap *m);

#endif
