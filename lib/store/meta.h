/* The metadata of a file that is to be written: a growing list of pairs, which the writers of store/ take as
 * v and n. */
#ifndef SD_STORE_META_H
#define SD_STORE_META_H

#include <stdbool.h>

#include "base/arena.h"
#include "store/tensor_file.h"

/* Keys and values are copied. The first failure, which is lack of memory, sticks. */
struct sd_meta {
    struct sd_store_meta *v;
    size_t n;
    bool failed;
    struct sd_arena arena; /* what lives as long as the list; cap is private */
    size_t cap;
};

void sd_meta_set(struct sd_meta *m, const char *key, const char *value); /* replaces; NULL leaves it out */
void sd_meta_set_float(struct sd_meta *m, const char *key, double v);    /* as Python's str(float) */
void sd_meta_set_int(struct sd_meta *m, const char *key, int64_t v);
void sd_meta_drop(struct sd_meta *m, const char *key);
void sd_meta_copy(struct sd_meta *m, const struct sd_tensor_file *tf); /* all of a file's */
void sd_meta_free(struct sd_meta *m);

#endif
