#include "base/base64.h"

#include <stdint.h>

int sd_base64_add(struct sd_buf *out, const void *bytes, size_t len)
{
    static const char digits[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes;
    if (len > SIZE_MAX / 4 * 3 - 3 || sd_buf_reserve(out, (len + 2) / 3 * 4))
        return -1;
    char *to = out->data + out->len;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t v = (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = n > 1 ? digits[v >> 6 & 63] : '=';
        *to++ = n > 2 ? digits[v & 63] : '=';
    }
    *to = 0;
    out->len = (size_t)(to - out->data);
    return 0;
}
