#include "store/zip_write.h"

#include <string.h>
#include <zlib.h>

#include "base/json.h" /* sd_utf8_valid */

enum {
    CRC_FOLLOWS = 1 << 3,
    UTF8_NAME = 1 << 11,
    UNIX = 3,
    VERSION = 20,
    VERSION_ZIP64 = 45,
    DAY = 33 /* 1 January 1980 */
};

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

/* A member, and how its headers say it. */
struct member {
    const char *name;
    uint64_t size;
    uint32_t crc;
    bool zip64;   /* the local header has a zip64 field */
    bool follows; /* the CRC and sizes come behind the bytes */
};

/* The fields that a member's local header and its directory entry share, from the version to the CRC. */
static void put_common(struct sd_buf *b, const struct member *m, bool zip64, int *bad)
{
    put(b, zip64 ? VERSION_ZIP64 : VERSION, 2, bad);
    put(b, flags_of(m->name) | (m->follows ? CRC_FOLLOWS : 0), 2, bad);
    put(b, 0, 2, bad); /* stored */
    put(b, 0, 2, bad); /* 00:00 */
    put(b, DAY, 2, bad);
    put(b, m->crc, 4, bad);
}

/* Bytes of an extra field that makes a header end at a multiple of align; it would end at `end` without. */
static size_t padding(uint64_t end, unsigned align)
{
    return align ? 4 + (size_t)(-(end + 4) & (align - 1)) : 0;
}

/* The header begins at `at`. */
static int put_local(struct sd_buf *b, const struct member *m, uint64_t at, unsigned align)
{
    uint64_t size = m->follows ? 0 : m->size, name = strlen(m->name);
    size_t pad = padding(at + 30 + name + (m->zip64 ? 20 : 0), align);
    int bad = sd_buf_add(b, "PK\3\4", 4);
    put_common(b, m, m->zip64, &bad);
    put(b, m->zip64 ? MAX32 : size, 4, &bad);
    put(b, m->zip64 ? MAX32 : size, 4, &bad);
    put(b, name, 2, &bad);
    put(b, (m->zip64 ? 20 : 0) + pad, 2, &bad);
    bad |= sd_buf_adds(b, m->name);
    if (m->zip64) {
        put(b, 1, 2, &bad);
        put(b, 16, 2, &bad);
        put(b, size, 8, &bad);
        put(b, size, 8, &bad);
    }
    if (pad) {
        bad |= sd_buf_add(b, "FB", 2); /* as torch.save calls it */
        put(b, pad - 4, 2, &bad);
        for (size_t i = 4; i < pad; i++)
            bad |= sd_buf_addc(b, 'Z');
    }
    return bad;
}

static int put_entry(struct sd_zip_writer *w, const struct member *m, uint64_t at)
{
    struct sd_buf *b = &w->directory;
    int large = m->size >= MAX32, far = at >= MAX32, extra = 16 * large + 8 * far;
    bool zip64 = w->zip64 || extra;
    int bad = sd_buf_add(b, "PK\1\2", 4);
    put(b, (zip64 ? VERSION_ZIP64 : VERSION) | UNIX << 8, 2, &bad);
    put_common(b, m, zip64, &bad);
    put(b, clip(m->size), 4, &bad);
    put(b, clip(m->size), 4, &bad);
    put(b, strlen(m->name), 2, &bad);
    put(b, extra ? (uint64_t)extra + 4 : 0, 2, &bad);
    put(b, 0, 6, &bad); /* comment, disk, internal attributes */
    put(b, (uint64_t)w->mode << 16, 4, &bad);
    put(b, clip(at), 4, &bad);
    bad |= sd_buf_adds(b, m->name);
    if (extra) {
        put(b, 1, 2, &bad);
        put(b, (uint64_t)extra, 2, &bad);
        put(b, m->size, 8 * large, &bad);
        put(b, m->size, 8 * large, &bad);
        put(b, at, 8 * far, &bad);
    }
    return bad;
}

static uint64_t written(const struct sd_zip_writer *w)
{
    return w->file ? sd_atomic_size(w->file) : w->memory->len;
}

static int write_out(struct sd_zip_writer *w, const void *bytes, size_t len, struct sd_err *err)
{
    if (w->file)
        return sd_atomic_write(w->file, bytes, len, err);
    return sd_buf_add(w->memory, bytes, len) ? sd_err_memory(err, w->memory->len + len) : 0;
}

int sd_zip_write_bytes(struct sd_zip_writer *w, const void *bytes, size_t len, struct sd_err *err)
{
    if (w->begun) {
        if (len > w->left)
            return sd_err_set(err, SD_ERR_DATA, "more bytes than the member was said to have");
        w->left -= len;
        w->crc = (uint32_t)crc32_z(w->crc, bytes, len);
    }
    return write_out(w, bytes, len, err);
}

static int write_headers(struct sd_zip_writer *w, const struct member *m, struct sd_err *err)
{
    size_t len = strlen(m->name);
    if (len > UINT16_MAX)
        return sd_err_set(err, SD_ERR_DATA, "a name of %zu bytes, of which zip allows %d", len, UINT16_MAX);
    sd_buf_clear(&w->scratch);
    w->entry = w->directory.len;
    if (put_local(&w->scratch, m, written(w), w->align) || put_entry(w, m, written(w)))
        return sd_err_memory(err, w->directory.len);
    w->count++;
    return write_out(w, w->scratch.data, w->scratch.len, err);
}

int sd_zip_write_member(struct sd_zip_writer *w, const char *name, uint32_t crc, uint64_t size,
                        struct sd_err *err)
{
    return write_headers(w, &(struct member){name, size, crc, w->zip64 || size >= MAX32, false}, err);
}

int sd_zip_write_begin(struct sd_zip_writer *w, const char *name, uint64_t size, struct sd_err *err)
{
    if (write_headers(w, &(struct member){name, size, 0, w->zip64 || size >= MAX32, true}, err))
        return -1;
    w->begun = true;
    w->left = w->size = size;
    w->crc = (uint32_t)crc32(0, NULL, 0);
    return 0;
}

int sd_zip_write_finish(struct sd_zip_writer *w, struct sd_err *err)
{
    struct sd_buf *b = &w->scratch;
    int bytes = w->zip64 || w->size >= MAX32 ? 8 : 4, bad;
    if (w->left)
        return sd_err_set(err, SD_ERR_DATA, "fewer bytes than the member was said to have");
    w->begun = false;
    for (int i = 0; i < 4; i++) /* its place in the directory entry */
        w->directory.data[w->entry + 16 + (size_t)i] = (char)(w->crc >> 8 * i);
    sd_buf_clear(b);
    bad = sd_buf_add(b, "PK\7\10", 4);
    put(b, w->crc, 4, &bad);
    put(b, w->size, bytes, &bad);
    put(b, w->size, bytes, &bad);
    return bad ? sd_err_memory(err, b->len) : write_out(w, b->data, b->len, err);
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
