/* Frozen variables as dense memory of a wanted type on the host, converted at most once. */
#ifndef SD_TENSOR_FROZEN_H
#define SD_TENSOR_FROZEN_H

#include "tensor/graph.h"

struct sd_frozen_entry;

struct sd_frozen {
    struct sd_frozen_entry *list; /* private */
    size_t bytes;                 /* held in converted copies */
};

/* The stored bytes themselves when the type is already right, else a converted copy owned by f. */
const void *sd_frozen_get(struct sd_frozen *f, const struct sd_var *var, enum sd_dtype dtype,
                          struct sd_err *err);
void sd_frozen_free(struct sd_frozen *f);

/* Tells the system that a mapped variable's pages are not needed soon: they leave the process's resident set
 * and come back from the file if read again. Does nothing for memory that is not a file mapping. */
void sd_var_drop_pages(const struct sd_var *var);

int64_t sd_var_count(const struct sd_var *var);

#endif
