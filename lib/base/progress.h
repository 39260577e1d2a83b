/* A progress line: count, share, rate, time left. Only the text; printing it is the program's affair. */
#ifndef SD_BASE_PROGRESS_H
#define SD_BASE_PROGRESS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct sd_progress {
    int64_t start_ns, shown_ns;
    uint64_t first; /* done before the start (a resumed run) */
    uint64_t total; /* 0: unknown */
};

int64_t sd_clock_ns(void); /* monotonic */

void sd_progress_start(struct sd_progress *p, uint64_t total);

/* True about ten times a second, never in the first half second; then remembers that it was shown. */
bool sd_progress_due(struct sd_progress *p);

/* "1234/20000  6%  512.3/s  0:37 left  extra" in out; extra may be NULL. 0, or -1 when memory is out. */
int sd_progress_line(const struct sd_progress *p, uint64_t done, const char *extra, struct sd_buf *out);

#endif
