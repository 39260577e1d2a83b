#include "store/archive.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "base/hash.h"
#include "base/path.h"
#include "store/tar.h"
#include "store/zip.h"

/* What is mapped counts as the program's memory, and archives are large: all is let go when so many windows
 * of the file have been touched. Linux maps around a touched page up to 2 MiB of it. */
enum { WINDOW_BITS = 21, WINDOWS = 8 };

struct sd_archive {
    struct sd_filemap map;
    bool borrowed;
    struct sd_zip *zip;
    uint64_t *starts; /* of a tar's entries */
    size_t count, cap;
    uint32_t *hashes;    /* of the names, by member */
    uint32_t *slots;     /* member + 1, or 0 */
    uint8_t *duplicates; /* bits, by member */
    size_t mask;
    _Atomic uint64_t *windows; /* bits: touched since all was let go; NULL: the bytes are the caller's */
    _Atomic int *touched;      /* how many of them; behind these */
    struct sd_err damage;
};

/* ---- names ---- */

size_t sd_archive_split(const char *path, const char **member)
{
    for (const char *p = strstr(path, "!/"); p; p = strstr(p + 1, "!/"))
        if (sd_path_is_archive(path, (size_t)(p - path))) {
            if (member)
                *member = p + 2;
            return (size_t)(p - path);
        }
    return 0;
}

/* Takes "./" from the front, and says what forbids the rest. */
static int check_name(struct sd_buf *name, struct sd_err *err)
{
    size_t skip = 0;
    while (name->len - skip >= 2 && !memcmp(name->data + skip, "./", 2))
        for (skip += 2; skip < name->len && name->data[skip] == '/';)
            skip++;
    if (skip) {
        name->len -= skip;
        memmove(name->data, name->data + skip, name->len + 1);
    }
    if (!name->len)
        return skip ? 0 : sd_err_set(err, SD_ERR_DATA, "a member without a name");
    if (memchr(name->data, 0, name->len)) {
        sd_buf_clear(name);
        return sd_err_set(err, SD_ERR_DATA, "its name holds a NUL");
    }
    if (name->data[0] == '/')
        return sd_err_set(err, SD_ERR_DATA, "its name is absolute");
    for (const char *p = name->data; p; p = strchr(p, '/')) {
        p += *p == '/';
        if (!strncmp(p, "..", 2) && (!p[2] || p[2] == '/'))
            return sd_err_set(err, SD_ERR_DATA, "its name leads out of the folder");
    }
    return 0;
}

/* ---- members ---- */

static void touch(const struct sd_archive *a, uint64_t at, uint64_t bytes)
{
    if (!a->windows)
        return;
    for (uint64_t w = at >> WINDOW_BITS; w <= (at + bytes) >> WINDOW_BITS; w++) {
        uint64_t bit = UINT64_C(1) << w % 64;
        if (atomic_load(&a->windows[w / 64]) & bit || atomic_fetch_or(&a->windows[w / 64], bit) & bit)
            continue;
        if (atomic_fetch_add(a->touched, 1) + 1 < WINDOWS)
            continue;
        atomic_store(a->touched, 0);
        for (uint64_t i = 0; i <= a->map.size >> WINDOW_BITS; i += 64)
            atomic_store(&a->windows[i / 64], 0);
        sd_filemap_release(a->map.data, a->map.size);
    }
}

static uint64_t offset_of(const struct sd_archive *a, const void *p)
{
    return (uint64_t)((const unsigned char *)p - a->map.data);
}

static int zip_member(const struct sd_archive *a, size_t i, struct sd_archive_member *m, struct sd_err *err)
{
    struct sd_zip_member z;
    int bad = sd_zip_member(a->zip, i, &z, err);
    touch(a, offset_of(a, z.name), 0);
    if (sd_buf_add(&m->name, z.name, z.name_len))
        return sd_err_memory(err, z.name_len);
    m->zip = true;
    m->folder = z.name_len && z.name[z.name_len - 1] == '/';
    m->size = z.size;
    m->offset = z.offset;
    m->packed = z.packed;
    m->packed_size = z.packed_size;
    m->crc = z.crc;
    m->deflated = z.deflated;
    if (bad)
        return -1;
    touch(a, z.offset, 0);
    if (check_name(&m->name, err))
        return -1;
    if (S_ISLNK(z.mode))
        return sd_err_set(err, SD_ERR_DATA, "a link, which is not followed");
    if ((z.mode & S_IFMT) && !S_ISREG(z.mode) && !S_ISDIR(z.mode))
        return sd_err_set(err, SD_ERR_DATA, "a device or pipe");
    return 0;
}

