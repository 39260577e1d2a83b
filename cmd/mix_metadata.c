#include "mix_metadata.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/path.h"
#include "model/config_json.h"

/* A source's names: A1111 calls files by the SHA-256 of the whole, and by that of 64 KiB at 1 MiB, of which
 * it takes 8 digits. */
struct hashes {
    char whole[65], legacy[9];
    struct sd_err err;
};

static int add(struct mix_metadata *m, const char *key, const char *value, struct sd_err *err)
{
    value = value ? sd_arena_strdup(&m->arena, value) : NULL;
    if (!value || m->count == sizeof m->pairs / sizeof *m->pairs)
        return sd_err_memory(err, 0);
    m->pairs[m->count++] = (struct sd_store_meta){key, value};
    return 0;
}

static int add_json(struct mix_metadata *m, const char *key, const cJSON *object, struct sd_err *err)
{
    char *text = cJSON_PrintUnformatted(object);
    int rc = add(m, key, text, err);
    free(text);
    return rc;
}

/* Metadata of the model's file; a folder has none that counts. */
static const char *meta_of(struct sd_model_file *mf, const char *key)
{
    for (int p = 0; p < SD_PARTS && !sd_model_file_is_folder(mf); p++) {
        const struct sd_tensor_file *tf = sd_model_file_tensors(mf, (enum sd_part)p);
        if (tf)
            return sd_tensor_file_meta(tf, key);
    }
    return NULL;
}

static int hash_file(const char *path, struct hashes *h)
{
    enum { FROM = 0x100000, LENGTH = 0x10000 };
    static const size_t most = LENGTH;
    char hex[65];
    unsigned char *window = malloc(most);
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = -1;
    ssize_t n = fd < 0 || !window ? -1 : pread(fd, window, most, FROM);
    if (n < 0) {
        sd_err_errno(&h->err, path);
    } else if (!sd_sha256(window, (size_t)n, hex, &h->err) && !sd_sha256_fd(fd, h->whole, &h->err)) {
        memcpy(h->legacy, hex, 8);
        h->legacy[8] = 0;
        rc = 0;
    }
    if (fd >= 0)
        close(fd);
    free(window);
    return rc;
}

/* All files at once: each takes a core, or the disk. Folders keep empty names. */
static int hash_files(const struct mix_origin *o, struct hashes *h, struct sd_err *err)
{
    int bad = 0;
#pragma omp parallel for num_threads(o->recipe->jobs) schedule(dynamic, 1) reduction(| : bad)
    for (size_t i = 0; i < o->count; i++)
        if (!sd_model_file_is_folder(o->models[i]))
            bad |= hash_file(sd_model_file_path(o->models[i]), &h[i]) != 0;
    for (size_t i = 0; bad && i < o->count; i++)
        if (h[i].err.code) {
            *err = h[i].err;
            return -1;
        }
    return 0;
}

/* The title its metadata gives the model, else its file's name without the ending: sd-scripts'
 * build_merged_from. */
static char *title_of(struct mix_metadata *m, struct sd_model_file *mf)
{
    const char *title = meta_of(mf, "modelspec.title"), *path = sd_model_file_path(mf);
    size_t len = strlen(path);
    if (title)
        return sd_arena_strdup(&m->arena, title);
    while (len > 1 && path[len - 1] == '/')
        len--;
    char *name = sd_arena_strndup(&m->arena, path, len);
    return !name ? NULL
           : sd_model_file_is_folder(mf)
               ? sd_arena_strdup(&m->arena, sd_path_base(name))
               : sd_arena_strndup(&m->arena, sd_path_base(name), sd_path_stem_len(sd_path_base(name)));
}

static int add_merged_from(struct mix_metadata *m, const struct mix_origin *o, struct sd_err *err)
{
    struct sd_buf titles = SD_BUF_INIT;
    int bad = 0;
    for (size_t i = 0; i < o->count && !bad; i++) {
        const char *title = title_of(m, o->models[i]);
        bad = !title || sd_buf_addf(&titles, "%s%s", i ? ", " : "", title);
    }
    bad = bad ? sd_err_memory(err, titles.len) : add(m, "modelspec.merged_from", titles.data, err);
    sd_buf_free(&titles);
    return bad;
}

static bool add_numbers(cJSON *to, const char *name, const double *v, size_t n)
{
    cJSON *list = cJSON_CreateDoubleArray(v, (int)n);
    return list && cJSON_AddItemToObject(to, name, list);
}

static bool add_string(cJSON *to, const char *name, const char *s)
{
    return s && *s ? cJSON_AddStringToObject(to, name, s) : cJSON_AddNullToObject(to, name);
}

