#include "adapter/merged.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_product.h"
#include "tensor/frozen.h"

/* A changed layer. */
struct layer {
    char *name; /* of its weight */
    struct sd_store_entry entry;
    int64_t shape[4];
    float *values; /* owned */
};

struct sd_merged {
    sd_weights_find *find;
    void *ctx;
    struct sd_arena arena;
    struct layer *layers; /* in the order of names */
    size_t count, bytes;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct layer *)a)->name, ((const struct layer *)b)->name);
}

static struct layer *find_layer(const struct sd_merged *m, const char *name)
{
    struct layer key = {.name = (char *)name};
    return m->count ? bsearch(&key, m->layers, m->count, sizeof key, by_name) : NULL;
}

bool sd_merged_find(void *ctx, const char *name, struct sd_store_entry *entry)
{
    const struct sd_merged *m = ctx;
    const struct layer *l = find_layer(m, name);
    if (!l)
        return m->find(m->ctx, name, entry);
    *entry = l->entry;
    return true;
}

/* Takes the layer's weight as it is in the model. */
static int take(struct sd_merged *m, struct layer *l, const struct sd_network_module *like,
                struct sd_err *err)
{
    struct sd_store_entry e;
    size_t n = sd_network_weight_count(like);
    if (!m->find(m->ctx, l->name, &e) || !e.data || e.bytes / sd_store_dtype_bytes(e.dtype) != n ||
        e.ndim > 4)
        return sd_err_set(err, SD_ERR_DATA, "%s is not in the model, or not of the size that its layer has",
                          l->name);
    l->values = malloc(n * sizeof *l->values);
    if (!l->values)
        return sd_err_memory(err, n * sizeof *l->values);
    sd_store_to_f32(e.dtype, e.data, n, l->values);
    memcpy(l->shape, e.shape, (size_t)e.ndim * sizeof *l->shape);
    l->entry = (struct sd_store_entry){.name = l->name,
                                       .dtype = SD_STORE_F32,
                                       .ndim = e.ndim,
                                       .shape = l->shape,
                                       .data = l->values,
                                       .bytes = n * sizeof *l->values};
    m->bytes += l->entry.bytes;
    /* The file's bytes are not read again. */
    sd_var_drop_pages(&(struct sd_var){
        .dtype = SD_U8, .ndim = 1, .dim = {(int64_t)e.bytes}, .data = e.data, .mapped = e.mapped});
    return 0;
}

static int add(struct layer *l, const struct sd_network_module *from, float multiplier, struct sd_err *err)
{
    size_t n = sd_network_weight_count(from);
    float *delta = malloc(n * sizeof *delta);
    if (!delta)
        return sd_err_memory(err, n * sizeof *delta);
    int rc = sd_network_delta(from, l->values, delta, err);
    for (size_t i = 0; i < n && !rc; i++)
        l->values[i] += multiplier * delta[i];
    free(delta);
    return rc;
}

/* The layers that any part changes, each once. */
static int list(struct sd_merged *m, const struct sd_merge_part *parts, size_t count, struct sd_err *err)
{
    size_t n = 0, most = 0, kept = 0;
    for (size_t i = 0; i < count; i++)
        most += parts[i].network.count;
    m->layers = calloc(most + 1, sizeof *m->layers);
    if (!m->layers)
        return sd_err_memory(err, most * sizeof *m->layers);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < parts[i].network.count; k++) {
            const struct sd_target *t = parts[i].network.modules[k].target;
            if (t && !(m->layers[n++].name = sd_arena_printf(&m->arena, "%s.weight", t->path)))
                return sd_err_memory(err, 128);
        }
    if (n)
        qsort(m->layers, n, sizeof *m->layers, by_name);
    for (size_t i = 0; i < n; i++)
        if (!kept || strcmp(m->layers[kept - 1].name, m->layers[i].name))
            m->layers[kept++] = m->layers[i];
    m->count = kept;
    return 0;
}

static int merge(struct sd_merged *m, const struct sd_merge_part *part, struct sd_err *err)
{
    char name[512];
    for (size_t k = 0; k < part->network.count; k++) {
        const struct sd_network_module *from = &part->network.modules[k];
        if (!from->target)
            continue;
        snprintf(name, sizeof name, "%s.weight", from->target->path);
        struct layer *l = find_layer(m, name);
        if (!l || (!l->values && take(m, l, from, err)) || add(l, from, part->multiplier, err))
            return -1;
    }
    return 0;
}

int sd_merged_new(struct sd_merged **merged, sd_weights_find *find, void *ctx,
                  const struct sd_merge_part *parts, size_t count, struct sd_err *err)
{
    struct sd_merged *m = *merged = calloc(1, sizeof *m);
    if (!m)
        return sd_err_memory(err, sizeof *m);
    m->find = find;
    m->ctx = ctx;
    int rc = list(m, parts, count, err);
    for (size_t i = 0; i < count && !rc; i++)
        rc = merge(m, &parts[i], err);
    if (rc) {
        sd_merged_free(m);
        *merged = NULL;
    }
    return rc;
}

void sd_merged_free(struct sd_merged *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->count; i++)
        free(m->layers[i].values);
    free(m->layers);
    sd_arena_free(&m->arena);
    free(m);
}

size_t sd_merged_count(const struct sd_merged *m)
{
    return m->count;
}

size_t sd_merged_bytes(const struct sd_merged *m)
{
    return m->bytes;
}
