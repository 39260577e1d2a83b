/* A file mapped read-only into memory. An empty file is valid: size 0 and a data pointer that is not NULL. */
#ifndef SD_BASE_FILEMAP_H
#define SD_BASE_FILEMAP_H

#include <stddef.h>

#include "base/err.h"

struct sd_filemap {
    const unsigned char *data; /* valid until sd_filemap_close; a file cut short meanwhile raises SIGBUS */
    size_t size;
};

/* Maps a regular file; a folder, pipe or device is an error. Nothing is read yet. The message names the file.
 */
int sd_filemap_open(struct sd_filemap *m, const char *path, struct sd_err *err);
void sd_filemap_close(struct sd_filemap *m); /* takes a zeroed struct */

/* Tells the kernel that the whole pages inside [p, p+bytes), part of a mapping, are not needed for now. They
 * stop counting as this process's memory and are read again when touched. */
void sd_filemap_release(const void *p, size_t bytes);

#endif
