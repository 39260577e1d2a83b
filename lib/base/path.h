/* Names of files: bytes, never text. */
#ifndef SD_BASE_PATH_H
#define SD_BASE_PATH_H

#include "base/buf.h"

#include <stdbool.h>

/* The part behind the last '/'. */
const char *sd_path_base(const char *path);

/* What goes between a folder as the user gave it and a name in it: "/", or "" where it ends in one. */
const char *sd_path_slash(const char *folder);

/* Length of the path without the ending of its last part: "a.b/c.d.png" -> "a.b/c.d". A name that only begins
 * with a dot has no ending, as in Python's os.path.splitext. */
size_t sd_path_stem_len(const char *path);

/* Appends the path with its ending replaced by ending (".txt"); the sidecar of a picture. 0 or -1. */
int sd_path_sidecar(struct sd_buf *out, const char *path, const char *ending);

/* Ends as archives do: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, .tar.zst, in any case. */
bool sd_path_is_archive(const char *path, size_t len);

/* Appends bytes for people to read: control characters as \xNN, so that no name can drive a terminal. 0 or
 * -1. */
int sd_path_visible(struct sd_buf *out, const char *s, size_t len);

#endif
