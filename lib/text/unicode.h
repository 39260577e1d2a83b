/* Text as code points, with the properties Python 3.11 gives them (Unicode 14).
 *
 * The tokenizers and the caption rules were written in Python, so its tables decide: characters newer than
 * Unicode 14 count as unassigned here whatever the installed libutf8proc knows.
 * A malformed byte sequence becomes U+FFFD, as in bytes.decode("utf-8", "replace"). */
#ifndef SD_TEXT_UNICODE_H
#define SD_TEXT_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A growing row of code points; {0} is an empty one, sd_unicode_release frees it. */
struct sd_unicode {
    uint32_t *cp;
    size_t len, cap;
};

enum sd_unicode_class { SD_UNICODE_OTHER, SD_UNICODE_LETTER, SD_UNICODE_NUMBER, SD_UNICODE_CONTROL };

void sd_unicode_release(struct sd_unicode *u);
int sd_unicode_push(struct sd_unicode *u, uint32_t cp, struct sd_err *err);

/* Appends the code points of UTF-8 text[len]. */
int sd_unicode_decode(const char *text, size_t len, struct sd_unicode *out, struct sd_err *err);

/* Reads one code point (or U+FFFD) at text[0] of len > 0 bytes; returns the bytes it took, 1 to 4. */
size_t sd_unicode_next(const char *text, size_t len, uint32_t *cp);

/* Writes cp as UTF-8; returns the bytes written, 1 to 4. */
size_t sd_unicode_encode(uint32_t cp, char out[4]);

/* The class of general category L, N or C (controls, formats, private use, unassigned), else OTHER. */
enum sd_unicode_class sd_unicode_class(uint32_t cp);

int sd_unicode_is_space(uint32_t cp);     /* str.isspace(), what str.split() and str.strip() take for blank */
int sd_unicode_is_separator(uint32_t cp); /* general category Zs */
int sd_unicode_is_word(uint32_t cp);      /* \w of Python's re */
int sd_unicode_digit(uint32_t cp);        /* value 0 to 9 of a \d of Python's re, -1 for anything else */

/* Appends cp[n] lower-cased as one string, str.lower(): capital sigma looks at its neighbours. */
int sd_unicode_lower(const uint32_t *cp, size_t n, struct sd_unicode *out, struct sd_err *err);

/* Normal form C, in place. */
int sd_unicode_nfc(struct sd_unicode *u, struct sd_err *err);

#endif
