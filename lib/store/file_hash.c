#include "store/file_hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"
#include "base/hash.h"
#include "base/ordered.h"
#include "store/safetensors_write.h"

enum hash_item { WHOLE, DATA, SSHS, HASH_ITEMS };

struct hashing {
    struct sd_filemap map;
    const struct sd_tensor_file *tf;
    struct sd_file_hash *out;
    int status[HASH_ITEMS];
    struct sd_err err[HASH_ITEMS];
};

/* SHA-256 of [from, to) of the file, as far as it goes; pages are given back on the way. */
static void hash_range(const struct sd_filemap *map, size_t from, size_t to, char hex[65])
{
    from = from < map->size ? from : map->size;
    to = to < map->size ? to : map->size;
    sd_sha256_mapped(map->data + from, to - from, hex);
}

static int fill_mapped(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    const struct sd_store_entry *e = ctx;
    (void)err;
    memcpy(dst, (const char *)e->data + offset, bytes);
    if (e->mapped)
        sd_filemap_release((const char *)e->data + offset, bytes);
    return 0;
}

static int hash_sshs(struct hashing *h, struct sd_err *err)
{
    size_t n = sd_tensor_file_count(h->tf), meta_count;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(h->tf, &meta_count);
    struct sd_store_tensor *tensors = calloc(n + 1, sizeof *tensors);
    if (!tensors)
        return sd_err_memory(err, n * sizeof *tensors);
    for (size_t i = 0; i < n; i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(h->tf, i);
        tensors[i] = (struct sd_store_tensor){.name = e->name,
                                              .dtype = e->dtype,
                                              .ndim = e->ndim,
                                              .shape = e->shape,
                                              .fill = fill_mapped,
                                              .ctx = (void *)e};
    }
    int rc = sd_store_hash(tensors, n, meta, meta_count, h->out->model, h->out->legacy, err);
    free(tensors);
    return rc;
}

/* Where the data of a safetensors file begins: its tensors cover all behind the header. */
static size_t data_start(const struct sd_filemap *map)
{
    uint64_t header = 0;
    for (int i = 0; i < 8; i++)
        header |= (uint64_t)map->data[i] << 8 * i;
    return (size_t)header + 8;
}

static void work(void *ctx, int thread, size_t item)
{
    struct hashing *h = ctx;
    struct sd_err *err = &h->err[item];
    char hex[65] = "";
    (void)thread;
    if (item == WHOLE) {
        hash_range(&h->map, 0, h->map.size, h->out->sha256);
        hash_range(&h->map, 0x100000, 0x110000, hex);
        memcpy(h->out->autov1, hex, 8);
    } else if (item == DATA) {
        hash_range(&h->map, data_start(&h->map), h->map.size, h->out->data);
    } else {
        h->status[item] = hash_sshs(h, err);
    }
}

static void finish(void *ctx, size_t item)
{
    (void)ctx;
    (void)item;
}

int sd_file_hash(const char *path, const struct sd_tensor_file *tf, int jobs, struct sd_file_hash *out,
                 struct sd_err *err)
{
    struct hashing h = {.tf = tf, .out = out};
    *out = (struct sd_file_hash){0};
    if (sd_filemap_open(&h.map, path, err))
        return -1;
    if (tf && h.map.size < 8) {
        sd_filemap_close(&h.map);
        return sd_err_set(err, SD_ERR_DATA, "%s: changed while it was read", path);
    }
    const struct sd_ordered run = {.n = tf ? HASH_ITEMS : 1,
                                   .window = HASH_ITEMS,
                                   .jobs = jobs,
                                   .work = work,
                                   .finish = finish,
                                   .ctx = &h};
    int rc = sd_ordered_run(&run, err);
    for (size_t i = 0; i < run.n && !rc; i++)
        if (h.status[i]) {
            rc = -1;
            if (err)
                *err = h.err[i];
        }
    sd_filemap_close(&h.map);
    return rc;
}
