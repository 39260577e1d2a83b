#include "store/zip_write.h"

#include <string.h>

#include "base/json.h" /* sd_utf8_valid */

enum { UTF8_NAME = 1 << 11, UNIX = 3, VERSION = 20, VERSION_ZIP64 = 45, DAY = 33 /* 1 January 1980 */ };

static const uint64_t MAX32 = 0xffffffff; /* from here on a field of 4 bytes refers to its zip64 one */

static void put(struct sd_buf *b, uint64_t v, int bytes, int *bad)
{
    for (int i = 0; i < bytes; i++)
        *bad |= sd_buf_addc(b, (char)(v >> 8 * i));
}

static uint64_t clip(uint64_t v)
{
    return v < MAX32 ? v : MAX32;
}

static unsigned flags_of(const char *name)
{
    size_t len = strlen(name), i = 0;
    while (i < len && !(name[i] & 0x80))
        i++;
    return i < len && sd_utf8_valid(name, len) ? UTF8_NAME : 0;
}

/* The fields that a member's local header and its directory entry share, from the version to the CRC. */
static void put_common(struct sd_buf *b, const char *name, uint32_t crc, bool zip64, int *bad)
{
    put(b, zip64 ? VERSION_ZIP64 : VERSION, 2, bad);
    put(b, flags_of(name), 2, bad);
    put(b, 0, 2, bad); /* stored */
    put(b, 0, 2, bad); /* 00:00 */
    put(b, DAY, 2, bad);
    put(b, crc, 4, bad);
}

static int put_local(struct sd_buf *b, const char *name, uint32_t crc, uint64_t size, bool zip64)
{
    int bad = sd_buf_add(b, "PK\3\4", 4);
    put_common(b, name, crc, zip64, &bad);
    put(b, zip64 ? MAX32 : size, 4, &bad);
    put(b, zip64 ? MAX32 : size, 4, &bad);
    put(b, strlen(name), 2, &bad);
    put(b, zip64 ? 20 : 0, 2, &bad);
    bad |= sd_buf_adds(b, name);
    if (zip64) {
        put(b, 1, 2, &bad);
        put(b, 16, 2, &bad);
        put(b, size, 8, &bad);
        put(b, size, 8, &bad);
    }
    return bad;
}

static int put_entry(struct sd_zip_writer *w, const char *name, uint32_t crc, uint64_t size, uint64_t at)
{
    struct sd_buf *b = &w->directory;
    int large = size >= MAX32, far = at >= MAX32, extra = 16 * large + 8 * far;
    bool zip64 = w->zip64 || extra;
    int bad = sd_buf_add(b, "PK\1\2", 4);
    put(b, (zip64 ? VERSION_ZIP64 : VERSION) | UNIX << 8, 2, &bad);
    put_common(b, name, crc, zip64, &bad);
    put(b, clip(size), 4, &bad);
    put(b, clip(size), 4, &bad);
    put(b, strlen(name), 2, &bad);
    put(b, extra ? (uint64_t)extra + 4 : 0, 2, &bad);
    put(b, 0, 6, &bad); /* comment, disk, internal attributes */
    put(b, (uint64_t)w->mode << 16, 4, &bad);
    put(b, clip(at), 4, &bad);
    bad |= sd_buf_adds(b, name);
    if (extra) {
        put(b, 1, 2, &bad);
        put(b, (uint64_t)extra, 2, &bad);
        put(b, size, 8 * large, &bad);
        put(b, size, 8 * large, &bad);
        put(b, at, 8 * far, &bad);
    }
    return bad;
}

static uint64_t written(const struct sd_zip_writer *w)
{
    return w->file ? sd_atomic_size(w->file) : w->memory->len;
}

int sd_zip_write_bytes(struct sd_zip_writer *w, const void *bytes, size_t len, struct sd_err *err)
{
    if (w->file)
        return sd_atomic_write(w->file, bytes, len, err);
    return sd_buf_add(w->memory, bytes, len) ? sd_err_memory(err, w->memory->len + len) : 0;
}

int sd_zip_write_member(struct sd_zip_writer *w, const char *name, uint32_t crc, uint64_t size,
                        struct sd_err *err)
{
    size_t len = strlen(name);
    if (len > UINT16_MAX)
        return sd_err_set(err, SD_ERR_DATA, "a name of %zu bytes, of which zip allows %d", len, UINT16_MAX);
    sd_buf_clear(&w->scratch);
    if (put_local(&w->scratch, name, crc, size, w->zip64 || size >= MAX32) ||
        put_entry(w, name, crc, size, written(w)))
        return sd_err_memory(err, w->directory.len);
    w->count++;
    return sd_zip_write_bytes(w, w->scratch.data, w->scratch.len, err);
}

static void put_zip64_end(struct sd_buf *b, uint64_t count, uint64_t size, uint64_t at, int *bad)
{
    *bad |= sd_buf_add(b, "PK\6\6", 4);
    put(b, 44, 8, bad); /* bytes that follow */
    put(b, VERSION_ZIP64 | UNIX << 8, 2, bad);
    put(b, VERSION_ZIP64, 2, bad);
    put(b, 0, 8, bad); /* disks */
    put(b, count, 8, bad);
    put(b, count, 8, bad);
    put(b, size, 8, bad);
    put(b, at, 8, bad);
    *bad |= sd_buf_add(b, "PK\6\7\0\0\0", 8);
    put(b, at + size, 8, bad);
    put(b, 1, 4, bad);
}

int sd_zip_write_end(struct sd_zip_writer *w, struct sd_err *err)
{
    struct sd_buf *b = &w->directory;
    uint64_t size = b->len, at = written(w), count = w->count < 0xffff ? w->count : 0xffff;
    int bad = 0;
    if (count == 0xffff || size >= MAX32 || at >= MAX32)
        put_zip64_end(b, w->count, size, at, &bad);
    bad |= sd_buf_add(b, "PK\5\6\0\0\0", 8);
    put(b, count, 2, &bad);
    put(b, count, 2, &bad);
    put(b, clip(size), 4, &bad);
    put(b, clip(at), 4, &bad);
    put(b, 0, 2, &bad);
    return bad ? sd_err_memory(err, b->len) : sd_zip_write_bytes(w, b->data, b->len, err);
}

void sd_zip_write_free(struct sd_zip_writer *w)
{
    sd_buf_free(&w->directory);
    sd_buf_free(&w->scratch);
}
