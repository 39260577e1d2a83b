/* Identifying: the files of a model, and what is missing or extra in them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "adapter/identify_private.h"
#include "model/declare.h"

/* ---- files ---- */

static const char *const part_folders[] = {"unet", "vae", "text_encoder", "text_encoder_2", "transformer"};
enum { PART_FOLDERS = sizeof part_folders / sizeof *part_folders };

static bool is_there(const char *folder, const char *name)
{
    struct sd_arena arena = {0};
    struct stat st;
    char *path = sd_arena_printf(&arena, "%s/%s", folder, name);
    bool there = path && !stat(path, &st);
    sd_arena_free(&arena);
    return there;
}

bool sd_is_model_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode))
        return false;
    for (int i = 0; i < PART_FOLDERS; i++)
        if (is_there(path, part_folders[i]))
            return true;
    return is_there(path, "config.json");
}

static int add_file(struct sd_id_keys *keys, const char *path, const char *prefix, struct sd_err *err)
{
    struct sd_tensor_file *tf;
    if (keys->file_count == sizeof keys->files / sizeof *keys->files)
        return sd_err_set(err, SD_ERR_DATA, "%s: more than %zu files of one model", path, keys->file_count);
    if (sd_tensor_file_open(&tf, path, err))
        return -1;
    keys->files[keys->file_count++] = tf;
    size_t n = sd_tensor_file_count(tf);
    struct sd_id_key *v = realloc(keys->v, (keys->count + n + 1) * sizeof *v);
    if (!v)
        return sd_err_memory(err, (keys->count + n) * sizeof *v);
    keys->v = v;
    for (size_t i = 0; i < n; i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(tf, i);
        const char *name = *prefix ? sd_arena_printf(&keys->arena, "%s%s", prefix, e->name) : e->name;
        if (!name)
            return sd_err_memory(err, strlen(e->name));
        v[keys->count++] = (struct sd_id_key){name, e};
    }
    return 0;
}

static bool is_variant(const char *name)
{
    return strstr(name, ".fp16.") || strstr(name, ".non_ema.") || strstr(name, "_ema.");
}

static int plain_weights(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return dot && !strcmp(dot, ".safetensors") && !is_variant(d->d_name);
}

static int any_weights(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return dot && !strcmp(dot, ".safetensors");
}

/* The weights of a folder: one file or its shards; a variant only when there is nothing else. */
static int add_folder(struct sd_id_keys *keys, const char *folder, const char *prefix, struct sd_err *err)
{
    struct dirent **list = NULL;
    int n = scandir(folder, &list, plain_weights, alphasort), rc = 0;
    if (!n) {
        free(list);
        n = scandir(folder, &list, any_weights, alphasort);
    }
    for (int i = 0; i < n; i++) {
        char *path = rc ? NULL : sd_arena_printf(&keys->arena, "%s/%s", folder, list[i]->d_name);
        if (!rc)
            rc = path ? add_file(keys, path, prefix, err) : sd_err_memory(err, strlen(folder));
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    return rc;
}

static int add_folders(struct sd_id_keys *keys, const char *path, struct sd_err *err)
{
    int rc = is_there(path, "config.json") ? add_folder(keys, path, "", err) : 0;
    for (int i = 0; i < PART_FOLDERS && !rc; i++) {
        char *folder = sd_arena_printf(&keys->arena, "%s/%s", path, part_folders[i]);
        char *prefix = sd_arena_printf(&keys->arena, "%s.", part_folders[i]);
        rc = !folder || !prefix                ? sd_err_memory(err, strlen(path))
             : is_there(path, part_folders[i]) ? add_folder(keys, folder, prefix, err)
                                               : 0;
    }
    if (!rc && !keys->file_count)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: no .safetensors file in the folders of its parts", path);
    return rc;
}

int sd_id_keys_open(struct sd_id_keys *keys, const char *path, struct sd_err *err)
{
    *keys = (struct sd_id_keys){0};
    int rc = sd_is_model_folder(path) ? add_folders(keys, path, err) : add_file(keys, path, "", err);
    if (rc)
        sd_id_keys_close(keys);
    return rc;
}

void sd_id_keys_close(struct sd_id_keys *keys)
{
    for (size_t i = 0; i < keys->file_count; i++)
        sd_tensor_file_close(keys->files[i]);
    free(keys->v);
    sd_arena_free(&keys->arena);
    *keys = (struct sd_id_keys){0};
}

const char *sd_id_meta(const struct sd_id_keys *keys, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < keys->file_count && !value; i++)
        value = sd_tensor_file_meta(keys->files[i], name);
    return value;
}

/* ---- what should be there ---- */

