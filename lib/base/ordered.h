/* Work on numbered items in parallel, hand in the results in order. */
#ifndef SD_BASE_ORDERED_H
#define SD_BASE_ORDERED_H

#include "base/err.h"

#include <stddef.h>

/* work runs for each item of 0..n-1, for several at once on threads 0..jobs-1; finish runs for each item in
 * order, one at a time, after its work, on any thread. At most window items are worked on or waiting to be
 * finished, so memory stays bounded; an item's scratch can live in slot item % window. With jobs 1 all runs
 * in the calling thread. */
struct sd_ordered {
    size_t n, window;
    int jobs;
    void (*work)(void *ctx, int thread, size_t item);
    void (*finish)(void *ctx, size_t item);
    void *ctx;
};

int sd_ordered_run(const struct sd_ordered *o, struct sd_err *err);

#endif
