/* Records put aside in a temporary file, for programs that must have seen all before they write the first:
 * memory does not grow with them (base/temp.h). */
#ifndef SD_RECORD_SPOOL_H
#define SD_RECORD_SPOOL_H

#include "record/record.h"

#include <stdio.h>

struct sd_spool {
    FILE *file; /* private, like the rest */
    uint64_t bytes;
    struct sd_buf text;
    char *line;
    size_t line_cap;
};

#define SD_SPOOL_INIT ((struct sd_spool){0})

int sd_spool_open(struct sd_spool *s, struct sd_err *err);
int sd_spool_add(struct sd_spool *s, const struct sd_record *r, struct sd_err *err);

/* The same with whole lines, each a record, that end in a newline. */
int sd_spool_add_lines(struct sd_spool *s, const char *lines, size_t len, struct sd_err *err);

/* Ends the adding: sd_spool_next begins with the first record. */
int sd_spool_rewind(struct sd_spool *s, struct sd_err *err);

/* Where the next record that is added will lie; and the same as sd_spool_rewind, beginning there. */
uint64_t sd_spool_place(const struct sd_spool *s);
int sd_spool_seek(struct sd_spool *s, uint64_t place, struct sd_err *err);

/* The next record, as it was added; it borrows its text until the next call. 1, 0 at the end, -1. */
int sd_spool_next(struct sd_spool *s, struct sd_record *r, struct sd_err *err);

void sd_spool_free(struct sd_spool *s);

#endif