static void from_tar(const struct sd_archive *a, const struct sd_tar_entry *e, struct sd_archive_member *m)
{
    m->folder = e->folder;
    m->size = m->packed_size = e->size;
    m->offset = e->data;
    m->packed = a->map.data + e->data;
}

static int tar_member(const struct sd_archive *a, size_t i, struct sd_archive_member *m, struct sd_err *err)
{
    struct sd_tar_entry e;
    touch(a, a->starts[i], 0);
    if (sd_tar_next(a->map.data, a->map.size, a->starts[i], &e, &m->name, err) != 1)
        return sd_err_set(err, SD_ERR_DATA, "the archive changed while it was read");
    from_tar(a, &e, m);
    if (check_name(&m->name, err))
        return -1;
    return e.problem ? sd_err_set(err, SD_ERR_DATA, "%s", e.problem) : 0;
}

static int read_member(const struct sd_archive *a, size_t i, struct sd_archive_member *m, struct sd_err *err)
{
    struct sd_buf name = m->name;
    sd_buf_clear(&name);
    *m = (struct sd_archive_member){.name = name};
    int bad = a->zip ? zip_member(a, i, m, err) : tar_member(a, i, m, err);
    if (!m->name.data && sd_buf_adds(&m->name, ""))
        return sd_err_memory(err, 1);
    return !bad && !m->folder && !m->name.len ? sd_err_set(err, SD_ERR_DATA, "a member without a name") : bad;
}

size_t sd_archive_count(const struct sd_archive *a)
{
    return a->count;
}

int sd_archive_member(const struct sd_archive *a, size_t i, struct sd_archive_member *m, struct sd_err *err)
{
    if (read_member(a, i, m, err))
        return -1;
    if (a->duplicates[i / 8] >> i % 8 & 1)
        return sd_err_set(err, SD_ERR_DATA, "its name occurs before in the archive");
    return 0;
}

/* ---- the index ---- */

static uint32_t hash_name(const struct sd_buf *name)
{
    return (uint32_t)sd_fnv1a_low(name->data, name->len);
}

/* The slot of this name: its own, or the empty one where it belongs. m is scratch and receives the member. */
static uint32_t *slot_of(const struct sd_archive *a, const char *name, size_t len, uint32_t hash,
                         struct sd_archive_member *m)
{
    struct sd_err ignored;
    for (size_t at = hash & a->mask;; at = (at + 1) & a->mask) {
        uint32_t i = a->slots[at];
        if (!i)
            return &a->slots[at];
        if (a->hashes[i - 1] != hash)
            continue;
        read_member(a, i - 1, m, &ignored);
        if (m->name.len == len && !memcmp(m->name.data, name, len))
            return &a->slots[at];
    }
}

int sd_archive_find(const struct sd_archive *a, const char *name, struct sd_archive_member *m,
                    struct sd_err *err)
{
    size_t len = strlen(name);
    uint32_t hash = (uint32_t)sd_fnv1a_low(name, len), i = *slot_of(a, name, len, hash, m);
    if (!i)
        return 0;
    return sd_archive_member(a, i - 1, m, err) ? -1 : 1;
}

