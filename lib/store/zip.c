#include "store/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/arena.h"
#include "base/filemap.h"

#define END_BYTES 22
#define CENTRAL_BYTES 46
#define LOCAL_BYTES 30
#define DEFLATE_RATIO 1032 /* deflate cannot do better (zlib's technical details) */

struct sd_zip {
    struct sd_filemap map;
    struct sd_arena arena;
    const char *path;
    struct sd_zip_member *members;
    size_t count;
};

/* Where the central directory lies. */
struct directory {
    uint64_t offset, size, count;
};

static uint64_t get(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static int broken(const struct sd_zip *z, const char *what, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_DATA, "%s: broken zip archive: %s", z->path, what);
}

/* The end record is the last thing in the file but for a comment of at most 65535 bytes. */
static const unsigned char *find_end(const struct sd_filemap *m)
{
    if (m->size < END_BYTES)
        return NULL;
    size_t last = m->size - END_BYTES, first = last > 65535 ? last - 65535 : 0;
    for (size_t at = last + 1; at-- > first;) {
        const unsigned char *p = m->data + at;
        if (!memcmp(p, "PK\5\6", 4) && get(p + 20, 2) == m->size - at - END_BYTES)
            return p;
    }
    return NULL;
}

static int read_zip64_end(const struct sd_zip *z, const unsigned char *end, struct directory *d,
                          struct sd_err *err)
{
    size_t at = (size_t)(end - z->map.data);
    if (at < 20 || memcmp(end - 20, "PK\6\7", 4))
        return 0;
    uint64_t offset = get(end - 12, 8);
    if (offset > at || at - offset < 56 || memcmp(z->map.data + offset, "PK\6\6", 4))
        return broken(z, "its zip64 end record is not where it should be", err);
    const unsigned char *p = z->map.data + offset;
    *d = (struct directory){get(p + 48, 8), get(p + 40, 8), get(p + 32, 8)};
    return 0;
}

/* Sizes of 0xffffffff stand in a zip64 field of the extra data, in this order. */
static void read_zip64_extra(const unsigned char *p, size_t len, uint64_t *size, uint64_t *packed,
                             uint64_t *offset)
{
    while (len >= 4) {
        size_t id = get(p, 2), n = get(p + 2, 2);
        p += 4;
        len -= 4;
        if (n > len)
            return;
        if (id == 1) {
            uint64_t *const fields[] = {size, packed, offset};
            size_t at = 0;
            for (int i = 0; i < 3; i++)
                if (*fields[i] == 0xffffffff && at + 8 <= n) {
                    *fields[i] = get(p + at, 8);
                    at += 8;
                }
            return;
        }
        p += n;
        len -= n;
    }
}

/* Checks the local header at offset and finds the data behind it. */
static int locate(const struct sd_zip *z, struct sd_zip_member *m, uint64_t offset, struct sd_err *err)
{
    uint64_t size = z->map.size;
    if (offset > size || size - offset < LOCAL_BYTES || memcmp(z->map.data + offset, "PK\3\4", 4))
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: broken zip archive: member \"%.100s\" is not where it should be", z->path,
                          m->name);
    const unsigned char *p = z->map.data + offset;
    uint64_t name = get(p + 26, 2), head = LOCAL_BYTES + name + get(p + 28, 2);
    if (size - offset < head || size - offset - head < m->packed_size)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: broken zip archive: member \"%.100s\" goes beyond the end of the file",
                          z->path, m->name);
    if (name != strlen(m->name) || memcmp(p + LOCAL_BYTES, m->name, name))
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: broken zip archive: member \"%.100s\" has another name in its place", z->path,
                          m->name);
    m->offset = offset + head;
    m->packed = z->map.data + m->offset;
    return 0;
}

