#include "store/tensor_file.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "store/tensor_file_private.h"
#include "store/zip.h"

/* ---- slots ---- */

struct sd_tensor_slot *sd_tensor_file_add(struct sd_tensor_file *tf, struct sd_err *err)
{
    if (tf->count == tf->room) {
        size_t room = tf->room ? 2 * tf->room : 64;
        struct sd_tensor_slot *slots = realloc(tf->slots, room * sizeof *slots);
        if (!slots) {
            sd_err_memory(err, room * sizeof *slots);
            return NULL;
        }
        tf->slots = slots;
        tf->room = room;
    }
    struct sd_tensor_slot *s = &tf->slots[tf->count++];
    *s = (struct sd_tensor_slot){0};
    return s;
}

static int by_offset(const void *pa, const void *pb)
{
    const struct sd_tensor_slot *a = pa, *b = pb;
    if (a->shard != b->shard)
        return a->shard < b->shard ? -1 : 1;
    if (a->e.offset != b->e.offset)
        return a->e.offset < b->e.offset ? -1 : 1;
    if (a->e.bytes != b->e.bytes) /* an empty tensor comes before the one that starts at the same place */
        return a->e.bytes < b->e.bytes ? -1 : 1;
    return strcmp(a->e.name, b->e.name);
}

static int by_name(const void *pa, const void *pb)
{
    const struct sd_store_entry *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

int sd_tensor_file_index(struct sd_tensor_file *tf, struct sd_err *err)
{
    if (tf->count)
        qsort(tf->slots, tf->count, sizeof *tf->slots, by_offset);
    tf->by_name = sd_arena_array(&tf->arena, tf->count, sizeof *tf->by_name);
    if (!tf->by_name)
        return sd_err_memory(err, tf->count * sizeof *tf->by_name);
    for (size_t i = 0; i < tf->count; i++)
        tf->by_name[i] = &tf->slots[i].e;
    qsort(tf->by_name, tf->count, sizeof *tf->by_name, by_name);
    for (size_t i = 1; i < tf->count; i++)
        if (!strcmp(tf->by_name[i - 1]->name, tf->by_name[i]->name))
            return sd_err_set(err, SD_ERR_DATA, "%s: tensor \"%.150s\" appears twice", tf->path,
                              tf->by_name[i]->name);
    return 0;
}

/* ---- formats ---- */

static int read_npz(struct sd_tensor_file *tf, struct sd_err *err)
{
    if (sd_npz_parse(&tf->npz, tf->map.data, tf->map.size, tf->path, err))
        return -1;
    for (size_t i = 0; i < sd_npz_count(tf->npz); i++) {
        struct sd_tensor_slot *s = sd_tensor_file_add(tf, err);
        if (!s)
            return -1;
        s->packed = sd_npz_entry(tf->npz, i);
        s->e = *s->packed;
    }
    return sd_tensor_file_index(tf, err);
}

static int read_zip(struct sd_tensor_file *tf, struct sd_err *err)
{
    struct sd_zip *zip;
    if (sd_zip_parse(&zip, tf->map.data, tf->map.size, false, tf->path, err))
        return -1;
    bool torch = sd_torch_is(zip), empty = !sd_zip_count(zip);
    tf->format = torch ? "torch" : "npz";
    int rc = torch ? sd_torch_read_zip(tf, zip, err) : 0;
    sd_zip_close(zip);
    if (torch)
        return rc;
    if (read_npz(tf, err))
        return -1;
    return tf->count || empty
               ? 0
               : sd_err_set(err, SD_ERR_DATA,
                            "%s: a zip archive, but neither torch.save's (it has no data.pkl) nor "
                            "NumPy's (it has no .npy)",
                            tf->path);
}

/* By the first bytes, of which there are 8. A pickle begins with its protocol, JSON with a brace; what
 * follows would be the length of a safetensors header of more than 4 GiB, forty times what the format allows.
 */
static bool is_zip(const unsigned char *p, size_t size)
{
    (void)size;
    return !memcmp(p, "PK\3\4", 4) || !memcmp(p, "PK\5\6", 4);
}

static bool is_pickle(const unsigned char *p, size_t size)
{
    (void)size;
    return p[0] == 0x80 && p[1] >= 2 && p[1] <= 5 && memcmp(p + 4, "\0\0\0", 4);
}

static bool is_json(const unsigned char *p, size_t size)
{
    (void)size;
    return p[0] == '{' && memcmp(p + 4, "\0\0\0", 4);
}

static bool is_tar(const unsigned char *p, size_t size)
{
    return size >= 512 && !memcmp(p + 257, "ustar", 5) && memcmp(p + 4, "\0\0\0", 4);
}

static int refuse_tar(struct sd_tensor_file *tf, struct sd_err *err)
{
    bool torch = !memcmp(tf->map.data, "sys_info", 9); /* the first member's name */
    return sd_err_set(err, SD_ERR_DATA, "%s: a tar %s", tf->path,
                      torch ? "file of PyTorch 0.1, which is not read; torch.load it and torch.save it again"
                            : "archive, which is no tensor file");
}

static int read_bytes(struct sd_tensor_file *tf, struct sd_err *err)
{
    static const struct {
        const char *format;
        bool (*is)(const unsigned char *first, size_t size);
        int (*read)(struct sd_tensor_file *tf, struct sd_err *err);
    } formats[] = {{"zip", is_zip, read_zip},
                   {"torch-legacy", is_pickle, sd_torch_read_legacy},
                   {"shards", is_json, sd_shards_read},
                   {"tar", is_tar, refuse_tar},
                   {"safetensors", NULL, sd_safetensors_read}};
    const unsigned char *p = tf->map.data;
    size_t i = 0;
    while (formats[i].is && !(tf->map.size >= 8 && formats[i].is(p, tf->map.size)))
        i++;
    tf->format = formats[i].format;
    return formats[i].read(tf, err);
}

/* ---- opening ---- */

static struct sd_tensor_file *make(const char *path, struct sd_err *err)
{
    struct sd_tensor_file *tf = calloc(1, sizeof *tf);
    if (!tf || !(tf->path = sd_arena_strdup(&tf->arena, path))) {
        free(tf);
        sd_err_memory(err, sizeof *tf);
        return NULL;
    }
    return tf;
}

int sd_tensor_file_parse(struct sd_tensor_file **out, const void *bytes, size_t size, const char *name,
                         struct sd_err *err)
{
    *out = NULL;
    struct sd_tensor_file *tf = make(name, err);
    if (!tf)
        return -1;
    tf->map = (struct sd_filemap){bytes, size};
    tf->borrowed = true;
    if (read_bytes(tf, err)) {
        sd_tensor_file_close(tf);
        return -1;
    }
    *out = tf;
    return 0;
}

int sd_tensor_file_open_part(struct sd_tensor_file **out, const char *path, bool shard, struct sd_err *err)
{
    *out = NULL;
    struct sd_tensor_file *tf = make(path, err);
    if (!tf)
        return -1;
    tf->is_shard = shard;
    if (sd_filemap_open(&tf->map, path, err) || read_bytes(tf, err)) {
        sd_tensor_file_close(tf);
        return -1;
    }
    for (size_t i = 0; i < tf->count; i++)
        tf->slots[i].e.mapped = tf->slots[i].e.data != NULL;
    *out = tf;
    return 0;
}

int sd_tensor_file_open(struct sd_tensor_file **out, const char *path, struct sd_err *err)
{
    return sd_tensor_file_open_part(out, path, false, err);
}

void sd_tensor_file_close(struct sd_tensor_file *tf)
{
    if (!tf)
        return;
    for (size_t i = 0; i < tf->shard_count; i++)
        sd_tensor_file_close(tf->shards[i]);
    sd_npz_close(tf->npz);
    if (!tf->borrowed)
        sd_filemap_close(&tf->map);
    sd_arena_free(&tf->arena);
    free(tf->slots);
    free(tf);
}

/* ---- asking ---- */

const char *sd_tensor_file_path(const struct sd_tensor_file *tf)
{
    return tf->path;
}

const char *sd_tensor_file_format(const struct sd_tensor_file *tf)
{
    return tf->format;
}

uint64_t sd_tensor_file_size(const struct sd_tensor_file *tf)
{
    uint64_t size = tf->map.size;
    for (size_t i = 0; i < tf->shard_count; i++)
        size += sd_tensor_file_size(tf->shards[i]);
    return size;
}

size_t sd_tensor_file_count(const struct sd_tensor_file *tf)
{
    return tf->count;
}

const struct sd_store_entry *sd_tensor_file_entry(const struct sd_tensor_file *tf, size_t i)
{
    return i < tf->count ? &tf->slots[i].e : NULL;
}

const struct sd_store_entry *sd_tensor_file_find(const struct sd_tensor_file *tf, const char *name)
{
    struct sd_store_entry key = {.name = name}, *pkey = &key;
    const struct sd_store_entry **hit = bsearch(&pkey, tf->by_name, tf->count, sizeof *tf->by_name, by_name);
    return hit ? *hit : NULL;
}

const struct sd_store_meta *sd_tensor_file_metadata(const struct sd_tensor_file *tf, size_t *count)
{
    if (tf->shard_count)
        return sd_tensor_file_metadata(tf->shards[0], count);
    *count = tf->meta_count;
    return tf->meta;
}

const char *sd_tensor_file_meta(const struct sd_tensor_file *tf, const char *key)
{
    size_t n;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(tf, &n);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(meta[i].key, key))
            return meta[i].value;
    return NULL;
}

