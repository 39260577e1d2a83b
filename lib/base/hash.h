/* SHA-256 (FIPS 180-4), and FNV-1a for tables in memory. */
#ifndef SD_BASE_HASH_H
#define SD_BASE_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { SD_SHA256_BYTES = 32 };

void sd_sha256_sum(const void *bytes, size_t len, unsigned char sum[SD_SHA256_BYTES]);

/* hex receives 64 lower-case digits and a NUL. */
void sd_sha256(const void *bytes, size_t len, char hex[65]);
/* The same of a mapping's bytes, whose pages are given back on the way (base/filemap.h). */
void sd_sha256_mapped(const void *bytes, size_t len, char hex[65]);
int sd_sha256_fd(int fd, char hex[65], struct sd_err *err); /* from the file's position to its end */

/* FNV-1a, 64 bits (Fowler, Noll and Vo). In the header, so that who uses it alone needs no library. */
static inline uint64_t sd_fnv1a(const void *bytes, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* The same, finished so that the low bits depend on all others: for tables of a power of two. */
static inline uint64_t sd_fnv1a_low(const void *bytes, size_t len)
{
    uint64_t h = sd_fnv1a(bytes, len);
    return h ^ h >> 32;
}

#endif
