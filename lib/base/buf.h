/* A growing string of bytes. data is NUL-terminated once anything was added; the NUL is not counted in len.
 */
#ifndef SD_BASE_BUF_H
#define SD_BASE_BUF_H

#include <stddef.h>

struct sd_buf {
    char *data; /* owned; NULL while empty */
    size_t len, cap;
};

#define SD_BUF_INIT ((struct sd_buf){0})

/* All return 0, or -1 when memory is out; the buffer is then unchanged. */
int sd_buf_reserve(struct sd_buf *b, size_t extra); /* room for extra more bytes and a NUL */
int sd_buf_add(struct sd_buf *b, const void *bytes, size_t len);
int sd_buf_adds(struct sd_buf *b, const char *s);
int sd_buf_addc(struct sd_buf *b, char c);
int sd_buf_addf(struct sd_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sd_buf_clear(struct sd_buf *b); /* length 0, memory kept */
void sd_buf_free(struct sd_buf *b);

#endif