/* Notes where a tar's entries begin and the hashes of their names, up to the end or the damage. */
static int walk_tar(struct sd_archive *a, struct sd_archive_member *m, struct sd_err *err)
{
    struct sd_tar_entry e = {0};
    struct sd_err ignored;
    int got;
    while ((got = sd_tar_next(a->map.data, a->map.size, e.next, &e, &m->name, &a->damage)) == 1) {
        if (a->count == a->cap) {
            size_t cap = a->cap ? a->cap + a->cap / 2 : 256;
            uint64_t *starts = realloc(a->starts, cap * sizeof *starts);
            a->starts = starts ? starts : a->starts;
            uint32_t *hashes = starts ? realloc(a->hashes, cap * sizeof *hashes) : NULL;
            a->hashes = hashes ? hashes : a->hashes;
            if (!hashes || a->count >= UINT32_MAX / 2)
                return sd_err_memory(err, cap * sizeof *starts);
            a->cap = cap;
        }
        touch(a, e.start, 0);
        check_name(&m->name, &ignored);
        a->starts[a->count] = e.start;
        a->hashes[a->count++] = hash_name(&m->name);
    }
    return got < 0 && a->damage.code == SD_ERR_MACHINE ? sd_err_set(err, SD_ERR_MACHINE, "%s", a->damage.msg)
                                                       : 0;
}

static int walk_zip(struct sd_archive *a, struct sd_archive_member *m, struct sd_err *err)
{
    struct sd_err ignored;
    a->count = sd_zip_count(a->zip);
    a->hashes = malloc((a->count + 1) * sizeof *a->hashes);
    if (!a->hashes || a->count >= UINT32_MAX / 2)
        return sd_err_memory(err, a->count * sizeof *a->hashes);
    for (size_t i = 0; i < a->count; i++) {
        size_t len;
        const char *name = sd_zip_name(a->zip, i, &len);
        sd_buf_clear(&m->name);
        if (sd_buf_add(&m->name, name, len))
            return sd_err_memory(err, len);
        check_name(&m->name, &ignored);
        a->hashes[i] = hash_name(&m->name);
        touch(a, offset_of(a, name), 0);
    }
    return 0;
}

static int build_index(struct sd_archive *a, struct sd_err *err)
{
    struct sd_archive_member m = {0}, other = {0};
    struct sd_err ignored;
    int bad = a->zip ? walk_zip(a, &m, err) : walk_tar(a, &m, err);
    for (a->mask = 15; a->mask / 2 < a->count;)
        a->mask = a->mask * 2 + 1;
    if (!bad && (!(a->slots = calloc(a->mask + 1, sizeof *a->slots)) ||
                 !(a->duplicates = calloc(a->count / 8 + 1, 1))))
        bad = sd_err_memory(err, a->mask * sizeof *a->slots);
    for (size_t i = 0; !bad && i < a->count; i++) {
        size_t at = a->hashes[i] & a->mask;
        while (a->slots[at] && a->hashes[a->slots[at] - 1] != a->hashes[i])
            at = (at + 1) & a->mask;
        if (!a->slots[at]) { /* nearly always: names need not be read again */
            a->slots[at] = (uint32_t)i + 1;
            continue;
        }
        read_member(a, i, &m, &ignored);
        uint32_t *slot = slot_of(a, m.name.data, m.name.len, a->hashes[i], &other);
        if (*slot)
            a->duplicates[i / 8] |= (uint8_t)(1 << i % 8);
        else
            *slot = (uint32_t)i + 1;
    }
    sd_buf_free(&m.name);
    sd_buf_free(&other.name);
    return bad;
}

/* ---- opening ---- */

static const char *compression(const unsigned char *p, size_t n)
{
    static const struct {
        const char *magic, *program;
        size_t n;
    } known[] = {{"\x1f\x8b", "gunzip", 2},
                 {"BZh", "bunzip2", 3},
                 {"\xfd"
                  "7zXZ",
                  "unxz", 5},
                 {"\x28\xb5\x2f\xfd", "unzstd", 4}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].n && !memcmp(p, known[i].magic, known[i].n))
            return known[i].program;
    return NULL;
}

static bool is_tar(const unsigned char *p, size_t n)
{
    if (n < SD_TAR_BLOCK)
        return false;
    size_t zeros = 0;
    while (zeros < SD_TAR_BLOCK && !p[zeros])
        zeros++;
    return zeros == SD_TAR_BLOCK || sd_tar_is_header(p);
}

