/* Whole files in memory. */
#ifndef SD_BASE_FILE_H
#define SD_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the file's bytes; at most max of them, or it is an error. Folders, pipes and devices are refused.
 * The message does not name the file. dirfd as in openat(2): AT_FDCWD for names as they are. */
int sd_file_read_at(int dirfd, const char *path, size_t max, struct sd_buf *out, struct sd_err *err);

/* The same with the path before the message. */
int sd_file_read(const char *path, size_t max, struct sd_buf *out, struct sd_err *err);

#endif
