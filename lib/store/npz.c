#include "store/npz.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/atomic.h"
#include "store/npy.h"
#include "store/zip.h"

struct array {
    struct sd_zip_member member;
    uint64_t header; /* bytes before the data */
};

struct sd_npz {
    struct sd_zip *zip;
    struct sd_arena arena;
    struct sd_store_entry *entries;
    struct array *arrays;
    size_t count;
};

static int read_header(struct sd_npz *z, const struct sd_zip_member *m, struct sd_err *err)
{
    struct sd_store_entry *e = &z->entries[z->count];
    unsigned char prefix[SD_NPY_PREFIX];
    int64_t got = sd_zip_peek(m, prefix, sizeof prefix, err);
    int64_t n = got < 0 ? -1 : sd_npy_header_length(prefix, (size_t)got, err);
    if (n < 0)
        return -1;
    unsigned char *head = malloc((size_t)n);
    if (!head)
        return sd_err_memory(err, (size_t)n);
    int rc = -1;
    got = sd_zip_peek(m, head, (size_t)n, err);
    if (got == n)
        rc = sd_npy_parse(e, &z->arena, head, (size_t)n, err);
    else if (got >= 0)
        sd_err_set(err, SD_ERR_DATA, "its header is cut short");
    free(head);
    if (rc)
        return -1;
    if (m->size - (uint64_t)n != e->bytes)
        return sd_err_set(err, SD_ERR_DATA, "holds %llu bytes of data, but its type and shape take %zu",
                          (unsigned long long)(m->size - (uint64_t)n), e->bytes);
    e->data = m->deflated ? NULL : m->packed + n;
    e->offset = m->deflated ? m->offset : m->offset + (uint64_t)n;
    z->arrays[z->count] = (struct array){*m, (uint64_t)n};
    return 0;
}

/* Members that are not called *.npy are no arrays, and left alone. */
static int read_members(struct sd_npz *z, struct sd_err *err)
{
    size_t n = sd_zip_count(z->zip);
    z->entries = sd_arena_array(&z->arena, n, sizeof *z->entries);
    z->arrays = sd_arena_array(&z->arena, n, sizeof *z->arrays);
    if (!z->entries || !z->arrays)
        return sd_err_memory(err, n * sizeof *z->entries);
    for (size_t i = 0; i < n; i++) {
        struct sd_zip_member m;
        int bad = sd_zip_member(z->zip, i, &m, err);
        size_t len = m.name_len;
        int shown = len < 100 ? (int)len : 100;
        if (bad)
            return sd_err_prefix(err, "%s: member \"%.*s\"", sd_zip_path(z->zip), shown, m.name);
        if (len < 4 || memcmp(m.name + len - 4, ".npy", 4))
            continue;
        if (read_header(z, &m, err))
            return sd_err_prefix(err, "%s: array \"%.*s\"", sd_zip_path(z->zip), shown, m.name);
        char *name = sd_arena_strndup(&z->arena, m.name, len - 4);
        if (!name)
            return sd_err_memory(err, len);
        z->entries[z->count++].name = name;
    }
    return 0;
}

static int finish_open(struct sd_npz **z, int failed, struct sd_err *err)
{
    if (!failed && !read_members(*z, err))
        return 0;
    sd_npz_close(*z);
    *z = NULL;
    return -1;
}

int sd_npz_open(struct sd_npz **z, const char *path, struct sd_err *err)
{
    *z = calloc(1, sizeof **z);
    if (!*z)
        return sd_err_memory(err, sizeof **z);
    return finish_open(z, sd_zip_open(&(*z)->zip, path, err), err);
}

int sd_npz_parse(struct sd_npz **z, const void *bytes, size_t size, const char *name, struct sd_err *err)
{
    *z = calloc(1, sizeof **z);
    if (!*z)
        return sd_err_memory(err, sizeof **z);
    return finish_open(z, sd_zip_parse(&(*z)->zip, bytes, size, false, name, err), err);
}

void sd_npz_close(struct sd_npz *z)
{
    if (!z)
        return;
    sd_zip_close(z->zip);
    sd_arena_free(&z->arena);
    free(z);
}

size_t sd_npz_count(const struct sd_npz *z)
{
    return z->count;
}

const struct sd_store_entry *sd_npz_entry(const struct sd_npz *z, size_t i)
{
    return i < z->count ? &z->entries[i] : NULL;
}

const struct sd_store_entry *sd_npz_find(const struct sd_npz *z, const char *name)
{
    for (size_t i = 0; i < z->count; i++)
        if (!strcmp(z->entries[i].name, name))
            return &z->entries[i];
    return NULL;
}

int sd_npz_read(const struct sd_npz *z, const struct sd_store_entry *e, void *out, struct sd_err *err)
{
    const struct array *a = &z->arrays[e - z->entries];
    if (!sd_zip_read(&a->member, a->header, out, e->bytes, err))
        return 0;
    return sd_err_prefix(err, "%s: array \"%.100s\"", sd_zip_path(z->zip), e->name);
}