static int begin(struct sd_archive *a, const char *path, struct sd_err *err)
{
    const unsigned char *p = a->map.data;
    size_t n = a->map.size;
    const char *program = compression(p, n);
    if (program)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: compressed, so that its members cannot be reached; decompress it (%s)", path,
                          program);
    if (n >= 4 && !memcmp(p, "PK", 2)) {
        if (sd_zip_parse(&a->zip, p, n, !a->borrowed, path, err))
            return -1;
    } else if (!is_tar(p, n)) {
        return sd_err_set(err, SD_ERR_DATA, "%s: neither a zip nor a tar archive", path);
    }
    return build_index(a, err) ? sd_err_prefix(err, "%s", path) : 0;
}

static int finish_open(struct sd_archive **a, int bad)
{
    if (bad) {
        sd_archive_close(*a);
        *a = NULL;
    }
    return bad;
}

static int watch(struct sd_archive *a, struct sd_err *err)
{
    size_t words = (a->map.size >> WINDOW_BITS) / 64 + 1;
    a->windows = calloc(words + 1, sizeof *a->windows);
    a->touched = (_Atomic int *)(a->windows + words);
    return a->windows ? 0 : sd_err_memory(err, words * sizeof *a->windows);
}

int sd_archive_open(struct sd_archive **a, const char *path, struct sd_err *err)
{
    *a = calloc(1, sizeof **a);
    if (!*a)
        return sd_err_memory(err, sizeof **a);
    return finish_open(
        a, sd_filemap_open(&(*a)->map, path, err) || watch(*a, err) || begin(*a, path, err) ? -1 : 0);
}

int sd_archive_parse(struct sd_archive **a, const void *bytes, size_t size, const char *name,
                     struct sd_err *err)
{
    *a = calloc(1, sizeof **a);
    if (!*a)
        return sd_err_memory(err, sizeof **a);
    (*a)->map = (struct sd_filemap){bytes, size};
    (*a)->borrowed = true;
    return finish_open(a, begin(*a, name, err));
}

void sd_archive_close(struct sd_archive *a)
{
    if (!a)
        return;
    sd_zip_close(a->zip);
    if (!a->borrowed)
        sd_filemap_close(&a->map);
    free(a->windows);
    free(a->starts);
    free(a->hashes);
    free(a->slots);
    free(a->duplicates);
    free(a);
}

const struct sd_err *sd_archive_damage(const struct sd_archive *a)
{
    return &a->damage;
}

/* ---- bytes ---- */

static struct sd_zip_member as_zip(const struct sd_archive_member *m)
{
    return (struct sd_zip_member){.packed = m->packed,
                                  .packed_size = m->packed_size,
                                  .size = m->size,
                                  .offset = m->offset,
                                  .crc = m->crc,
                                  .deflated = m->deflated};
}

int sd_archive_view(const struct sd_archive *a, const struct sd_archive_member *m, uint64_t max,
                    struct sd_buf *scratch, const void **bytes, struct sd_err *err)
{
    const struct sd_zip_member z = as_zip(m);
    *bytes = m->packed;
    if (m->folder)
        return sd_err_set(err, SD_ERR_DATA, "a folder");
    if (m->size > max)
        return sd_err_set(err, SD_ERR_DATA, "%llu bytes, more than the %llu allowed",
                          (unsigned long long)m->size, (unsigned long long)max);
    touch(a, m->offset, m->packed_size);
    if (!m->deflated)
        return m->zip ? sd_zip_check(&z, err) : 0;
    sd_buf_clear(scratch);
    if (sd_buf_reserve(scratch, (size_t)m->size))
        return sd_err_memory(err, (size_t)m->size);
    if (sd_zip_read(&z, 0, scratch->data, (size_t)m->size, err))
        return -1;
    *bytes = scratch->data;
    return 0;
}

int64_t sd_archive_peek(const struct sd_archive *a, const struct sd_archive_member *m, size_t n,
                        struct sd_buf *scratch, const void **bytes, struct sd_err *err)
{
    if (n > m->size)
        n = (size_t)m->size;
    *bytes = m->packed;
    if (!m->deflated)
        return (int64_t)n;
    const struct sd_zip_member z = as_zip(m);
    sd_buf_clear(scratch);
    if (sd_buf_reserve(scratch, n))
        return sd_err_memory(err, n);
    *bytes = scratch->data;
    touch(a, m->offset, n);
    return sd_zip_peek(&z, scratch->data, n, err);
}
