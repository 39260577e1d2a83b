/* Writes zip archives of stored members; zip64 where sizes, offsets or the count ask for it. Times are all
 * 1 January 1980, so that the same content gives the same archive. */
#ifndef SD_STORE_ZIP_WRITE_H
#define SD_STORE_ZIP_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/buf.h"

struct sd_zip_writer {
    struct sd_atomic *file; /* the caller's, empty at first; or NULL, and it all goes to memory */
    struct sd_buf *memory;  /* likewise */
    uint32_t mode;          /* of the members, as stat(2) has it; below 0x10000 */
    bool zip64;             /* sizes go to a zip64 field in every local header, as NumPy asks Python to */
    unsigned align; /* 2^n: the bytes of members begin at multiples of it, as torch.save has it; or 0 */
    struct sd_buf directory, scratch; /* private, like the rest; freed by sd_zip_write_free */
    uint64_t count;
    size_t entry; /* of the member that was begun, in the directory */
    uint64_t left, size;
    uint32_t crc;
    bool begun;
};

/* The member's header; its `size` bytes, which have this CRC, must be written next. The name has at most
 * 65535 bytes. */
int sd_zip_write_member(struct sd_zip_writer *w, const char *name, uint32_t crc, uint64_t size,
                        struct sd_err *err);

/* The same for a member whose CRC is not known yet: it is told behind its bytes. sd_zip_write_finish must
 * follow those.
 */
int sd_zip_write_begin(struct sd_zip_writer *w, const char *name, uint64_t size, struct sd_err *err);
int sd_zip_write_finish(struct sd_zip_writer *w, struct sd_err *err);

/* Bytes of the member, to where the header went. */
int sd_zip_write_bytes(struct sd_zip_writer *w, const void *bytes, size_t len, struct sd_err *err);

/* The directory, after the last member. */
int sd_zip_write_end(struct sd_zip_writer *w, struct sd_err *err);
void sd_zip_write_free(struct sd_zip_writer *w);

#endif
