/* What toml.c (names, tables, the document) and toml_value.c (what stands behind '=') share. */
#ifndef SD_TEXT_TOML_PRIVATE_H
#define SD_TEXT_TOML_PRIVATE_H

#include "text/strmap.h"
#include "text/toml.h"

enum sd_toml_state {
    SD_TOML_IMPLICIT, /* a table that only stands in the way to another one */
    SD_TOML_HEADER,   /* [name] */
    SD_TOML_DOTTED,   /* made by a dotted name, in value.section */
    SD_TOML_TABLES,   /* the array of [[name]] */
    SD_TOML_CLOSED,   /* written as a value: nothing can be added later */
};

struct sd_toml {
    struct sd_arena *arena;
    const char *at, *end;
    unsigned line;
    struct sd_place seen; /* the place of seen_at, from where columns are counted on */
    const char *seen_at;
    struct sd_strmap items; /* from a table's id and a name to the index in all */
    struct sd_value_item **all;
    size_t n_all, cap_all;
    uint32_t tables, section;
    int depth;
    struct sd_buf scratch;
    struct sd_err *err;
};

struct sd_place sd_toml_place(struct sd_toml *t); /* of t->at */
int sd_toml_fail(struct sd_toml *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* at t->at */
int sd_toml_fail_at(struct sd_toml *t, struct sd_place place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void sd_toml_skip_blanks(struct sd_toml *t); /* spaces and tabs */
int sd_toml_skip_comment(struct sd_toml *t); /* where there is one, up to the line's end */
bool sd_toml_newline(struct sd_toml *t);     /* takes one, where there is one */
int sd_toml_skip_lines(struct sd_toml *t);   /* blanks, comments, line ends */

/* Each reads what stands at t->at. */
int sd_toml_value(struct sd_toml *t, struct sd_value *v);
int sd_toml_number(struct sd_toml *t, struct sd_value *v); /* numbers, dates, times */
int sd_toml_string(struct sd_toml *t, bool lines,
                   struct sd_str *s);                        /* any of the four; lines: """ and ''' too */
int sd_toml_pair(struct sd_toml *t, struct sd_value *table); /* name = value */

int sd_toml_digit(char c, int base); /* its value, or -1 */

void sd_toml_new_table(struct sd_toml *t, struct sd_value *v, enum sd_toml_state state);

/* A new item at the end of an array or, with a name, of a table. NULL when memory is out. */
struct sd_value_item *sd_toml_append(struct sd_toml *t, struct sd_value *parent, const struct sd_str *name);

#endif
