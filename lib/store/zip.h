/* Zip archives as numpy and PyTorch write them: members stored or deflated, zip64 where needed. Everything
 * about a member is checked before it is handed out; reading checks the CRC and stops at the stated size. */
#ifndef SD_STORE_ZIP_H
#define SD_STORE_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct sd_zip;

struct sd_zip_member {
    const char *name;            /* without NUL inside; as in the archive, bytes */
    const unsigned char *packed; /* where its bytes lie in the file */
    uint64_t packed_size, size;  /* in the file, and unpacked */
    uint64_t offset;             /* of packed in the file */
    uint32_t crc;
    bool deflated;
};

/* On failure *z is NULL. Only the directory is read. */
int sd_zip_open(struct sd_zip **z, const char *path, struct sd_err *err);
int sd_zip_parse(struct sd_zip **z, const void *bytes, size_t size, const char *name, struct sd_err *err);
void sd_zip_close(struct sd_zip *z); /* takes NULL */

const char *sd_zip_path(const struct sd_zip *z);
size_t sd_zip_count(const struct sd_zip *z);
const struct sd_zip_member *sd_zip_member(const struct sd_zip *z, size_t i);

/* The first n bytes of a member, fewer if it is shorter, without the CRC. Returns how many, or -1. */
int64_t sd_zip_peek(const struct sd_zip *z, const struct sd_zip_member *m, void *out, size_t n,
                    struct sd_err *err);

/* The bytes of a member from skip to its end, which must be n, into out; checks the CRC of all of it. */
int sd_zip_read(const struct sd_zip *z, const struct sd_zip_member *m, uint64_t skip, void *out, size_t n,
                struct sd_err *err);

#endif
