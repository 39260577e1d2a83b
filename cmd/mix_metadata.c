#include "mix_metadata.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/ordered.h"
#include "base/path.h"
#include "model/config_json.h"
#include "store/file_hash.h"

/* A1111 calls files by the SHA-256 of the whole, and by that of 64 KiB at 1 MiB. */
struct hashing {
    const struct mix_origin *origin;
    struct sd_file_hash *to;
    struct sd_err *err;
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

static void hash_file(void *ctx, int thread, size_t i)
{
    struct hashing *w = ctx;
    struct sd_model_file *mf = w->origin->models[i];
    (void)thread;
    if (!sd_model_file_is_folder(mf))
        sd_file_hash(sd_model_file_path(mf), NULL, 1, &w->to[i], &w->err[i]);
}

static void nothing_more(void *ctx, size_t i)
{
    (void)ctx;
    (void)i;
}

/* Folders keep empty names. */
static int hash_files(const struct mix_origin *o, struct sd_file_hash *h, struct sd_err *err)
{
    struct hashing w = {o, h, calloc(o->count, sizeof *w.err)};
    int rc = 0;
    if (!w.err)
        return sd_err_memory(err, o->count * sizeof *w.err);
    const struct sd_ordered run = {.n = o->count,
                                   .window = o->count,
                                   .jobs = o->recipe->jobs,
                                   .work = hash_file,
                                   .finish = nothing_more,
                                   .ctx = &w};
    rc = sd_ordered_run(&run, err);
    for (size_t i = 0; i < o->count && !rc; i++)
        if (w.err[i].code) {
            *err = w.err[i];
            rc = -1;
        }
    free(w.err);
    return rc;
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
static bool fill_recipe(cJSON *r, struct mix_metadata *m, const struct mix_origin *o,
                        const struct sd_file_hash *h)
{
    static const char *const hash_names[] = {"primary_model_hash", "secondary_model_hash",
                                             "tertiary_model_hash"};
    const struct sd_mix_recipe *recipe = o->recipe;
    const char *base = sd_path_base(o->output);
    bool good = cJSON_AddStringToObject(r, "type", "sd-mix");
    for (size_t i = 0; i < 3; i++)
        good = good && add_string(r, hash_names[i], i < o->count ? h[i].sha256 : NULL);
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
static bool fill_models(cJSON *models, struct sd_model_file *mf, const struct sd_file_hash *h)
{
    const char *recipe = meta_of(mf, "sd_merge_recipe"), *nested = meta_of(mf, "sd_merge_models");
    if (!*h->sha256)
        return true;
    if (!cJSON_GetObjectItemCaseSensitive(models, h->sha256)) {
        cJSON *one = cJSON_AddObjectToObject(models, h->sha256);
        if (!one || !cJSON_AddStringToObject(one, "name", sd_path_base(sd_model_file_path(mf))) ||
            !cJSON_AddStringToObject(one, "legacy_hash", h->autov1) ||
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

static int add_recipe(struct mix_metadata *m, const struct mix_origin *o, const struct sd_file_hash *h,
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
    struct sd_file_hash *h = calloc(o->count, sizeof *h);
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
