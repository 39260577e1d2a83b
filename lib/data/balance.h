/* How often training shows each regularisation picture, as sd-scripts works it out (library/train_util.py
 * DreamBoothDataset.__init__), for each data set by itself.
 *
 * N is the sum of the training pictures' repeats. Regularisation pictures are taken in their order, each with
 * its own repeats, until these make N or more; those behind are not used. Where all of them are less than N,
 * they get one repeat more each, in turns, until they make N. */
#ifndef SD_DATA_BALANCE_H
#define SD_DATA_BALANCE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sd_balance_set { /* one data set */
    int64_t index;
    uint64_t train, reg; /* sums of repeats */
    uint64_t reg_pictures;
    uint64_t unused;       /* regularisation pictures, so far */
    uint64_t given, taken; /* private: repeats and pictures that sd_balance_next has passed */
};

struct sd_balance {              /* all zero at first */
    struct sd_balance_set *sets; /* sorted by index */
    size_t n;
};

/* First all pictures are counted; several threads each count into their own, and these are merged. 0, or -1
 * when memory is out. */
int sd_balance_count(struct sd_balance *b, int64_t index, bool reg, int64_t repeats);
int sd_balance_merge(struct sd_balance *into, const struct sd_balance *from);

/* Then each regularisation picture, in order, with the repeats it was counted with, gets its own; 0 means
 * that it is not used. */
int64_t sd_balance_next(struct sd_balance *b, int64_t index, int64_t repeats);

void sd_balance_free(struct sd_balance *b);

#endif
