/* TOML 1.0 (https://toml.io/en/v1.0.0), read into a tree of values. Debian 12 has no C library that does.
 *
 * Strict: UTF-8 (a byte order mark at the start is skipped), whole numbers of 64 bits, every date there is in
 * the calendar from the year 1 on. What Python's tomllib refuses is refused, and the other way round, but for
 * whole numbers beyond 64 bits. (sd-scripts reads with the package toml 0.10.2, which knows TOML 0.5: arrays
 * of mixed types, for one, are refused there.) */
#ifndef SD_TEXT_TOML_H
#define SD_TEXT_TOML_H

#include "base/arena.h"
#include "text/value.h"

enum {
    SD_TOML_BYTES = 16 << 20, /* longer texts are refused */
    SD_TOML_DEPTH = 128,      /* so are tables and arrays nested deeper, dotted names counted part by part */
};

/* Reads text[len] into *root, a table. The tree lives in arena and borrows nothing from the text. -1 with
 * err, "line L, column C: what is wrong". */
int sd_toml_parse(struct sd_arena *arena, const char *text, size_t len, struct sd_value *root,
                  struct sd_err *err);

/* Appends s as a basic string with its quotes: valid UTF-8 becomes valid TOML. 0, or -1 when memory is out.
 */
int sd_toml_add_string(struct sd_buf *out, const char *s, size_t len);

/* The same for a name, without quotes where it needs none. */
int sd_toml_add_name(struct sd_buf *out, const char *s, size_t len);

#endif