/* One entry of the central directory; *p moves behind it. */
static int read_member(struct sd_zip *z, const unsigned char **p, const unsigned char *end,
                       struct sd_zip_member *m, struct sd_err *err)
{
    const unsigned char *q = *p;
    if (end - q < CENTRAL_BYTES || memcmp(q, "PK\1\2", 4))
        return broken(z, "its directory is damaged", err);
    size_t name = get(q + 28, 2), extra = get(q + 30, 2), comment = get(q + 32, 2), method = get(q + 10, 2);
    if ((size_t)(end - q) < CENTRAL_BYTES + name + extra + comment)
        return broken(z, "its directory is cut short", err);
    if (memchr(q + CENTRAL_BYTES, 0, name))
        return broken(z, "a member's name holds a NUL", err);
    m->name = sd_arena_strndup(&z->arena, (const char *)q + CENTRAL_BYTES, name);
    if (!m->name)
        return sd_err_memory(err, name);
    if (get(q + 8, 2) & 1)
        return sd_err_set(err, SD_ERR_DATA, "%s: member \"%.100s\" is encrypted", z->path, m->name);
    if (method != 0 && method != 8)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: member \"%.100s\": compression method %zu, expected 0 or 8 (deflate)", z->path,
                          m->name, method);
    uint64_t offset = get(q + 42, 4);
    m->crc = (uint32_t)get(q + 16, 4);
    m->packed_size = get(q + 20, 4);
    m->size = get(q + 24, 4);
    m->deflated = method == 8;
    read_zip64_extra(q + CENTRAL_BYTES + name, extra, &m->size, &m->packed_size, &offset);
    if (m->deflated ? m->size / DEFLATE_RATIO > m->packed_size : m->size != m->packed_size)
        return sd_err_set(err, SD_ERR_DATA, "%s: member \"%.100s\" cannot have %llu bytes unpacked from %llu",
                          z->path, m->name, (unsigned long long)m->size, (unsigned long long)m->packed_size);
    *p = q + CENTRAL_BYTES + name + extra + comment;
    return locate(z, m, offset, err);
}

static int read_directory(struct sd_zip *z, struct sd_err *err)
{
    const unsigned char *end = find_end(&z->map);
    if (!end)
        return sd_err_set(err, SD_ERR_DATA, "%s: not a zip archive, or cut short (no end record)", z->path);
    struct directory d = {get(end + 16, 4), get(end + 12, 4), get(end + 10, 2)};
    if (read_zip64_end(z, end, &d, err))
        return -1;
    uint64_t limit = (uint64_t)(end - z->map.data);
    if (d.offset > limit || d.size > limit - d.offset)
        return broken(z, "its directory lies outside the file", err);
    if (d.count > d.size / CENTRAL_BYTES)
        return broken(z, "its directory is too short for its members", err);
    z->members = sd_arena_array(&z->arena, (size_t)d.count, sizeof *z->members);
    if (!z->members)
        return sd_err_memory(err, (size_t)d.count * sizeof *z->members);
    const unsigned char *p = z->map.data + d.offset, *stop = p + d.size;
    for (; z->count < d.count; z->count++)
        if (read_member(z, &p, stop, &z->members[z->count], err))
            return -1;
    return 0;
}

static struct sd_zip *make(const char *path, struct sd_err *err)
{
    struct sd_zip *z = calloc(1, sizeof *z);
    if (!z || !(z->path = sd_arena_strdup(&z->arena, path))) {
        free(z);
        sd_err_memory(err, sizeof *z);
        return NULL;
    }
    return z;
}

int sd_zip_open(struct sd_zip **out, const char *path, struct sd_err *err)
{
    struct sd_zip *z = *out = make(path, err);
    if (!z)
        return -1;
    if (!sd_filemap_open(&z->map, path, err) && !read_directory(z, err))
        return 0;
    sd_zip_close(z);
    *out = NULL;
    return -1;
}

int sd_zip_parse(struct sd_zip **out, const void *bytes, size_t size, const char *name, struct sd_err *err)
{
    struct sd_zip *z = *out = make(name, err);
    if (!z)
        return -1;
    z->map = (struct sd_filemap){bytes, size};
    int rc = read_directory(z, err);
    z->map = (struct sd_filemap){0}; /* the caller's, not to be unmapped */
    if (rc) {
        sd_zip_close(z);
        *out = NULL;
    }
    return rc;
}

void sd_zip_close(struct sd_zip *z)
{
    if (!z)
        return;
    sd_filemap_close(&z->map);
    sd_arena_free(&z->arena);
    free(z);
}

