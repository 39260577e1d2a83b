/* SHA-256 (FIPS 180-4). */
#ifndef SD_BASE_HASH_H
#define SD_BASE_HASH_H

#include "base/err.h"

#include <stddef.h>

/* hex receives 64 lower-case digits and a NUL. */
int sd_sha256(const void *bytes, size_t len, char hex[65], struct sd_err *err);
int sd_sha256_fd(int fd, char hex[65], struct sd_err *err); /* from the file's position to its end */

#endif
