/* The record: one JSON object a line, edited without touching what is not asked for (sd-record(5)).
 *
 * A record keeps the text it was read from. Members that are not set or removed are written back byte for
 * byte: their digits, spacing, escapes and order. New members go to the end; a member that is set keeps its
 * place. When a name occurs twice the last one counts.
 *
 * Strings hold bytes. Bytes that are not UTF-8 (file names may be anything) are written as the lone
 * surrogates \udc80 .. \udcff, one per byte, as Python's surrogateescape does, and read back to the same
 * bytes.
 *
 * What is returned is borrowed from the record and lives until it is read into again, reset or freed. */
#ifndef SD_RECORD_RECORD_H
#define SD_RECORD_RECORD_H

#include "base/buf.h"
#include "base/err.h"
#include "base/options.h" /* struct sd_strings */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sd_member {
    const char *name; /* decoded; not NUL-terminated */
    size_t name_len;
    const char *value; /* its JSON text */
    size_t value_len;
    const char *lead, *tail; /* private: the text around the value, from comma to comma */
    size_t lead_len, tail_len;
};

struct sd_record {    /* private but for count and members, which may be read */
    const char *line; /* the text it came from */
    size_t line_len, open_len, close_len;
    struct sd_member *members; /* owned */
    size_t count, cap;
    struct sd_record_text *texts; /* owned: decoded strings, new values, the copied line */
    struct sd_buf scratch;
    bool changed;
};

#define SD_RECORD_INIT ((struct sd_record){0})

/* ---- reading and writing ---- */

/* Reads one JSON object; the text is strictly checked (UTF-8 too; nesting to 512). The line is borrowed: it
 * must outlive the record's use. On failure the record is empty and err says at which byte and why. */
int sd_record_parse(struct sd_record *r, const char *line, size_t len, struct sd_err *err);

/* The same with a copy of the line, for records that are kept. */
int sd_record_parse_copy(struct sd_record *r, const char *line, size_t len, struct sd_err *err);

/* An empty object, for records made from nothing. */
void sd_record_reset(struct sd_record *r);
void sd_record_free(struct sd_record *r); /* an all-zero record is fine */

/* Appends the object's text, without a newline. */
int sd_record_write(const struct sd_record *r, struct sd_buf *out);

/* ---- getting ----
 * These return 1 when the member is there, 0 when it is absent or null (then nothing is stored),
 * -1 with err when it is of another type. */
const struct sd_member *sd_record_find(const struct sd_record *r,
                                       const char *name); /* null counts as absent */
/* A NUL-terminated string; its length goes to *len when len is not NULL, else a NUL byte in it is an error.
 */
int sd_record_string(struct sd_record *r, const char *name, const char **s, size_t *len, struct sd_err *err);
int sd_record_int(const struct sd_record *r, const char *name, int64_t *v, struct sd_err *err);
int sd_record_double(const struct sd_record *r, const char *name, double *v, struct sd_err *err);
int sd_record_bool(const struct sd_record *r, const char *name, bool *v, struct sd_err *err);
/* An array of exactly n integers, like [width, height]. */
int sd_record_ints(const struct sd_record *r, const char *name, int64_t *v, size_t n, struct sd_err *err);
/* An array of strings, or one string as a list of one: added to *list, whose v the caller frees. */
int sd_record_strings(struct sd_record *r, const char *name, struct sd_strings *list, struct sd_err *err);

/* Like sd_record_string, but absence is an error too ("no member \"path\""). 0 or -1. */
int sd_record_need_string(struct sd_record *r, const char *name, const char **s, struct sd_err *err);
int sd_record_need_int(const struct sd_record *r, const char *name, int64_t *v, struct sd_err *err);
int sd_record_need_ints(const struct sd_record *r, const char *name, int64_t *v, size_t n,
                        struct sd_err *err);

/* ---- setting: replaces the member in its place, or adds it at the end. 0, or -1 when memory is out. ---- */
int sd_record_set_string(struct sd_record *r, const char *name, const char *s);
int sd_record_set_bytes(struct sd_record *r, const char *name, const char *s, size_t len);
int sd_record_set_int(struct sd_record *r, const char *name, int64_t v);
int sd_record_set_double(struct sd_record *r, const char *name,
                         double v); /* shortest exact form; NaN, inf: null */
int sd_record_set_bool(struct sd_record *r, const char *name, bool v);
int sd_record_set_strings(struct sd_record *r, const char *name, const char *const *v, size_t n);
int sd_record_set_ints(struct sd_record *r, const char *name, const int64_t *v, size_t n);
int sd_record_set_raw(struct sd_record *r, const char *name, const char *json,
                      size_t len); /* valid JSON, unchecked */
int sd_record_remove(struct sd_record *r, const char *name);

/* ---- failure in band ---- */

/* Sets "error": {"tool": tool, "message": message}. */
int sd_record_set_error(struct sd_record *r, const char *tool, const char *message);
bool sd_record_failed(const struct sd_record *r); /* carries an error */

#endif
