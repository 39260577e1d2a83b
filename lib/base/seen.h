/* Which strings of bytes were seen before, for any number of them: 16 bytes of SHA-256 are kept of each, not
 * the string. The newest are in a table of at most 8 MiB, those before in temporary files (base/temp.h),
 * sorted; of each 256 there one stays in memory, and a filter of 8 MiB spares nearly all new strings from
 * being looked for there. */
#ifndef SD_BASE_SEEN_H
#define SD_BASE_SEEN_H

#include "base/hash.h"
#include "base/spill.h"

struct sd_seen_run { /* sums that rise; private, as the next */
    struct sd_spill sums;
    struct sd_buf firsts; /* of each block of sums */
    uint64_t n;
};

struct sd_seen {
    uint64_t count;              /* different strings so far; may be read. All zero at first */
    unsigned __int128 *slots;    /* sums, rising, with gaps of 0 */
    size_t used, cap;            /* of slots */
    struct sd_seen_run runs[64]; /* each has at least twice as many as the next */
    size_t n_runs;
    uint64_t *filter; /* bits; those of a sum are set when a run has it */
};

/* Remembers the bytes. 1 when they were there before, 0 when not, -1 with err: this machine is at fault, and
 * nothing but sd_seen_free makes sense any more. */
int sd_seen_add(struct sd_seen *s, const void *bytes, size_t len, struct sd_err *err);
void sd_seen_free(struct sd_seen *s);

#endif