/* A1111's members first, as it writes them; then what it has no words for. */
static bool fill_recipe(cJSON *r, struct mix_metadata *m, const struct mix_origin *o, const struct hashes *h)
{
    static const char *const hash_names[] = {"primary_model_hash", "secondary_model_hash",
                                             "tertiary_model_hash"};
    const struct sd_mix_recipe *recipe = o->recipe;
    const char *base = sd_path_base(o->output);
    bool good = cJSON_AddStringToObject(r, "type", "sd-mix");
    for (size_t i = 0; i < 3; i++)
        good = good && add_string(r, hash_names[i], i < o->count ? h[i].whole : NULL);
    good =
        good &&
        cJSON_AddStringToObject(r, "interp_method", recipe->difference ? "Add difference" : "Weighted sum") &&
        (recipe->difference || o->count == 2
             ? cJSON_AddNumberToObject(r, "multiplier",
                                       recipe->difference ? recipe->multiplier : recipe->weights[1])
             : cJSON_AddNullToObject(r, "multiplier")) &&
        cJSON_AddBoolToObject(r, "save_as_half", recipe->saved == SD_STORE_F16) &&
        add_string(r, "custom_name", sd_arena_strndup(&m->arena, base, sd_path_stem_len(base))) &&
        cJSON_AddStringToObject(r, "bake_in_vae", o->vae ? sd_path_base(o->vae) : "None") &&
        cJSON_AddBoolToObject(r, "unet_only", recipe->unet_only) &&
        cJSON_AddStringToObject(r, "precision", sd_store_dtype_name(recipe->precision));
    if (!recipe->difference)
        good = good && add_numbers(r, "weights", recipe->weights, o->count);
    if (recipe->blocks)
        good = good && add_numbers(r, "block_weights", recipe->blocks, SD_MIX_BLOCKS);
    return good;
}

/* One source, and what it was itself merged from. */
static bool fill_models(cJSON *models, struct sd_model_file *mf, const struct hashes *h)
{
    const char *recipe = meta_of(mf, "sd_merge_recipe"), *nested = meta_of(mf, "sd_merge_models");
    if (!*h->whole)
        return true;
    if (!cJSON_GetObjectItemCaseSensitive(models, h->whole)) {
        cJSON *one = cJSON_AddObjectToObject(models, h->whole);
        if (!one || !cJSON_AddStringToObject(one, "name", sd_path_base(sd_model_file_path(mf))) ||
            !cJSON_AddStringToObject(one, "legacy_hash", h->legacy) ||
            !add_string(one, "sd_merge_recipe", recipe))
            return false;
    }
    cJSON *older = nested ? sd_json_parse(nested, strlen(nested), NULL) : NULL;
    bool good = true;
    for (cJSON *e = cJSON_IsObject(older) ? older->child : NULL; e && good; e = e->next)
        if (!cJSON_GetObjectItemCaseSensitive(models, e->string)) {
            cJSON *copy = cJSON_Duplicate(e, true);
            good = copy && cJSON_AddItemToObject(models, e->string, copy);
        }
    cJSON_Delete(older);
    return good;
}

static int add_recipe(struct mix_metadata *m, const struct mix_origin *o, const struct hashes *h,
                      struct sd_err *err)
{
    cJSON *recipe = cJSON_CreateObject(), *models = cJSON_CreateObject();
    bool good = recipe && models && fill_recipe(recipe, m, o, h);
    for (size_t i = 0; i < o->count && good; i++)
        good = fill_models(models, o->models[i], &h[i]);
    int rc = good ? 0 : sd_err_memory(err, 0);
    rc = rc || add_json(m, "sd_merge_recipe", recipe, err) ||
         (o->hash && add_json(m, "sd_merge_models", models, err));
    cJSON_Delete(recipe);
    cJSON_Delete(models);
    return rc ? -1 : 0;
}

int mix_metadata_config(struct mix_metadata *m, struct sd_model_file *first, struct sd_err *err)
{
    const char *config = meta_of(first, "sd_config");
    struct sd_buf text = SD_BUF_INIT;
    int rc = 0;
    if (!config && !strcmp(sd_model_file_config(first)->name, "custom")) {
        if (sd_model_config_write(&text, sd_model_file_config(first)))
            rc = sd_err_memory(err, text.len);
        config = text.data;
    }
    if (config && !rc)
        rc = add(m, "sd_config", config, err);
    sd_buf_free(&text);
    return rc;
}

int mix_metadata(struct mix_metadata *m, const struct mix_origin *o, struct sd_err *err)
{
    /* what mixing does not change; titles, authors and hashes are another model's */
    static const char *const kept[] = {"modelspec.architecture", "modelspec.implementation",
                                       "modelspec.prediction_type", "modelspec.resolution"};
    struct hashes *h = calloc(o->count, sizeof *h);
    int rc = !h ? sd_err_memory(err, o->count * sizeof *h) : o->hash ? hash_files(o, h, err) : 0;
    rc = rc || mix_metadata_config(m, o->models[0], err) || add(m, "format", "pt", err);
    for (size_t i = 0; i < sizeof kept / sizeof *kept && !rc; i++) {
        const char *value = meta_of(o->models[0], kept[i]);
        rc = value ? add(m, kept[i], value, err) : 0;
    }
    rc = rc || add_merged_from(m, o, err) || add_recipe(m, o, h, err);
    free(h);
    return rc ? -1 : 0;
}

void mix_metadata_free(struct mix_metadata *m)
{
    sd_arena_free(&m->arena);
}
