/* A file that appears whole or not at all.
 *
 * The bytes go to a nameless file in the target's folder (O_TMPFILE), which gets its name only when it is
 * complete and on disk: a program that stops on the way, however it is killed, leaves nothing behind. Where
 * the file system cannot do that, a hidden named file stands in; sd_atomic_discard removes it. A target that
 * exists is replaced in one step and hands on its permissions, a symbolic link is followed, and a target that
 * is not a regular file (/dev/null, a pipe) is written directly. */
#ifndef SD_BASE_ATOMIC_H
#define SD_BASE_ATOMIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sd_atomic; /* a file being written */

/* The error names path. On failure *a is NULL. */
int sd_atomic_open(struct sd_atomic **a, const char *path, struct sd_err *err);
int sd_atomic_write(struct sd_atomic *a, const void *bytes, size_t len, struct sd_err *err); /* buffered */

/* Commits from now on leave it to the kernel when the bytes reach the disk: for many small files that can be
 * made again. */
void sd_atomic_unsynced(struct sd_atomic *a);
uint64_t sd_atomic_size(const struct sd_atomic *a); /* bytes written so far */

/* Writes what is buffered, syncs, names the file. Ends and frees *a in every case and sets it to NULL; on
 * failure nothing has changed at path. */
int sd_atomic_commit(struct sd_atomic **a, struct sd_err *err);

/* Forgets the file. Takes a pointer to NULL, so it may follow a commit in a common cleanup path. */
void sd_atomic_discard(struct sd_atomic **a);

/* All of the above for bytes already in memory. */
int sd_atomic_put(const char *path, const void *bytes, size_t len, struct sd_err *err);

#endif
