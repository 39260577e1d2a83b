#include "store/npz.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "store/npy.h"
#include "store/zip.h"
#include "store/zip_write.h"

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

uint32_t sd_npz_crc(const struct sd_npz *z, const struct sd_store_entry *e)
{
    return z->arrays[e - z->entries].member.crc;
}

/* name and head are empty buffers. */
static int write_array(struct sd_zip_writer *zip, const struct sd_store_tensor *t, struct sd_buf *name,
                       struct sd_buf *head, struct sd_err *err)
{
    int64_t bytes = sd_store_bytes(t->dtype, t->ndim, t->shape);
    if (bytes < 0 || (bytes && !t->data) || sd_npy_header(head, t->dtype, t->ndim, t->shape))
        return sd_err_set(err, SD_ERR_DATA, "array \"%.100s\" cannot be written as .npy", t->name);
    uint64_t size = head->len + (uint64_t)bytes;
    if (sd_buf_adds(name, t->name) || sd_buf_adds(name, ".npy"))
        return sd_err_memory(err, strlen(t->name));
    uLong crc = crc32(crc32(0, NULL, 0), (const Bytef *)head->data, (uInt)head->len);
    crc = crc32_z(crc, bytes ? t->data : (const Bytef *)"", (z_size_t)bytes);
    if (sd_zip_write_member(zip, name->data, (uint32_t)crc, size, err) ||
        sd_zip_write_bytes(zip, head->data, head->len, err))
        return -1;
    return sd_zip_write_bytes(zip, t->data, (size_t)bytes, err);
}

static int write_all(struct sd_zip_writer *zip, const struct sd_store_tensor *arrays, size_t count,
                     struct sd_err *err)
{
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        struct sd_buf name = SD_BUF_INIT, head = SD_BUF_INIT;
        rc = write_array(zip, &arrays[i], &name, &head, err);
        sd_buf_free(&name);
        sd_buf_free(&head);
    }
    if (!rc)
        rc = sd_zip_write_end(zip, err);
    sd_zip_write_free(zip);
    return rc;
}

int sd_npz_format(struct sd_buf *out, const struct sd_store_tensor *arrays, size_t count, struct sd_err *err)
{
    struct sd_zip_writer zip = {.memory = out, .mode = 0600, .zip64 = true};
    return write_all(&zip, arrays, count, err);
}

int sd_npz_write(const char *path, const struct sd_store_tensor *arrays, size_t count, struct sd_err *err)
{
    struct sd_zip_writer zip = {.mode = 0600, .zip64 = true};
    if (sd_atomic_open(&zip.file, path, err))
        return -1;
    int rc = write_all(&zip, arrays, count, err);
    if (!rc)
        rc = sd_atomic_commit(&zip.file, err);
    sd_atomic_discard(&zip.file);
    return rc;
}
