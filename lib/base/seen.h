/* Which strings of bytes were seen before, for many millions of them: 16 bytes of SHA-256 are kept of each,
 * not the string. */
#ifndef SD_BASE_SEEN_H
#define SD_BASE_SEEN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct sd_seen { /* private; all zero at first */
    uint64_t (*slots)[2];
    size_t count, cap;
};

/* Remembers the bytes. 1 when they were there before, 0 when not, -1 with err. */
int sd_seen_add(struct sd_seen *s, const void *bytes, size_t len, struct sd_err *err);
void sd_seen_free(struct sd_seen *s);

#endif
