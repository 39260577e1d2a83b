#include "image/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A file of which a window lies in memory. */
struct source {
    int fd;              /* -1: all of it is in memory */
    uint8_t *buf;        /* SD_IMAGE_PROBE_BYTES of scratch when fd is used */
    const uint8_t *data; /* the window */
    uint64_t start, len; /* where it lies in the file */
    uint64_t size;       /* of the file */
};

static int fill_window(struct source *s, uint64_t offset, struct sd_err *err)
{
    ssize_t n;
    do
        n = pread(s->fd, s->buf, SD_IMAGE_PROBE_BYTES, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == ESPIPE)
        return sd_err_set(err, SD_ERR_DATA, "not a regular file");
    if (n < 0)
        return sd_err_errno(err, "cannot read");
    s->data = s->buf;
    s->start = offset;
    s->len = (uint64_t)n;
    return 0;
}

/* n (at most some dozens) bytes at offset, or NULL: with err->code 0 when the file ends before. */
static const uint8_t *bytes_at(struct source *s, uint64_t offset, size_t n, struct sd_err *err)
{
    if (offset > s->size || s->size - offset < n)
        return NULL;
    if (offset < s->start || offset + n > s->start + s->len) {
        if (s->fd < 0 || fill_window(s, offset, err) || s->len < n)
            return NULL;
    }
    return s->data + (offset - s->start);
}

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

static uint32_t le16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le24(const uint8_t *p)
{
    return le16(p) | (uint32_t)p[2] << 16;
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static int truncated(const char *format, const struct source *s, struct sd_err *err)
{
    if (err && err->code)
        return -1;
    return sd_err_set(err, SD_ERR_DATA, "truncated %s (the header ends at byte %llu)", format,
                      (unsigned long long)s->size);
}

static int set_size(struct sd_image_info *info, uint32_t width, uint32_t height, const char *format,
                    struct sd_err *err)
{
    if (!width || !height || width > INT32_MAX || height > INT32_MAX)
        return sd_err_set(err, SD_ERR_DATA, "broken %s (its size is %ux%u)", format, width, height);
    info->width = width;
    info->height = height;
    return 0;
}

static int probe_png(struct source *s, struct sd_image_info *info, struct sd_err *err)
{
    const uint8_t *p = bytes_at(s, 8, 25, err); /* length, type, 13 bytes, checksum */
    if (!p)
        return truncated("PNG", s, err);
    if (be32(p) != 13 || memcmp(p + 4, "IHDR", 4))
        return sd_err_set(err, SD_ERR_DATA, "broken PNG (it does not begin with IHDR)");
    return set_size(info, be32(p + 8), be32(p + 12), "PNG", err);
}

/* Walks over the segments to the frame header, past EXIF and colour profiles of any size without reading
 * them. */
static int probe_jpeg(struct source *s, struct sd_image_info *info, struct sd_err *err)
{
    for (uint64_t at = 2;;) {
        const uint8_t *p = bytes_at(s, at, 2, err);
        if (!p)
            return truncated("JPEG", s, err);
        if (p[0] != 0xff)
            return sd_err_set(err, SD_ERR_DATA, "broken JPEG (no marker at byte %llu)",
                              (unsigned long long)at);
        uint8_t marker = p[1];
        if (marker == 0xff) { /* a fill byte */
            at++;
            continue;
        }
        at += 2;
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8))
            continue; /* markers without a segment */
        if (marker == 0xd9 || marker == 0xda || marker == 0)
            return sd_err_set(err, SD_ERR_DATA, "broken JPEG (no frame header before byte %llu)",
                              (unsigned long long)at);
        int frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        if (!(p = bytes_at(s, at, frame ? 7 : 2, err)))
            return truncated("JPEG", s, err);
        if (be16(p) < 2 || (frame && be16(p) < 8))
            return sd_err_set(err, SD_ERR_DATA, "broken JPEG (segment of %u bytes at byte %llu)", be16(p),
                              (unsigned long long)at);
        if (frame)
            return set_size(info, be16(p + 5), be16(p + 3), "JPEG", err);
        at += be16(p);
    }
}

