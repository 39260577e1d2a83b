/* Records made of many numbered things (files, entries) in parallel, and written in their order. For programs
 * that make millions of records, and write their text themselves. */
#ifndef CMD_MANY_H
#define CMD_MANY_H

#include "cmd.h"

struct cmd_lines {          /* what becomes of some things in a row */
    struct sd_buf lines;    /* whole records */
    struct sd_buf messages; /* private: NUL-terminated, one after the other */
    struct sd_buf aside;    /* goes to `aside` */
    size_t records;
    int status;
};

struct cmd_many {
    size_t n;
    /* Adds the record of thing i to out->lines and counts it; worker is 0 .. jobs-1, for scratch. */
    void (*work)(void *ctx, int worker, size_t i, struct cmd_lines *out);
    void (*aside)(void *ctx, const char *text, size_t len); /* NULL: nothing is put aside */
    void *ctx;
};

/* Does them all, unless the program is stopped. Ends the program when memory is out. */
void cmd_many(struct sd_cmd *c, const struct cmd_many *m);

/* Reports "path: message" in its turn and notes the status. */
void cmd_lines_fail(struct cmd_lines *out, const char *path, const struct sd_err *err);

#endif
