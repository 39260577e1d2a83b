/* Tar archives: reading plain ustar, pax (POSIX.1-2001), GNU and the older form without a magic; writing
 * ustar, with pax headers where a name or a size does not fit it. */
#ifndef SD_STORE_TAR_H
#define SD_STORE_TAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { SD_TAR_BLOCK = 512, SD_TAR_NAME = 4096 }; /* longer names are refused */

struct sd_tar_entry {
    uint64_t start;      /* of its first header, where sd_tar_next reads it again */
    uint64_t data, size; /* its bytes lie inside the archive, always */
    uint64_t next;       /* where the next entry begins */
    bool folder;
    const char *problem; /* why it is nothing to read ("a link, ..."), or NULL */
};

/* Reads the entry at `at` of an archive of `size` bytes; name receives its name, as it stands. 1; 0 at the
 * end of the archive; -1 with err where nothing after `at` can be trusted: a wrong checksum, a size that
 * leads out of the file, a file without an end mark. */
int sd_tar_next(const unsigned char *bytes, uint64_t size, uint64_t at, struct sd_tar_entry *e,
                struct sd_buf *name, struct sd_err *err);

/* True for a block that is a header with the right checksum. */
bool sd_tar_is_header(const unsigned char block[SD_TAR_BLOCK]);

/* Appends the header of a file: owner 0, mode 644, time 0, so that the same content gives the same archive.
 * `size` bytes must follow, then zeros up to a whole block; sd_tar_end ends the archive. 0, or -1 when memory
 * is out. */
int sd_tar_header(struct sd_buf *out, const char *name, uint64_t size);
int sd_tar_end(struct sd_buf *out, uint64_t archive_size);

#endif