bool sd_tensor_file_is_at(const struct sd_tensor_file *tf, const char *path)
{
    bool is = !strcmp(tf->path, path);
    for (size_t i = 0; i < tf->shard_count && !is; i++)
        is = !strcmp(tf->shards[i]->path, path);
    return is;
}

bool sd_tensor_file_named(const char *name)
{
    static const char *const ends[] = {".safetensors", ".npz", ".ckpt", ".pt", ".pth", ".bin"};
    const char *dot = strrchr(name, '.');
    bool is = false;
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends && !is; i++)
        is = !strcasecmp(dot, ends[i]);
    return is;
}

/* ---- reading ---- */

/* Copies a tensor's elements, which lie strides apart, one after the other. It has at least one. */
static void gather(const struct sd_tensor_slot *s, unsigned char *out)
{
    size_t size = sd_store_dtype_bytes(s->e.dtype), inner = (size_t)s->e.shape[s->e.ndim - 1];
    int64_t at[SD_STORE_DIMS] = {0}, step = s->stride[s->e.ndim - 1];
    int d;
    do {
        const unsigned char *p = s->from;
        for (int i = 0; i < s->e.ndim - 1; i++)
            p += (uint64_t)at[i] * (uint64_t)s->stride[i] * size;
        for (size_t i = 0; i < inner; i++, out += size)
            memcpy(out, p + i * (uint64_t)step * size, size);
        for (d = s->e.ndim - 2; d >= 0 && ++at[d] == s->e.shape[d]; d--)
            at[d] = 0;
    } while (d >= 0);
}

int sd_tensor_file_read(const struct sd_tensor_file *tf, const struct sd_store_entry *e, void *out,
                        struct sd_err *err)
{
    const struct sd_tensor_slot *s = (const struct sd_tensor_slot *)e;
    const struct sd_tensor_file *own = tf->shard_count ? tf->shards[s->shard] : tf;
    if (!e->bytes)
        return 0;
    if (s->packed) /* also where it lies there as it is: this checks its CRC */
        return sd_npz_read(own->npz, s->packed, out, err);
    if (e->data)
        memcpy(out, e->data, e->bytes);
    else
        gather(s, out);
    return 0;
}

int sd_tensor_file_read_f32(const struct sd_tensor_file *tf, const struct sd_store_entry *e, float *out,
                            struct sd_err *err)
{
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype);
    void *copy = e->data ? NULL : malloc(e->bytes + 1);
    int rc = 0;
    if (!e->data && !copy)
        return sd_err_memory(err, e->bytes);
    if (copy)
        rc = sd_tensor_file_read(tf, e, copy, err);
    if (!rc)
        sd_store_to_f32(e->dtype, copy ? copy : e->data, n, out);
    free(copy);
    return rc;
}
