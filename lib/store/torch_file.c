/* What torch.save writes, and how it is read (torch/serialization.py, caffe2/serialize/inline_container.cc).
 *
 * Since PyTorch 1.6 it is a zip archive of stored members, all in one folder NAME/:
 *
 *     data.pkl     a pickle of what was saved (store/pickle.h), in which a tensor is a storage's key, type
 * and place with an offset, a shape and strides, all counted in elements data/KEY     the bytes of a storage,
 * which several tensors may share byteorder    "little" or "big" (since 2.1), version
 *
 * CRCs are not looked at: torch.save may be told not to compute them (set_crc32_options), and torch.load does
 * not ask.
 *
 * Before, one file had five pickles after one another: a magic number, the protocol 1001, what the machine
 * was like, what was saved, the list of the storages' keys; and then for each key the count of its elements
 * (8 bytes) and these. The first form, a tar archive (PyTorch 0.1), is not read, nor are TorchScript's. */
#include <stdlib.h>
#include <string.h>

#include "store/torch_private.h"
#include "store/zip.h"

#define DATA_PKL "data.pkl"
#define LEGACY_PROTOCOL 1001

/* ---- blobs ---- */

static int by_key(const void *pa, const void *pb)
{
    const struct sd_torch_blob *a = pa, *b = pb;
    size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = n ? memcmp(a->key, b->key, n) : 0;
    return order ? order : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

const struct sd_torch_blob *sd_torch_find_blob(const struct sd_torch_blobs *blobs, const char *key,
                                               size_t len)
{
    struct sd_torch_blob want = {.key = key, .key_len = len};
    return blobs->count ? bsearch(&want, blobs->all, blobs->count, sizeof want, by_key) : NULL;
}

static int sort_blobs(struct sd_tensor_file *tf, struct sd_torch_blobs *blobs, struct sd_err *err)
{
    if (blobs->count)
        qsort(blobs->all, blobs->count, sizeof *blobs->all, by_key);
    for (size_t i = 1; i < blobs->count; i++)
        if (!by_key(&blobs->all[i - 1], &blobs->all[i]))
            return sd_err_set(err, SD_ERR_DATA, "%s: storage \"%.*s\" appears twice", tf->path,
                              sd_torch_shown(blobs->all[i].key_len), blobs->all[i].key);
    return 0;
}

/* ---- the zip form ---- */

/* The first member NAME/`wanted`, and the length of NAME/; -1 without. */
static int64_t find_member(const struct sd_zip *zip, const char *wanted, size_t *folder)
{
    for (size_t i = 0; i < sd_zip_count(zip); i++) {
        size_t len, tail = strlen(wanted);
        const char *name = sd_zip_name(zip, i, &len), *slash = memchr(name, '/', len);
        if (!slash || len - (size_t)(slash + 1 - name) != tail || memcmp(slash + 1, wanted, tail))
            continue;
        *folder = (size_t)(slash + 1 - name);
        return (int64_t)i;
    }
    return -1;
}

bool sd_torch_is(const struct sd_zip *zip)
{
    size_t folder;
    return find_member(zip, DATA_PKL, &folder) >= 0;
}

static int get_member(struct sd_tensor_file *tf, const struct sd_zip *zip, size_t i, struct sd_zip_member *m,
                      struct sd_err *err)
{
    int rc = sd_zip_member(zip, i, m, err);
    if (!rc && m->deflated)
        rc = sd_err_set(err, SD_ERR_DATA, "compressed, which torch.save does not do");
    return rc ? sd_err_prefix(err, "%s: member \"%.*s\"", tf->path, sd_torch_shown(m->name_len), m->name) : 0;
}

/* A member besides the storages that says something about how to read them. */
static int check_member(struct sd_tensor_file *tf, const struct sd_zip_member *m, const char *name,
                        size_t len, struct sd_err *err)
{
    if (len == 9 && !memcmp(name, "byteorder", 9) && (m->size != 6 || memcmp(m->packed, "little", 6)))
        return sd_err_set(err, SD_ERR_DATA, "%s: its byte order is not little", tf->path);
    return 0;
}

static int list_members(struct sd_tensor_file *tf, const struct sd_zip *zip, const char *folder,
                        size_t folder_len, struct sd_torch_blobs *blobs, struct sd_err *err)
{
    for (size_t i = 0; i < sd_zip_count(zip); i++) {
        struct sd_zip_member m;
        if (get_member(tf, zip, i, &m, err))
            return -1;
        if (m.name_len < folder_len || memcmp(m.name, folder, folder_len))
            return sd_err_set(err, SD_ERR_DATA, "%s: member \"%.*s\" lies outside of the folder %.*s",
                              tf->path, sd_torch_shown(m.name_len), m.name, sd_torch_shown(folder_len),
                              folder);
        const char *name = m.name + folder_len;
        size_t len = m.name_len - folder_len;
        if (len > 5 && !memcmp(name, "data/", 5))
            blobs->all[blobs->count++] = (struct sd_torch_blob){name + 5, len - 5, m.packed, m.size};
        else if (check_member(tf, &m, name, len, err))
            return -1;
    }
    return sort_blobs(tf, blobs, err);
}

static int read_pickle(struct sd_tensor_file *tf, const struct sd_zip *zip, size_t i,
                       const struct sd_torch_blobs *blobs, struct sd_err *err)
{
    struct sd_zip_member m;
    struct sd_pickle p;
    if (get_member(tf, zip, i, &m, err))
        return -1;
    if (m.size > SD_PICKLE_LIMIT)
        return sd_err_set(err, SD_ERR_DATA, "%s: its pickle has %llu bytes, of which %zu are allowed",
                          tf->path, (unsigned long long)m.size, SD_PICKLE_LIMIT);
    if (sd_pickle_parse(&p, m.packed, m.size, err))
        return sd_err_prefix(err, "%s: " DATA_PKL, tf->path);
    int rc = sd_torch_collect(tf, &p, blobs, err);
    sd_pickle_free(&p);
    return rc;
}

int sd_torch_read_zip(struct sd_tensor_file *tf, const struct sd_zip *zip, struct sd_err *err)
{
    size_t folder = 0, name_len, n = sd_zip_count(zip);
    if (find_member(zip, "constants.pkl", &folder) >= 0)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: a TorchScript archive (a program with its weights), which is not read; save "
                          "its state_dict",
                          tf->path);
    int64_t pickle = find_member(zip, DATA_PKL, &folder);
    if (pickle < 0)
        return sd_err_set(err, SD_ERR_DATA, "%s: there is no " DATA_PKL " in this archive", tf->path);
    struct sd_torch_blobs blobs = {calloc(n + 1, sizeof *blobs.all), 0};
    if (!blobs.all)
        return sd_err_memory(err, n * sizeof *blobs.all);
    const char *name = sd_zip_name(zip, (size_t)pickle, &name_len);
    int rc = list_members(tf, zip, name, folder, &blobs, err);
    if (!rc)
        rc = read_pickle(tf, zip, (size_t)pickle, &blobs, err);
    free(blobs.all);
    return rc;
}

