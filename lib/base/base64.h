/* Base64 (RFC 4648, section 4, with padding). */
#ifndef SD_BASE_BASE64_H
#define SD_BASE_BASE64_H

#include "base/buf.h"

/* Appends the bytes as base64, in one line. 0, or -1 when memory is out. */
int sd_base64_add(struct sd_buf *out, const void *bytes, size_t len);

#endif