static int note(struct sd_identity *id, struct sd_name_list *list, const char *name)
{
    if (list->count++ >= SD_IDENTIFY_NAMES)
        return 0;
    return (list->names[list->count - 1] = sd_arena_strdup(&id->arena, name)) ? 0 : -1;
}

static int significant(int ndim, const int64_t *shape)
{
    while (ndim > 0 && shape[ndim - 1] == 1)
        ndim--;
    return ndim;
}

static bool same_shape(const struct sd_store_entry *e, const struct sd_var *v)
{
    int n = significant(e->ndim, e->shape);
    return n == significant(v->ndim, v->dim) &&
           (!n || !memcmp(e->shape, v->dim, (size_t)n * sizeof *e->shape));
}

static int by_name(const void *pa, const void *pb)
{
    const char *const *a = pa, *const *b = pb;
    return strcmp(*a, *b);
}

/* Compares the parts that are there with what their configuration asks for. names, with room for all
 * parameters, receives those. */
static int check_parts(struct sd_identity *id, struct sd_model_file *mf, struct sd_weights *w)
{
    int bad = 0;
    for (size_t i = 0; i < sd_weights_count(w); i++) {
        const struct sd_var *v = sd_weights_var(w, i);
        struct sd_store_entry e;
        if (!sd_model_file_find(mf, v->name, &e))
            bad |= note(id, &id->missing, v->name);
        else if (!same_shape(&e, v))
            bad |= note(id, &id->misshapen, v->name);
    }
    return bad;
}

/* What the listing has that no part asks for, and that is no EMA. */
static int check_extra(struct sd_identity *id, const struct sd_listing *l, struct sd_weights *w)
{
    size_t n = sd_weights_count(w);
    const char **names = calloc(n + 1, sizeof *names);
    int bad = !names;
    for (size_t i = 0; i < n && names; i++)
        names[i] = sd_weights_var(w, i)->name;
    if (names)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < l->count && !bad; i++) {
        const char *name = l->entries[i].name;
        if (strncmp(name, "model_ema.", 10) && !bsearch(&name, names, n, sizeof *names, by_name))
            bad = note(id, &id->extra, name);
    }
    free(names);
    return bad;
}

static int check_model(struct sd_identity *id, struct sd_listing *l, struct sd_err *err)
{
    struct sd_weights *w = sd_weights_new(NULL, NULL, err);
    int rc = w ? 0 : -1, parts = 0;
    for (int p = 0; p < SD_PARTS && !rc; p++)
        if (sd_model_file_has(l->model, (enum sd_part)p)) {
            rc = sd_model_declare(w, sd_model_file_config(l->model), (enum sd_part)p, NULL, NULL, err);
            parts++;
        }
    if (!rc && (check_parts(id, l->model, w) || check_extra(id, l, w)))
        rc = sd_err_memory(err, 0);
    for (int p = 0; p < SD_PARTS && !rc && parts > 1; p++) /* a checkpoint should have all */
        if (!sd_model_file_has(l->model, (enum sd_part)p) &&
            note(id, &id->missing, sd_part_name((enum sd_part)p)))
            rc = sd_err_memory(err, 0);
    sd_weights_free(w);
    return rc;
}

/* What opening it for use would say. */
static void tell_why_not(struct sd_identity *id, struct sd_model_file *mf)
{
    struct sd_err err = {0};
    if (id->variant)
        id->why_not = "its U-Net takes other inputs than a picture's latents";
    for (int p = 0; p < SD_PARTS && !id->why_not; p++)
        if (sd_model_file_has(mf, (enum sd_part)p) && sd_model_check(mf, (enum sd_part)p, &err))
            id->why_not = sd_arena_strdup(&id->arena, err.msg);
    id->supported = !id->why_not;
}

int sd_id_check(struct sd_identity *id, const struct sd_id_keys *keys, const char *path, struct sd_err *err)
{
    struct sd_listing l;
    struct sd_err why = {0};
    if (sd_listing_parameters(&l, path, &why)) {
        if (why.code == SD_ERR_MACHINE) {
            if (err)
                *err = why;
            return -1;
        }
        id->why_not = sd_arena_strdup(&id->arena, why.msg);
        return 0;
    }
    const struct sd_model_config *c = sd_model_file_config(l.model);
    if (!id->family && sd_model_file_has(l.model, SD_PART_UNET)) /* of no published width */
        id->family = c->name;
    if (!id->prediction &&
        (sd_id_meta(keys, "sd_config") || is_there(path, "scheduler/scheduler_config.json")))
        id->prediction = c->prediction == SD_PREDICT_V ? "v_prediction" : "epsilon";
    int rc = check_model(id, &l, err);
    id->checked = !rc;
    tell_why_not(id, l.model);
    sd_listing_close(&l);
    return rc;
}