static int probe_webp(struct source *s, struct sd_image_info *info, struct sd_err *err)
{
    const uint8_t *chunk = bytes_at(s, 12, 8, err), *p;
    if (!chunk)
        return truncated("WebP", s, err);
    char type[4];
    memcpy(type, chunk, 4);
    if (!(p = bytes_at(s, 20, memcmp(type, "VP8L", 4) ? 10 : 5, err)))
        return truncated("WebP", s, err);
    if (!memcmp(type, "VP8X", 4))
        return set_size(info, le24(p + 4) + 1, le24(p + 7) + 1, "WebP", err);
    if (!memcmp(type, "VP8L", 4)) {
        if (p[0] != 0x2f)
            return sd_err_set(err, SD_ERR_DATA, "broken WebP (no signature in VP8L)");
        uint32_t bits = le32(p + 1);
        return set_size(info, (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, "WebP", err);
    }
    if (memcmp(type, "VP8 ", 4))
        return sd_err_set(err, SD_ERR_DATA, "broken WebP (no VP8, VP8L or VP8X chunk)");
    if ((p[0] & 1) || memcmp(p + 3, "\x9d\x01\x2a", 3))
        return sd_err_set(err, SD_ERR_DATA, "broken WebP (VP8 does not begin with a key frame)");
    return set_size(info, le16(p + 6) & 0x3fff, le16(p + 8) & 0x3fff, "WebP", err);
}

static int probe_bmp(struct source *s, struct sd_image_info *info, struct sd_err *err)
{
    const uint8_t *p = bytes_at(s, 14, 12, err);
    if (!p)
        return truncated("BMP", s, err);
    uint32_t header = le32(p);
    if (header == 12)
        return set_size(info, le16(p + 4), le16(p + 6), "BMP", err);
    if (header < 40 || header > 1024)
        return sd_err_set(err, SD_ERR_DATA, "broken BMP (a header of %u bytes)", header);
    uint32_t height = le32(p + 8);
    if (height > INT32_MAX) /* negative: rows from the top */
        height = 0 - height;
    return set_size(info, le32(p + 4), height, "BMP", err);
}

static enum sd_image_format sniff(const uint8_t *p, uint64_t len)
{
    if (len >= 8 && !memcmp(p, "\x89PNG\r\n\x1a\n", 8))
        return SD_IMAGE_PNG;
    if (len >= 3 && !memcmp(p, "\xff\xd8\xff", 3))
        return SD_IMAGE_JPEG;
    if (len >= 12 && !memcmp(p, "RIFF", 4) && !memcmp(p + 8, "WEBP", 4))
        return SD_IMAGE_WEBP;
    if (len >= 2 && !memcmp(p, "BM", 2))
        return SD_IMAGE_BMP;
    return SD_IMAGE_UNKNOWN;
}

static int probe(struct source *s, struct sd_image_info *info, struct sd_err *err)
{
    info->bytes = s->size;
    info->format = sniff(s->data, s->len);
    switch (info->format) {
    case SD_IMAGE_PNG:
        return probe_png(s, info, err);
    case SD_IMAGE_JPEG:
        return probe_jpeg(s, info, err);
    case SD_IMAGE_WEBP:
        return probe_webp(s, info, err);
    case SD_IMAGE_BMP:
        return probe_bmp(s, info, err);
    default:
        if (s->size == 0)
            return sd_err_set(err, SD_ERR_DATA, "empty file");
        return sd_err_set(err, SD_ERR_DATA, "not a PNG, JPEG, WebP or BMP file");
    }
}

int sd_image_probe_fd(int fd, uint8_t buf[SD_IMAGE_PROBE_BYTES], struct sd_image_info *info,
                      struct sd_err *err)
{
    struct source s = {.fd = fd, .buf = buf};
    *info = (struct sd_image_info){0};
    err->code = 0;
    if (fill_window(&s, 0, err))
        return -1;
    s.size = s.len;
    if (s.len == SD_IMAGE_PROBE_BYTES) { /* lseek is the cheapest way to a file's size */
        off_t size = lseek(fd, 0, SEEK_END);
        if (size < 0)
            return sd_err_errno(err, "cannot read");
        s.size = (uint64_t)size > s.len ? (uint64_t)size : s.len;
    }
    return probe(&s, info, err);
}

int sd_image_probe_memory(const void *bytes, size_t len, struct sd_image_info *info, struct sd_err *err)
{
    struct source s = {.fd = -1, .data = bytes, .len = len, .size = len};
    *info = (struct sd_image_info){0};
    err->code = 0;
    return probe(&s, info, err);
}

int sd_image_probe(const char *path, struct sd_image_info *info, struct sd_err *err)
{
    uint8_t buf[SD_IMAGE_PROBE_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a named pipe must not hold us up */
    if (fd < 0)
        return sd_err_errno(err, path);
    int bad = sd_image_probe_fd(fd, buf, info, err);
    close(fd);
    return bad ? sd_err_prefix(err, "%s", path) : 0;
}
