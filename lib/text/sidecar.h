/* Text files beside pictures: captions and tags. */
#ifndef SD_TEXT_SIDECAR_H
#define SD_TEXT_SIDECAR_H

#include "base/buf.h"
#include "base/err.h"
#include "base/options.h" /* struct sd_strings */

enum { SD_SIDECAR_BYTES = 16 << 20 }; /* larger files are refused */

/* Reads the file beside image_path whose name has ending in place of the picture's (".txt"): UTF-8, a byte
 * order mark is skipped, text is emptied first. path receives the file's name. 1, 0 when there is no such
 * file, -1 with err (which names the file): unreadable, not UTF-8, a NUL byte in it. */
int sd_sidecar_read(const char *image_path, const char *ending, struct sd_buf *path, struct sd_buf *text,
                    struct sd_err *err);

/* What it does with bytes once read: refuses what is no text, takes a byte order mark away. */
int sd_sidecar_check(struct sd_buf *text, struct sd_err *err);

/* The same for a file whose name is known. */
int sd_sidecar_read_file(const char *path, struct sd_buf *text, struct sd_err *err);

/* Cuts the text at every one of the separators (a set of ASCII characters, like ",\n") and adds the parts
 * that are not empty once stripped to list. They are ended with NULs in place: text[len] must be writable. 0,
 * or -1 when memory is out. */
int sd_text_split(char *text, size_t len, const char *separators, struct sd_strings *list);

#endif
