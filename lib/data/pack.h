/* Data sets in archives, as the webdataset package reads them: the files of one sample follow each other and
 * share a key, which is their name up to the first dot behind the last slash. */
#ifndef SD_DATA_PACK_H
#define SD_DATA_PACK_H

#include "base/buf.h"
#include "base/err.h"
#include "base/seen.h"
#include "record/record.h"

/* ---- names ---- */

struct sd_pack_name {
    struct sd_buf key;  /* "photos/a" */
    const char *ending; /* ".png", in the path; "" where it has none */
    bool changed;       /* it is not what the path says: a dot went, or a number came */
};

/* The name for the picture at path: the path, or what follows `folder` in it (NULL: all), or the name inside
 * the archive it comes from; without a slash in front, "." and ".."; dots in the file's stem become "_". A
 * key that is in `seen`, which gets it, is numbered: "photos/a-2". 0 or -1. */
int sd_pack_name(struct sd_pack_name *n, const char *path, const char *folder, struct sd_seen *seen,
                 struct sd_err *err);

/* ---- other files of the sample ---- */

/* Appends the text of the first of the members (names separated by commas) that the record has: a string, an
 * array of strings (captions a line each, others separated by ", "), or another value's JSON; for the name
 * "record" all of it as JSON. 1, 0 when there is none of them, -1. */
int sd_pack_text(struct sd_record *r, const char *members, struct sd_buf *out, struct sd_err *err);

/* The way back: what the text of a sample's .json and .txt, each NULL when there is none, adds to the record.
 * Members that it has stay; "path" and "error" are never taken. The text is its caption when it then has
 * neither caption nor tags. */
int sd_pack_merge(struct sd_record *r, const struct sd_buf *json, const struct sd_buf *text,
                  struct sd_err *err);

#endif