static void put(struct sd_buf *b, uint64_t v, int bytes, int *bad)
{
    for (int i = 0; i < bytes; i++)
        *bad |= sd_buf_addc(b, (char)(v >> 8 * i));
}

/* The fields that a member's local header and its directory entry share, from the flags to the date. */
static void put_common(struct sd_buf *b, uint32_t crc, int *bad)
{
    put(b, 0, 2, bad);  /* flags */
    put(b, 0, 2, bad);  /* stored */
    put(b, 0, 2, bad);  /* 00:00 */
    put(b, 33, 2, bad); /* 1 January 1980 */
    put(b, crc, 4, bad);
}

/* Sizes go to a zip64 field, as NumPy asks Python's zipfile to. */
static int put_local(struct sd_buf *b, const char *name, uint32_t crc, uint64_t size)
{
    int bad = sd_buf_add(b, "PK\3\4", 4);
    put(b, 45, 2, &bad); /* version that knows zip64 */
    put_common(b, crc, &bad);
    put(b, UINT64_MAX, 8, &bad);
    put(b, strlen(name) + 4, 2, &bad);
    put(b, 20, 2, &bad);
    bad |= sd_buf_addf(b, "%s.npy", name);
    put(b, 1, 2, &bad);
    put(b, 16, 2, &bad);
    put(b, size, 8, &bad);
    put(b, size, 8, &bad);
    return bad;
}

static int put_entry(struct sd_buf *b, const char *name, uint32_t crc, uint64_t size, uint64_t at)
{
    int bad = sd_buf_add(b, "PK\1\2", 4);
    put(b, 45 | 3 << 8, 2, &bad); /* made by version 4.5 on Unix */
    put(b, 45, 2, &bad);
    put_common(b, crc, &bad);
    put(b, size, 4, &bad);
    put(b, size, 4, &bad);
    put(b, strlen(name) + 4, 2, &bad);
    put(b, 0, 8, &bad);           /* extra, comment, disk, internal attributes */
    put(b, 0600u << 16, 4, &bad); /* permissions */
    put(b, at, 4, &bad);
    return bad | sd_buf_addf(b, "%s.npy", name);
}

/* Adds one array to the file and its entry to the directory; local and head are empty buffers. */
static int write_array(struct sd_atomic *file, struct sd_buf *directory, const struct sd_store_tensor *t,
                       struct sd_buf *local, struct sd_buf *head, struct sd_err *err)
{
    int64_t bytes = sd_store_bytes(t->dtype, t->ndim, t->shape);
    uint64_t at = sd_atomic_size(file);
    if (bytes < 0 || (bytes && !t->data) || sd_npy_header(head, t->dtype, t->ndim, t->shape))
        return sd_err_set(err, SD_ERR_DATA, "array \"%.100s\" cannot be written as .npy", t->name);
    uint64_t size = head->len + (uint64_t)bytes;
    if (size > INT32_MAX || at > INT32_MAX || strlen(t->name) > 60000)
        return sd_err_set(err, SD_ERR_DATA, "array \"%.100s\" is too large for an .npz written here (2 GiB)",
                          t->name);
    uLong crc = crc32(crc32(0, NULL, 0), (const Bytef *)head->data, (uInt)head->len);
    crc = crc32(crc, bytes ? t->data : (const Bytef *)"", (uInt)bytes);
    if (put_local(local, t->name, (uint32_t)crc, size) ||
        put_entry(directory, t->name, (uint32_t)crc, size, at))
        return sd_err_memory(err, local->len);
    if (sd_atomic_write(file, local->data, local->len, err) ||
        sd_atomic_write(file, head->data, head->len, err))
        return -1;
    return sd_atomic_write(file, t->data, (size_t)bytes, err);
}

static int write_directory(struct sd_atomic *file, struct sd_buf *directory, size_t count, struct sd_err *err)
{
    uint64_t size = directory->len, at = sd_atomic_size(file);
    int bad = count > 65534 || at > UINT32_MAX ? -1 : 0;
    bad |= sd_buf_add(directory, "PK\5\6\0\0\0", 8);
    put(directory, count, 2, &bad);
    put(directory, count, 2, &bad);
    put(directory, size, 4, &bad);
    put(directory, at, 4, &bad);
    put(directory, 0, 2, &bad);
    if (bad)
        return sd_err_memory(err, directory->len);
    return sd_atomic_write(file, directory->data, directory->len, err);
}

int sd_npz_write(const char *path, const struct sd_store_tensor *arrays, size_t count, struct sd_err *err)
{
    struct sd_buf directory = SD_BUF_INIT;
    struct sd_atomic *file;
    if (sd_atomic_open(&file, path, err))
        return -1;
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        struct sd_buf local = SD_BUF_INIT, head = SD_BUF_INIT;
        rc = write_array(file, &directory, &arrays[i], &local, &head, err);
        sd_buf_free(&local);
        sd_buf_free(&head);
    }
    if (!rc)
        rc = write_directory(file, &directory, count, err);
    if (!rc)
        rc = sd_atomic_commit(&file, err);
    sd_atomic_discard(&file);
    sd_buf_free(&directory);
    return rc;
}