const char *sd_zip_path(const struct sd_zip *z)
{
    return z->path;
}

size_t sd_zip_count(const struct sd_zip *z)
{
    return z->count;
}

const struct sd_zip_member *sd_zip_member(const struct sd_zip *z, size_t i)
{
    return i < z->count ? &z->members[i] : NULL;
}

/* A member unpacked piece by piece. */
struct unpack {
    const struct sd_zip_member *m;
    z_stream zs;
    uint64_t packed_left;
    const unsigned char *next;
};

static int unpack_start(struct unpack *u, const struct sd_zip_member *m, struct sd_err *err)
{
    *u = (struct unpack){.m = m, .packed_left = m->packed_size, .next = m->packed};
    if (m->deflated && inflateInit2(&u->zs, -15) != Z_OK)
        return sd_err_memory(err, 0);
    return 0;
}

static void unpack_end(struct unpack *u)
{
    if (u->m->deflated)
        inflateEnd(&u->zs);
}

/* Up to n more bytes (n at most 2^30) into out. Returns how many; fewer than n only at the end or on damage.
 */
static size_t unpack_some(struct unpack *u, void *out, size_t n)
{
    if (!u->m->deflated) {
        if (n > u->packed_left)
            n = (size_t)u->packed_left;
        if (n)
            memcpy(out, u->next, n);
        u->next += n;
        u->packed_left -= n;
        return n;
    }
    u->zs.next_out = out;
    u->zs.avail_out = (uInt)n;
    int rc = Z_OK;
    while (rc == Z_OK && u->zs.avail_out) {
        uInt piece = u->packed_left < 1 << 30 ? (uInt)u->packed_left : 1 << 30;
        u->zs.next_in = (unsigned char *)u->next;
        u->zs.avail_in = piece;
        rc = inflate(&u->zs, Z_NO_FLUSH);
        uInt taken = piece - u->zs.avail_in;
        u->next += taken;
        u->packed_left -= taken;
    }
    return n - u->zs.avail_out;
}

int64_t sd_zip_peek(const struct sd_zip *z, const struct sd_zip_member *m, void *out, size_t n,
                    struct sd_err *err)
{
    struct unpack u;
    (void)z;
    if (n > m->size)
        n = (size_t)m->size;
    if (unpack_start(&u, m, err))
        return -1;
    size_t got = unpack_some(&u, out, n);
    unpack_end(&u);
    return (int64_t)got;
}

int sd_zip_read(const struct sd_zip *z, const struct sd_zip_member *m, uint64_t skip, void *out, size_t n,
                struct sd_err *err)
{
    unsigned char piece[16384];
    struct unpack u;
    if (skip > m->size || m->size - skip != n)
        return sd_err_set(err, SD_ERR_DATA, "%s: member \"%.100s\" has %llu bytes, expected %llu", z->path,
                          m->name, (unsigned long long)m->size, (unsigned long long)(skip + n));
    if (unpack_start(&u, m, err))
        return -1;
    uLong crc = crc32(0, NULL, 0);
    uint64_t at = 0;
    for (size_t got = 1; at < m->size && got; at += got) {
        uint64_t left = at < skip ? skip - at : m->size - at;
        size_t want = left < sizeof piece ? (size_t)left : sizeof piece;
        unsigned char *to = at < skip ? piece : (unsigned char *)out + (at - skip);
        got = unpack_some(&u, to, want);
        crc = crc32(crc, to, (uInt)got);
    }
    size_t more =
        m->deflated ? unpack_some(&u, piece, 1) : 0; /* also lets inflate see the end of its stream */
    unpack_end(&u);
    if (at != m->size || more)
        return sd_err_set(err, SD_ERR_DATA, "%s: member \"%.100s\" does not unpack to its %llu bytes",
                          z->path, m->name, (unsigned long long)m->size);
    if (crc != m->crc)
        return sd_err_set(err, SD_ERR_DATA, "%s: member \"%.100s\" is damaged (its CRC is wrong)", z->path,
                          m->name);
    return 0;
}
