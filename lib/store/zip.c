#include "store/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/filemap.h"

#define END_BYTES 22
#define CENTRAL_BYTES 46
#define LOCAL_BYTES 30
#define UNIX 3 /* the system that made the archive */
#define RELEASE_BYTES (4 << 20)
#define DEFLATE_RATIO 1032 /* deflate cannot do better (zlib's technical details) */

struct sd_zip {
    struct sd_filemap map;
    bool borrowed; /* the map is the caller's */
    bool mapped;   /* it is a file, of which pages may be let go */
    char *path;
    const unsigned char *directory, *end; /* of the directory */
    uint32_t *entries;                    /* where each begins in the directory */
    size_t count;
};

/* What the end records say of the central directory. */
struct directory {
    uint64_t offset, size, count;
};

/* Where a member lies, from its local header on. */
struct extent {
    uint64_t start, end;
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

/* An entry of the directory whose length was checked, as it stands. Returns where its local header lies. */
static uint64_t read_entry(const unsigned char *q, struct sd_zip_member *m)
{
    uint64_t offset = get(q + 42, 4);
    *m = (struct sd_zip_member){.name = (const char *)q + CENTRAL_BYTES,
                                .name_len = get(q + 28, 2),
                                .crc = (uint32_t)get(q + 16, 4),
                                .packed_size = get(q + 20, 4),
                                .size = get(q + 24, 4),
                                .mode = q[5] == UNIX ? (uint32_t)get(q + 40, 2) : 0,
                                .deflated = get(q + 10, 2) == 8};
    read_zip64_extra(q + CENTRAL_BYTES + m->name_len, get(q + 30, 2), &m->size, &m->packed_size, &offset);
    return offset;
}

/* Checks the local header at offset and finds the data behind it. */
static int locate(const struct sd_zip *z, struct sd_zip_member *m, uint64_t offset, struct sd_err *err)
{
    uint64_t size = z->map.size;
    if (offset > size || size - offset < LOCAL_BYTES || memcmp(z->map.data + offset, "PK\3\4", 4))
        return sd_err_set(err, SD_ERR_DATA, "not where it should be in the archive");
    const unsigned char *p = z->map.data + offset;
    uint64_t name = get(p + 26, 2), head = LOCAL_BYTES + name + get(p + 28, 2);
    if (size - offset < head || size - offset - head < m->packed_size)
        return sd_err_set(err, SD_ERR_DATA, "goes beyond the end of the file");
    if (name != m->name_len || memcmp(p + LOCAL_BYTES, m->name, name))
        return sd_err_set(err, SD_ERR_DATA, "has another name in its place");
    m->offset = offset + head;
    m->packed = z->map.data + m->offset;
    return 0;
}

int sd_zip_member(const struct sd_zip *z, size_t i, struct sd_zip_member *m, struct sd_err *err)
{
    const unsigned char *q = z->directory + z->entries[i];
    uint64_t offset = read_entry(q, m), method = get(q + 10, 2);
    if (memchr(m->name, 0, m->name_len)) {
        m->name_len = 0;
        return sd_err_set(err, SD_ERR_DATA, "its name holds a NUL");
    }
    if (get(q + 8, 2) & 1)
        return sd_err_set(err, SD_ERR_DATA, "encrypted");
    if (method != 0 && method != 8)
        return sd_err_set(err, SD_ERR_DATA, "compression method %llu, expected 0 or 8 (deflate)",
                          (unsigned long long)method);
    if (m->deflated ? m->size / DEFLATE_RATIO > m->packed_size : m->size != m->packed_size)
        return sd_err_set(err, SD_ERR_DATA, "cannot have %llu bytes unpacked from %llu",
                          (unsigned long long)m->size, (unsigned long long)m->packed_size);
    return locate(z, m, offset, err);
}

const char *sd_zip_name(const struct sd_zip *z, size_t i, size_t *len)
{
    const unsigned char *q = z->directory + z->entries[i];
    *len = get(q + 28, 2);
    return (const char *)q + CENTRAL_BYTES;
}

static struct extent extent_of(const struct sd_zip *z, size_t i)
{
    struct sd_zip_member m;
    uint64_t start = read_entry(z->directory + z->entries[i], &m), end;
    if (__builtin_add_overflow(start, LOCAL_BYTES + m.name_len, &end) ||
        __builtin_add_overflow(end, m.packed_size, &end))
        end = UINT64_MAX; /* beyond the file: sd_zip_member will say so */
    return (struct extent){start, end};
}

static int by_start(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->start != y->start ? (x->start < y->start ? -1 : 1) : (x->end > y->end) - (x->end < y->end);
}

/* For a directory that does not name the members as they lie. */
static int check_overlap(const struct sd_zip *z, struct sd_err *err)
{
    struct extent *all = malloc(z->count * sizeof *all);
    if (!all)
        return sd_err_memory(err, z->count * sizeof *all);
    for (size_t i = 0; i < z->count; i++)
        all[i] = extent_of(z, i);
    qsort(all, z->count, sizeof *all, by_start);
    size_t i = 1;
    while (i < z->count && all[i].start >= all[i - 1].end)
        i++;
    free(all);
    return i < z->count ? broken(z, "its members overlap", err) : 0;
}

static void release(const struct sd_zip *z, const unsigned char *from, const unsigned char *to)
{
    if (z->mapped)
        sd_filemap_release(from, (size_t)(to - from));
}

/* Notes where the entries begin. */
static int walk_directory(struct sd_zip *z, uint64_t count, struct sd_err *err)
{
    const unsigned char *p = z->directory, *seen = p;
    uint64_t reached = 0;
    bool in_order = true;
    while (z->count < count) {
        size_t left = (size_t)(z->end - p);
        if (left < CENTRAL_BYTES || memcmp(p, "PK\1\2", 4))
            return broken(z, "its directory is damaged", err);
        size_t n = CENTRAL_BYTES + get(p + 28, 2) + get(p + 30, 2) + get(p + 32, 2);
        if (left < n)
            return broken(z, "its directory is cut short", err);
        z->entries[z->count] = (uint32_t)(p - z->directory);
        struct extent e = extent_of(z, z->count++);
        in_order = in_order && e.start >= reached;
        reached = e.end;
        p += n;
        if (p - seen > RELEASE_BYTES) {
            release(z, seen, p);
            seen = p;
        }
    }
    return in_order ? 0 : check_overlap(z, err);
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
    if (d.size > UINT32_MAX)
        return sd_err_set(err, SD_ERR_DATA, "%s: a zip directory of more than 4 GiB", z->path);
    if (d.count > d.size / CENTRAL_BYTES)
        return broken(z, "its directory is too short for its members", err);
    z->entries = calloc((size_t)d.count + 1, sizeof *z->entries);
    if (!z->entries)
        return sd_err_memory(err, (size_t)d.count * sizeof *z->entries);
    z->directory = z->map.data + d.offset;
    z->end = z->directory + d.size;
    return walk_directory(z, d.count, err);
}

static struct sd_zip *make(const char *path, struct sd_err *err)
{
    struct sd_zip *z = calloc(1, sizeof *z);
    if (!z || !(z->path = strdup(path))) {
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
    z->mapped = true;
    if (!sd_filemap_open(&z->map, path, err) && !read_directory(z, err))
        return 0;
    sd_zip_close(z);
    *out = NULL;
    return -1;
}

int sd_zip_parse(struct sd_zip **out, const void *bytes, size_t size, bool mapped, const char *name,
                 struct sd_err *err)
{
    struct sd_zip *z = *out = make(name, err);
    if (!z)
        return -1;
    z->map = (struct sd_filemap){bytes, size};
    z->borrowed = true;
    z->mapped = mapped;
    if (!read_directory(z, err))
        return 0;
    sd_zip_close(z);
    *out = NULL;
    return -1;
}

void sd_zip_close(struct sd_zip *z)
{
    if (!z)
        return;
    if (!z->borrowed)
        sd_filemap_close(&z->map);
    free(z->entries);
    free(z->path);
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

int64_t sd_zip_peek(const struct sd_zip_member *m, void *out, size_t n, struct sd_err *err)
{
    struct unpack u;
    if (n > m->size)
        n = (size_t)m->size;
    if (unpack_start(&u, m, err))
        return -1;
    size_t got = unpack_some(&u, out, n);
    unpack_end(&u);
    return (int64_t)got;
}

int sd_zip_read(const struct sd_zip_member *m, uint64_t skip, void *out, size_t n, struct sd_err *err)
{
    unsigned char piece[16384];
    struct unpack u;
    if (skip > m->size || m->size - skip != n)
        return sd_err_set(err, SD_ERR_DATA, "has %llu bytes, expected %llu", (unsigned long long)m->size,
                          (unsigned long long)(skip + n));
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
        return sd_err_set(err, SD_ERR_DATA, "does not unpack to its %llu bytes", (unsigned long long)m->size);
    return crc == m->crc ? 0 : sd_err_set(err, SD_ERR_DATA, "damaged (its CRC is wrong)");
}

int sd_zip_check(const struct sd_zip_member *m, struct sd_err *err)
{
    uLong crc = crc32_z(crc32_z(0, NULL, 0), m->packed, (z_size_t)m->packed_size);
    return crc == m->crc ? 0 : sd_err_set(err, SD_ERR_DATA, "damaged (its CRC is wrong)");
}
