/* Strict doors around cJSON: text that must be one whole JSON value, members that must be of a kind, and
 * strings written as JSON. The trees are cJSON's own; free them with cJSON_Delete. */
#ifndef SD_BASE_JSON_H
#define SD_BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Parses len bytes holding one JSON value and nothing after it but white space. Also refused: invalid UTF-8,
 * NUL in strings, nesting beyond 1000, and more than 65536 values where they are one in less than 4 bytes
 * (long lists of digits), so that a tree never takes more than about 30 times its text. NULL on failure; the
 * message tells the byte, not the file. */
cJSON *sd_json_parse(const char *text, size_t len, struct sd_err *err);

/* The same for a file of at most 64 MiB; the message names the file. */
cJSON *sd_json_read(const char *path, struct sd_err *err);

/* Member of an object, NULL when absent or null. Names are case-sensitive. */
const cJSON *sd_json_get(const cJSON *object, const char *name);

/* True when item is a number without fraction in 0 .. 2^53, which goes to *out. */
bool sd_json_uint(const cJSON *item, uint64_t *out);

/* A member with a default for when it is absent. The message is "name: found, expected". */
int sd_json_get_int(const cJSON *object, const char *name, int64_t min, int64_t max, int64_t *out,
                    struct sd_err *err);
int sd_json_get_double(const cJSON *object, const char *name, double *out, struct sd_err *err);
int sd_json_get_bool(const cJSON *object, const char *name, bool *out, struct sd_err *err);

/* Appends s as a JSON string with its quotes, escaping only what JSON demands (\" \\ and control characters).
 */
int sd_json_add_string(struct sd_buf *b, const char *s, size_t len);

/* The shortest text that reads back as v: a JSON number, or null for what JSON has none for. Returns text. */
enum { SD_JSON_DOUBLE_BYTES = 40 };
const char *sd_json_double(char text[SD_JSON_DOUBLE_BYTES], double v);

/* True when the bytes are valid UTF-8 (no overlong forms, no surrogates). */
bool sd_utf8_valid(const char *s, size_t len);

#endif
