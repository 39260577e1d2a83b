/* Memory that will be read soon, brought into the second-level cache a few lines at a time between pieces of
 * work. */
#ifndef SD_TENSOR_CPU_AHEAD_H
#define SD_TENSOR_CPU_AHEAD_H

#include <stdint.h>

/* `rows` rows of `width` bytes, `stride` bytes apart; `at` bytes of the first are done. All 0: nothing. */
struct sd_ahead {
    const char *row;
    int64_t stride, width, rows, at;
};

static inline __attribute__((always_inline)) void sd_ahead_fetch(struct sd_ahead *f, int64_t lines)
{
    for (; lines > 0 && f->rows > 0; lines--) {
        __builtin_prefetch(f->row + f->at, 0, 2);
        f->at += 64;
        if (f->at >= f->width) {
            f->at = 0;
            f->row += f->stride;
            f->rows--;
        }
    }
}

#endif
