#include "store/torch_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/json.h"
#include "store/emit.h"
#include "store/zip_write.h"

#define ALIGNMENT 64

/* What the pickle refers to again and again, remembered under these numbers. */
enum memo { REBUILD, REBUILD_V3, DICT, WORD_STORAGE, WORD_CPU, STORAGES /* and one for each element type */ };

static const char *const storages[SD_STORE_DTYPES] = {
    [SD_STORE_BOOL] = "BoolStorage", [SD_STORE_U8] = "ByteStorage",   [SD_STORE_I8] = "CharStorage",
    [SD_STORE_I16] = "ShortStorage", [SD_STORE_F16] = "HalfStorage",  [SD_STORE_BF16] = "BFloat16Storage",
    [SD_STORE_I32] = "IntStorage",   [SD_STORE_F32] = "FloatStorage", [SD_STORE_F64] = "DoubleStorage",
    [SD_STORE_I64] = "LongStorage",
};

/* The types that came after the typed storages, under their names in torch. */
static const char *const untyped[SD_STORE_DTYPES] = {
    [SD_STORE_F8_E5M2] = "float8_e5m2", [SD_STORE_F8_E4M3] = "float8_e4m3fn",
    [SD_STORE_U16] = "uint16",          [SD_STORE_U32] = "uint32",
    [SD_STORE_U64] = "uint64",
};

/* ---- the pickle, protocol 2 ---- */

struct pickler {
    struct sd_buf out;
    bool known[256]; /* numbers of the memo that are set */
    int bad;
};

static void put(struct pickler *p, const char *opcodes, size_t len)
{
    p->bad |= sd_buf_add(&p->out, opcodes, len);
}

static void put_op(struct pickler *p, char op)
{
    p->bad |= sd_buf_addc(&p->out, op);
}

static void put_le(struct pickler *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        put_op(p, (char)(v >> 8 * i));
}

static void put_int(struct pickler *p, int64_t v)
{
    if (v >= 0 && v < 256) {
        put_op(p, 'K');
        put_le(p, (uint64_t)v, 1);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        put_op(p, 'J');
        put_le(p, (uint64_t)v, 4);
    } else {
        put(p, "\x8a\x08", 2);
        put_le(p, (uint64_t)v, 8);
    }
}

static void put_text(struct pickler *p, const char *text)
{
    size_t len = strlen(text);
    put_op(p, 'X');
    put_le(p, len, 4);
    put(p, text, len);
}

/* True when number i of the memo could be put in again; else what follows is remembered as it by remember().
 */
static bool again(struct pickler *p, int i)
{
    if (p->known[i]) {
        put_op(p, 'h');
        put_le(p, (uint64_t)i, 1);
    }
    return p->known[i];
}

static void remember(struct pickler *p, int i)
{
    put_op(p, 'q');
    put_le(p, (uint64_t)i, 1);
    p->known[i] = true;
}

static void put_global(struct pickler *p, int memo, const char *module, const char *name)
{
    if (again(p, memo))
        return;
    p->bad |= sd_buf_addf(&p->out, "c%s\n%s\n", module, name);
    remember(p, memo);
}

static void put_word(struct pickler *p, int memo, const char *word)
{
    if (again(p, memo))
        return;
    put_text(p, word);
    remember(p, memo);
}

static void put_storage(struct pickler *p, const struct sd_store_tensor *t, size_t key, int64_t elements)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", key);
    put_op(p, '(');
    put_word(p, WORD_STORAGE, "storage");
    if (storages[t->dtype])
        put_global(p, STORAGES + (int)t->dtype, "torch", storages[t->dtype]);
    else
        put_global(p, STORAGES + SD_STORE_DTYPES, "torch.storage", "UntypedStorage");
    put_text(p, text);
    put_word(p, WORD_CPU, "cpu");
    put_int(p, storages[t->dtype] ? elements : elements * (int64_t)sd_store_dtype_bytes(t->dtype));
    put(p, "tQ", 2);
}

/* Shape and strides, as tuples. */
static void put_dims(struct pickler *p, const struct sd_store_tensor *t)
{
    put_op(p, '(');
    for (int i = 0; i < t->ndim; i++)
        put_int(p, t->shape[i]);
    put(p, "t(", 2);
    for (int i = 0; i < t->ndim; i++) {
        int64_t stride = 1; /* of an empty dimension PyTorch takes 1, so that the product is no 0 */
        for (int k = i + 1; k < t->ndim; k++)
            stride *= t->shape[k] ? t->shape[k] : 1;
        put_int(p, stride);
    }
    put_op(p, 't');
}

