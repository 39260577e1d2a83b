/* Zip archives (PKWARE's APPNOTE 6.3): members stored or deflated, zip64 where needed. Everything about a
 * member is checked before it is handed out; reading checks the CRC and stops at the stated size. An open
 * archive keeps four bytes a member; it does not change, so that threads may share it. */
#ifndef SD_STORE_ZIP_H
#define SD_STORE_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sd_zip;

struct sd_zip_member {
    const char *name; /* bytes, as in the archive: no NUL inside, and none behind */
    size_t name_len;
    const unsigned char *packed; /* where its bytes lie in the file */
    uint64_t packed_size, size;  /* in the file, and unpacked */
    uint64_t offset;             /* of packed in the file */
    uint32_t crc;
    uint32_t mode; /* file type and permissions as stat(2) has them, or 0 where no Unix wrote the archive */
    bool deflated;
};

/* On failure *z is NULL. Only the directory is read. Members that overlap are refused: nothing honest makes
 * them, and bombs are made of them. sd_zip_parse borrows the bytes until sd_zip_close; mapped says that they
 * are a file's (base/filemap.h), of which pages may be let go. */
int sd_zip_open(struct sd_zip **z, const char *path, struct sd_err *err);
int sd_zip_parse(struct sd_zip **z, const void *bytes, size_t size, bool mapped, const char *name,
                 struct sd_err *err);
void sd_zip_close(struct sd_zip *z); /* takes NULL */

const char *sd_zip_path(const struct sd_zip *z);
size_t sd_zip_count(const struct sd_zip *z);

/* Of a member, messages name neither it nor the archive. */

/* Member i < count, in the order of the directory. On failure (encrypted, another compression, sizes that
 * cannot be, not where it should be) the name is set, but is empty where it holds a NUL. */
int sd_zip_member(const struct sd_zip *z, size_t i, struct sd_zip_member *m, struct sd_err *err);

/* Its name alone, unchecked. */
const char *sd_zip_name(const struct sd_zip *z, size_t i, size_t *len);

/* The first n bytes of a member, fewer if it is shorter, without the CRC. Returns how many, or -1. */
int64_t sd_zip_peek(const struct sd_zip_member *m, void *out, size_t n, struct sd_err *err);

/* The bytes of a member from skip to its end, which must be n, into out; checks the CRC of all of it. */
int sd_zip_read(const struct sd_zip_member *m, uint64_t skip, void *out, size_t n, struct sd_err *err);

/* Checks the CRC of a member that is stored. */
int sd_zip_check(const struct sd_zip_member *m, struct sd_err *err);

#endif
