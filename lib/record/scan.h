/* The JSON scanner under the record: walks over text without building anything, and turns strings into bytes
 * and back. Strict as RFC 8259 is; UTF-8 is checked on the way. */
#ifndef SD_RECORD_SCAN_H
#define SD_RECORD_SCAN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SD_SCAN_DEPTH = 512 };

struct sd_scan {
    const char *at, *end;
    const char *why; /* after a failure: what is wrong at at */
};

void sd_scan_space(struct sd_scan *s);
/* The colon behind a name, and white space on both sides of it; 0 or -1. */
int sd_scan_colon(struct sd_scan *s);

/* Each stands at the first byte of what it skips, and leaves at behind it. 0 or -1. */
int sd_scan_string(struct sd_scan *s, bool *escaped); /* escaped: it holds a backslash */
int sd_scan_value(struct sd_scan *s);

/* The bytes of a JSON string, text being what is between the quotes (already scanned). out needs len bytes;
 * what is written is never longer. Returns the length. \udc80..\udcff alone become bytes, other lone
 * surrogates U+FFFD. */
size_t sd_scan_unescape(char *out, const char *text, size_t len);

/* Appends s as a JSON string with its quotes; bytes that are not UTF-8 become \udcXX. 0 or -1. */
int sd_scan_quote(struct sd_buf *b, const char *s, size_t len);

/* Length of the valid UTF-8 sequence at p (1..4), or 0. */
size_t sd_utf8_sequence(const char *p, const char *end);

#endif