/* ---- the legacy form ---- */

/* The file from some place on. */
struct cursor {
    struct sd_tensor_file *tf;
    size_t at;
};

static int next_pickle(struct cursor *c, struct sd_pickle *p, const char *what, struct sd_err *err)
{
    if (sd_pickle_parse(p, c->tf->map.data + c->at, c->tf->map.size - c->at, err))
        return sd_err_prefix(err, "%s: the %s, at byte %zu", c->tf->path, what, c->at);
    c->at += p->used;
    return 0;
}

/* The three pickles that say what this is. */
static int read_preamble(struct cursor *c, struct sd_err *err)
{
    static const char *const names[] = {"magic number", "protocol", "system's kind"};
    for (int i = 0; i < 3; i++) {
        struct sd_pickle p;
        if (next_pickle(c, &p, names[i], err))
            return -1;
        const struct sd_pickle_value *v = p.value, *little = sd_pickle_get(v, "little_endian");
        bool good = i == 0 ? v->kind == SD_PICKLE_LONG && v->len == 10 &&
                                 !memcmp(v->text, "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10)
                    : i == 1 ? v->kind == SD_PICKLE_INT && v->integer == LEGACY_PROTOCOL
                             : little && little->kind == SD_PICKLE_BOOL && little->integer;
        sd_pickle_free(&p);
        if (!good)
            return sd_err_set(err, SD_ERR_DATA,
                              "%s: a pickle, but not one that torch.save wrote: its %s is not %s",
                              c->tf->path, names[i],
                              i == 0   ? "torch.save's"
                              : i == 1 ? "1001"
                                       : "little-endian");
    }
    return 0;
}

static int by_storage_key(const void *pa, const void *pb)
{
    const struct sd_pickle_storage *const *a = pa, *const *b = pb;
    struct sd_torch_blob x = {.key = (*a)->key, .key_len = (*a)->key_len};
    struct sd_torch_blob y = {.key = (*b)->key, .key_len = (*b)->key_len};
    return by_key(&x, &y);
}

/* The storages of a pickle, sorted by key; for free(). */
static const struct sd_pickle_storage **sort_storages(const struct sd_pickle *p, size_t *count,
                                                      struct sd_err *err)
{
    *count = 0;
    for (const struct sd_pickle_storage *s = p->storages; s; s = s->next)
        ++*count;
    const struct sd_pickle_storage **all = malloc((*count + 1) * sizeof *all);
    if (!all) {
        sd_err_memory(err, *count * sizeof *all);
        return NULL;
    }
    size_t n = 0;
    for (const struct sd_pickle_storage *s = p->storages; s; s = s->next)
        all[n++] = s;
    qsort(all, n, sizeof *all, by_storage_key);
    return all;
}

/* One storage behind the pickles: how many elements, and these. Only the pickle says how large an element is.
 */
static int next_blob(struct cursor *c, const struct sd_pickle_value *key,
                     const struct sd_pickle_storage **storages, size_t count, struct sd_torch_blob *blob,
                     struct sd_err *err)
{
    const char *path = c->tf->path;
    if (key->kind != SD_PICKLE_STR)
        return sd_err_set(err, SD_ERR_DATA, "%s: a storage's key that is not text", path);
    int shown = sd_torch_shown(key->len);
    struct sd_pickle_storage want = {.key = key->text, .key_len = key->len};
    const struct sd_pickle_storage *pwant = &want;
    const struct sd_pickle_storage **hit = bsearch(&pwant, storages, count, sizeof *storages, by_storage_key);
    if (!hit)
        return sd_err_set(err, SD_ERR_DATA, "%s: storage \"%.*s\" is listed, but no tensor's", path, shown,
                          key->text);
    size_t left = c->tf->map.size - c->at, size = sd_store_dtype_bytes((*hit)->dtype);
    uint64_t n = 0;
    for (int i = 7; i >= 0 && left >= 8; i--)
        n = n << 8 | c->tf->map.data[c->at + (size_t)i];
    if (left < 8 || n > (left - 8) / size)
        return sd_err_set(err, SD_ERR_DATA, "%s: storage \"%.*s\" goes beyond the end of the file: cut short",
                          path, shown, key->text);
    *blob = (struct sd_torch_blob){key->text, key->len, c->tf->map.data + c->at + 8, n * size};
    c->at += 8 + n * size;
    return 0;
}

static int list_blobs(struct cursor *c, struct sd_pickle *keys, const struct sd_pickle *saved,
                      struct sd_torch_blobs *blobs, struct sd_err *err)
{
    size_t count;
    if (keys->value->kind != SD_PICKLE_LIST)
        return sd_err_set(err, SD_ERR_DATA, "%s: the storages' keys are not a list", c->tf->path);
    if (sd_pickle_spend(keys, (keys->value->count + 1) * sizeof *blobs->all, err))
        return sd_err_prefix(err, "%s", c->tf->path);
    const struct sd_pickle_storage **storages = sort_storages(saved, &count, err);
    blobs->all = calloc(keys->value->count + 1, sizeof *blobs->all);
    int rc = storages && blobs->all ? 0 : sd_err_memory(err, keys->value->count * sizeof *blobs->all);
    for (size_t i = 0; i < keys->value->count && !rc; i++)
        rc = next_blob(c, keys->value->items[i], storages, count, &blobs->all[blobs->count++], err);
    free(storages);
    return rc ? -1 : sort_blobs(c->tf, blobs, err);
}

int sd_torch_read_legacy(struct sd_tensor_file *tf, struct sd_err *err)
{
    struct cursor c = {tf, 0};
    struct sd_pickle saved, keys;
    struct sd_torch_blobs blobs = {0};
    if (read_preamble(&c, err) || next_pickle(&c, &saved, "saved values", err))
        return -1;
    if (next_pickle(&c, &keys, "storages' keys", err)) {
        sd_pickle_free(&saved);
        return -1;
    }
    int rc = list_blobs(&c, &keys, &saved, &blobs, err) || sd_torch_collect(tf, &saved, &blobs, err) ? -1 : 0;
    free(blobs.all);
    sd_pickle_free(&keys);
    sd_pickle_free(&saved);
    return rc;
}
