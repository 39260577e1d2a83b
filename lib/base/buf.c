#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sd_buf_reserve(struct sd_buf *b, size_t extra)
{
    if (extra >= SIZE_MAX / 2 - b->len)
        return -1;
    size_t need = b->len + extra + 1;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    char *p = realloc(b->data, cap);
    if (!p)
        return -1;
    b->data = p;
    b->cap = cap;
    return 0;
}

int sd_buf_add(struct sd_buf *b, const void *bytes, size_t len)
{
    if (sd_buf_reserve(b, len))
        return -1;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    b->data[b->len] = 0;
    return 0;
}

int sd_buf_adds(struct sd_buf *b, const char *s)
{
    return sd_buf_add(b, s, strlen(s));
}

int sd_buf_addc(struct sd_buf *b, char c)
{
    return sd_buf_add(b, &c, 1);
}

int sd_buf_addf(struct sd_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || sd_buf_reserve(b, (size_t)n))
        return -1;
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return 0;
}

void sd_buf_clear(struct sd_buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = 0;
}

void sd_buf_free(struct sd_buf *b)
{
    free(b->data);
    *b = SD_BUF_INIT;
}