static void put_tensor(struct pickler *p, const struct sd_store_tensor *t, size_t key)
{
    int64_t elements = sd_store_bytes(t->dtype, t->ndim, t->shape) / (int64_t)sd_store_dtype_bytes(t->dtype);
    const char *dtype = untyped[t->dtype];
    put_text(p, t->name);
    put_global(p, dtype ? REBUILD_V3 : REBUILD, "torch._utils",
               dtype ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
    put_op(p, '(');
    put_storage(p, t, key, elements);
    put_int(p, 0);
    put_dims(p, t);
    put_op(p, '\x89'); /* needs no gradient */
    put_global(p, DICT, "collections", "OrderedDict");
    put(p, ")R", 2); /* and has no hooks */
    if (dtype)
        put_global(p, STORAGES + (int)t->dtype, "torch", dtype);
    put(p, "tR", 2);
}

static void put_tensors(struct pickler *p, const struct sd_store_tensor *tensors, size_t count)
{
    put(p, "}(", 2);
    for (size_t i = 0; i < count; i++)
        put_tensor(p, &tensors[i], i);
    put_op(p, 'u');
}

static void put_all(struct pickler *p, const struct sd_store_tensor *tensors, size_t count, const char *key,
                    const struct sd_torch_number *numbers, size_t number_count)
{
    put(p, "\x80\x02", 2);
    if (key) {
        put(p, "}(", 2);
        put_text(p, key);
    }
    put_tensors(p, tensors, count);
    for (size_t i = 0; i < number_count && key; i++) {
        put_text(p, numbers[i].key);
        put_int(p, numbers[i].value);
    }
    if (key)
        put_op(p, 'u');
    put_op(p, '.');
}

/* ---- the archive ---- */

static int by_name(const void *pa, const void *pb)
{
    const struct sd_store_tensor *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

static int check(const struct sd_store_tensor *tensors, size_t count, struct sd_err *err)
{
    const struct sd_store_tensor **order = calloc(count + 1, sizeof *order);
    int rc = order ? 0 : sd_err_memory(err, count * sizeof *order);
    for (size_t i = 0; i < count && !rc; i++) {
        order[i] = &tensors[i];
        rc = sd_store_check(&tensors[i], err);
    }
    if (!rc)
        qsort(order, count, sizeof *order, by_name);
    for (size_t i = 1; i < count && !rc; i++)
        if (!strcmp(order[i - 1]->name, order[i]->name))
            rc = sd_err_set(err, SD_ERR_DATA, "two tensors named \"%.100s\"", order[i]->name);
    free(order);
    return rc;
}

/* The folder in the archive: the file's name without its ending, as torch.save has it. */
static int folder_of(const char *path, struct sd_buf *folder, struct sd_err *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    size_t len = dot && dot > name ? (size_t)(dot - name) : strlen(name);
    if (!len || !sd_utf8_valid(name, len)) {
        name = "archive";
        len = strlen(name);
    }
    return sd_buf_add(folder, name, len) || sd_buf_addc(folder, '/') ? sd_err_memory(err, len) : 0;
}

struct archive {
    struct sd_zip_writer zip;
    struct sd_buf name; /* of a member; begins with the folder */
    size_t folder_len;
    unsigned char *chunk;
};

static int to_zip(void *ctx, const void *bytes, size_t len, struct sd_err *err)
{
    return sd_zip_write_bytes(ctx, bytes, len, err);
}

static int begin(struct archive *a, const char *name, uint64_t size, struct sd_err *err)
{
    a->name.len = a->folder_len;
    if (sd_buf_adds(&a->name, name))
        return sd_err_memory(err, a->name.len);
    return sd_zip_write_begin(&a->zip, a->name.data, size, err);
}

static int add_member(struct archive *a, const char *name, const void *bytes, size_t len, struct sd_err *err)
{
    if (begin(a, name, len, err) || sd_zip_write_bytes(&a->zip, bytes, len, err))
        return -1;
    return sd_zip_write_finish(&a->zip, err);
}

static int add_storage(struct archive *a, const struct sd_store_tensor *t, size_t key, struct sd_err *err)
{
    char name[32];
    snprintf(name, sizeof name, "data/%zu", key);
    if (begin(a, name, (uint64_t)sd_store_bytes(t->dtype, t->ndim, t->shape), err) ||
        sd_store_emit(t, a->chunk, to_zip, &a->zip, err))
        return -1;
    return sd_zip_write_finish(&a->zip, err);
}

static int write_archive(struct archive *a, const struct sd_buf *pickle,
                         const struct sd_store_tensor *tensors, size_t count, struct sd_err *err)
{
    if (add_member(a, "data.pkl", pickle->data, pickle->len, err) ||
        add_member(a, ".format_version", "1", 1, err) || add_member(a, ".storage_alignment", "64", 2, err) ||
        add_member(a, "byteorder", "little", 6, err))
        return -1;
    for (size_t i = 0; i < count; i++)
        if (add_storage(a, &tensors[i], i, err))
            return -1;
    return add_member(a, "version", "3\n", 2, err) ? -1 : sd_zip_write_end(&a->zip, err);
}

int sd_torch_write(const char *path, const struct sd_store_tensor *tensors, size_t count, const char *key,
                   const struct sd_torch_number *numbers, size_t number_count, struct sd_err *err)
{
    struct pickler p = {0};
    struct archive a = {.zip = {.mode = 0600, .align = ALIGNMENT}};
    int rc = -1;
    if (check(tensors, count, err)) {
        sd_err_prefix(err, "%s", path);
        goto out;
    }
    put_all(&p, tensors, count, key, numbers, number_count);
    a.chunk = malloc(SD_STORE_CHUNK);
    if (p.bad || !a.chunk) {
        sd_err_memory(err, p.out.len + SD_STORE_CHUNK);
        goto out;
    }
    if (folder_of(path, &a.name, err) || sd_atomic_open(&a.zip.file, path, err))
        goto out;
    a.folder_len = a.name.len;
    if (!write_archive(&a, &p.out, tensors, count, err))
        rc = sd_atomic_commit(&a.zip.file, err);
out:
    sd_atomic_discard(&a.zip.file);
    sd_zip_write_free(&a.zip);
    sd_buf_free(&a.name);
    sd_buf_free(&p.out);
    free(a.chunk);
    return rc;
}
