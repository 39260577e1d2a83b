#include "model/listing.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static int by_name(const void *pa, const void *pb)
{
    const struct sd_store_entry *a = pa, *b = pb;
    return strcmp(a->name, b->name);
}

bool sd_key_is_schedule(const char *key)
{
    static const char *const names[] = {"betas", "logvar", "lvlb_weights", "model_ema.decay",
                                        "model_ema.num_updates"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(key, names[i]))
            return true;
    return !strchr(key, '.') && (strstr(key, "alphas_cumprod") || !strncmp(key, "posterior_", 10));
}

/* True for keys that some part takes for a parameter, or for something that nobody needs. */
static bool is_known(struct sd_model_file *mf, const struct sd_tensor_file *tf, const char *key,
                     struct sd_buf *name)
{
    const struct sd_model_config *config = sd_model_file_config(mf);
    for (int p = 0; p < SD_PARTS; p++) {
        const struct sd_part_names *names = sd_model_file_names(mf, (enum sd_part)p);
        if (names && sd_model_file_tensors(mf, (enum sd_part)p) == tf &&
            (sd_name_is_surplus(config, (enum sd_part)p, names, key) ||
             sd_name_from_file(config, (enum sd_part)p, names, key, 0, name) > 0))
            return true;
    }
    return false;
}

static void add_parameters(struct sd_listing *l)
{
    for (int p = 0; p < SD_PARTS; p++)
        for (size_t i = 0; i < sd_model_file_count(l->model, (enum sd_part)p); i++)
            l->entries[l->count++] = *sd_model_file_entry(l->model, (enum sd_part)p, i);
}

/* The tensors of part p's file that no part knows; a file shared by several parts is gone through once. */
static int add_others(struct sd_listing *l, enum sd_part p, struct sd_buf *name, struct sd_err *err)
{
    const struct sd_tensor_file *tf = sd_model_file_tensors(l->model, p);
    for (int before = 0; before < (int)p; before++)
        if (sd_model_file_tensors(l->model, (enum sd_part)before) == tf)
            return 0;
    for (size_t i = 0; tf && i < sd_tensor_file_count(tf); i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(tf, i);
        if (!sd_key_is_schedule(e->name) && !is_known(l->model, tf, e->name, name) &&
            sd_model_file_unpack(l->model, tf, e, &l->entries[l->count++], err))
            return -1;
    }
    return 0;
}

int sd_listing_parameters(struct sd_listing *l, const char *path, struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT;
    size_t room = 1;
    *l = (struct sd_listing){0};
    if (sd_model_file_open(&l->model, path, err))
        return -1;
    for (int p = 0; p < SD_PARTS; p++) {
        if (!sd_model_file_has(l->model, (enum sd_part)p))
            continue;
        if (sd_model_file_need(l->model, (enum sd_part)p, err)) {
            sd_listing_close(l);
            return -1;
        }
        room += sd_model_file_count(l->model, (enum sd_part)p) +
                sd_tensor_file_count(sd_model_file_tensors(l->model, (enum sd_part)p));
    }
    if (!(l->entries = sd_arena_array(&l->arena, room, sizeof *l->entries))) {
        sd_listing_close(l);
        return sd_err_memory(err, room * sizeof *l->entries);
    }
    add_parameters(l);
    int rc = 0;
    for (int p = 0; p < SD_PARTS && !rc; p++)
        rc = add_others(l, (enum sd_part)p, &name, err);
    sd_buf_free(&name);
    if (rc) {
        sd_listing_close(l);
        return -1;
    }
    qsort(l->entries, l->count, sizeof *l->entries, by_name);
    return 0;
}

int sd_listing_file(struct sd_listing *l, const char *path, struct sd_err *err)
{
    *l = (struct sd_listing){0};
    if (sd_tensor_file_open(&l->file, path, err))
        return -1;
    l->count = sd_tensor_file_count(l->file);
    if (!(l->entries = sd_arena_array(&l->arena, l->count + 1, sizeof *l->entries))) {
        sd_listing_close(l);
        return sd_err_memory(err, l->count * sizeof *l->entries);
    }
    for (size_t i = 0; i < l->count; i++)
        l->entries[i] = *sd_tensor_file_entry(l->file, i);
    qsort(l->entries, l->count, sizeof *l->entries, by_name);
    return 0;
}

int sd_listing_load(const struct sd_listing *l, const struct sd_store_entry *e, struct sd_store_entry *out,
                    void **memory, struct sd_err *err)
{
    *out = *e;
    *memory = NULL;
    if (e->data || !e->bytes)
        return 0;
    out->data = *memory = malloc(e->bytes);
    out->mapped = false;
    return *memory ? sd_tensor_file_read(l->file, sd_tensor_file_find(l->file, e->name), *memory, err)
                   : sd_err_memory(err, e->bytes);
}

void sd_listing_close(struct sd_listing *l)
{
    sd_model_file_close(l->model);
    sd_tensor_file_close(l->file);
    sd_arena_free(&l->arena);
    *l = (struct sd_listing){0};
}
