/* Pieces of text: views of UTF-8 bytes that somebody else owns, with Python's split, strip and replace. */
#ifndef SD_TEXT_STR_H
#define SD_TEXT_STR_H

#include <stddef.h>

#include "base/buf.h"

struct sd_str {
    const char *data;
    size_t len;
};

/* A view of a C string; NULL reads as "". */
struct sd_str sd_str_of(const char *s);

/* Place of the first `needle` at `from` or later, or SIZE_MAX. */
size_t sd_str_find(struct sd_str s, struct sd_str needle, size_t from);

int sd_str_starts(struct sd_str s, struct sd_str start);
int sd_str_ends(struct sd_str s, struct sd_str end);

/* s without blanks at both ends: str.strip(). */
struct sd_str sd_str_strip(struct sd_str s);

/* Takes the piece before the first separator off rest; the last piece leaves rest.data NULL, and then there
 * are no more: while (sd_str_cut(&rest, sep, &piece)) sees the pieces of str.split(sep). */
int sd_str_cut(struct sd_str *rest, struct sd_str separator, struct sd_str *piece);

/* Replaces every `from`, which is not empty, by `to` in text: str.replace. -1 when memory is out. */
int sd_str_replace(struct sd_buf *text, struct sd_str from, struct sd_str to);

#endif
