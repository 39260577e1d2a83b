/* Bytes put aside one after another, to be read again from anywhere: the last few lie in memory, those before
 * in a temporary file (base/temp.h), which is made when it is first needed. */
#ifndef SD_BASE_SPILL_H
#define SD_BASE_SPILL_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct sd_spill { /* private; all zero at first */
    struct sd_buf tail;
    uint64_t written; /* bytes in the file */
    int fd;
    bool open;
};

/* Appends len bytes. After a failure (SD_ERR_MACHINE) nothing but sd_spill_free makes sense. */
int sd_spill_add(struct sd_spill *s, const void *bytes, size_t len, struct sd_err *err);

/* Reads n bytes from offset `at`; *got is less than n only where the bytes end. */
int sd_spill_read(const struct sd_spill *s, uint64_t at, void *bytes, size_t n, size_t *got,
                  struct sd_err *err);

void sd_spill_free(struct sd_spill *s);

#endif
