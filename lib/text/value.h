/* A document as a tree of values, whatever it was written in (text/toml.h; JSON in data/config_json.c). All
 * of it lives in one arena. */
#ifndef SD_TEXT_VALUE_H
#define SD_TEXT_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/str.h"

enum sd_value_type {
    SD_VALUE_NULL, /* JSON only */
    SD_VALUE_BOOL,
    SD_VALUE_INT,
    SD_VALUE_FLOAT,
    SD_VALUE_STRING,
    SD_VALUE_TIME, /* a date, a time or both: its text */
    SD_VALUE_ARRAY,
    SD_VALUE_TABLE,
};

struct sd_place { /* both from 1; columns count characters */
    unsigned line, column;
};

struct sd_value {
    enum sd_value_type type;
    struct sd_place place;
    union {
        bool b;
        int64_t i;
        double f;
        struct sd_str s; /* string, time; NUL-terminated, may hold NULs */
        struct {         /* array, table: in the document's order */
            struct sd_value_item *first, *last;
            size_t n;
        };
    };
    uint32_t id, section; /* private to the reader, like state */
    unsigned char state;
};

struct sd_value_item {
    struct sd_str name;    /* in a table; NUL-terminated, may hold NULs */
    struct sd_place place; /* of the name */
    struct sd_value value;
    struct sd_value_item *next;
};

/* The table's item of this name, or NULL. Looks at one after the other. */
const struct sd_value_item *sd_value_find(const struct sd_value *table, const char *name);

/* "a string", "a whole number", ... for messages. */
const char *sd_value_type_name(enum sd_value_type type);

/* Appends the value as JSON on one line; times are strings. An infinite number or NaN is an error, which
 * tells its place. */
int sd_value_json(const struct sd_value *v, struct sd_buf *out, struct sd_err *err);

#endif
