/* The members of one JSON object that may be larger than memory, one after the other. What is kept is one
 * member and a block of what follows it.
 *
 * The text is checked as strictly as a record's: RFC 8259, UTF-8, nesting to 512. A byte order mark at the
 * start is tolerated. */
#ifndef SD_RECORD_MEMBERS_H
#define SD_RECORD_MEMBERS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SD_MEMBERS_LIMIT = 64 << 20 }; /* bytes of one member, unless told otherwise */

/* Gives up to n bytes: how many, 0 at the end, -1 with errno. */
typedef ssize_t sd_members_read_fn(void *ctx, void *bytes, size_t n);

struct sd_members { /* private; set up by sd_members_init */
    sd_members_read_fn *read;
    void *ctx;
    size_t limit;
    struct sd_buf in, name;
    size_t at;     /* the next byte of in */
    uint64_t past; /* bytes before in */
    int state;
    bool eof;
};

struct sd_members_item {
    const char *name; /* decoded, NUL-terminated; may hold NULs */
    size_t name_len;
    const char *value; /* its JSON text */
    size_t value_len;
    uint64_t at; /* where in the input name and value stand: at the name's quote, len bytes */
    size_t len;
};

/* limit 0: SD_MEMBERS_LIMIT. */
void sd_members_init(struct sd_members *m, sd_members_read_fn *read, void *ctx, size_t limit);

/* 1 with the next member, which is borrowed until the next call; 0 behind the last; -1 with err, which says
 * what is wrong at which byte, and in which member. After 0 or -1 there is nothing more to read. */
int sd_members_next(struct sd_members *m, struct sd_members_item *item, struct sd_err *err);

/* Reads the len bytes of an item's `"name": value`, as they stood at `at`; name is emptied and holds the
 * decoded name. 0, or -1 when they are none, or memory is out. */
int sd_members_scan(const char *text, size_t len, struct sd_buf *name, struct sd_members_item *item);

void sd_members_free(struct sd_members *m);

#endif
