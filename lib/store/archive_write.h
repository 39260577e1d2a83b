/* Writes tar (ustar, pax where it must) and zip (stored) archives that appear whole or not at all. The same
 * members in the same order give the same bytes: times, owners and modes are fixed. */
#ifndef SD_STORE_ARCHIVE_WRITE_H
#define SD_STORE_ARCHIVE_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sd_archive_writer;

/* The path ends in .tar or .zip, in any case. */
bool sd_archive_writer_takes(const char *path);

/* Other paths are an error. On failure *w is NULL. */
int sd_archive_writer_open(struct sd_archive_writer **w, const char *path, struct sd_err *err);

/* A member with these bytes. Names are the caller's to keep apart. After a failure only discard is left. */
int sd_archive_writer_add(struct sd_archive_writer *w, const char *name, const void *bytes, size_t len,
                          struct sd_err *err);

/* What the archive would have in bytes if it ended here; and at most more by one more member. */
uint64_t sd_archive_writer_size(const struct sd_archive_writer *w);
uint64_t sd_archive_writer_more(const char *name, uint64_t len);

/* Ends and frees *w in every case and sets it to NULL. */
int sd_archive_writer_commit(struct sd_archive_writer **w, struct sd_err *err);
void sd_archive_writer_discard(struct sd_archive_writer **w); /* takes a pointer to NULL */

#endif
