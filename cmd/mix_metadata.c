#include "mix_metadata.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/ordered.h"
#include "base/path.h"
#include "model/config_json.h"
#include "model/modelspec.h"
#include "store/file_hash.h"

/* A1111 calls files by the SHA-256 of the whole, and by that of 64 KiB at 1 MiB. */
struct hashing {
    const struct mix_origin *origin;
    struct sd_file_hash *to;
    struct sd_err *err;
};

/* NULL, where memory is out, sticks. */
static void add(struct sd_meta *m, const char *key, const char *value)
{
    m->failed |= !value;
    sd_meta_set(m, key, value);
}

static void add_json(struct sd_meta *m, const char *key, const cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object);
    add(m, key, text);
    free(text);
}

/* The model's file, whose metadata counts; NULL for a folder. */
static const struct sd_tensor_file *file_of(struct sd_model_file *mf)
{
    const struct sd_tensor_file *tf = NULL;
    for (int p = 0; p < SD_PARTS && !tf && !sd_model_file_is_folder(mf); p++)
        tf = sd_model_file_tensors(mf, (enum sd_part)p);
    return tf;
}

static const char *meta_of(struct sd_model_file *mf, const char *key)
{
    const struct sd_tensor_file *tf = file_of(mf);
    return tf ? sd_tensor_file_meta(tf, key) : NULL;
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

/* sd-scripts' build_merged_from. */
static void add_merged_from(struct sd_meta *m, const struct mix_origin *o)
{
    struct sd_buf titles = SD_BUF_INIT;
    for (size_t i = 0; i < o->count; i++) {
        const char *title = sd_modelspec_title(m, file_of(o->models[i]), sd_model_file_path(o->models[i]));
        m->failed |= !title || sd_buf_addf(&titles, "%s%s", i ? ", " : "", title);
    }
    add(m, "modelspec.merged_from", titles.data);
    sd_buf_free(&titles);
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
static bool fill_recipe(cJSON *r, struct sd_meta *m, const struct mix_origin *o, const struct sd_file_hash *h)
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

static void add_recipe(struct sd_meta *m, const struct mix_origin *o, const struct sd_file_hash *h)
{
    cJSON *recipe = cJSON_CreateObject(), *models = cJSON_CreateObject();
    bool good = recipe && models && fill_recipe(recipe, m, o, h);
    for (size_t i = 0; i < o->count && good; i++)
        good = fill_models(models, o->models[i], &h[i]);
    m->failed |= !good;
    add_json(m, "sd_merge_recipe", recipe);
    if (o->hash)
        add_json(m, "sd_merge_models", models);
    cJSON_Delete(recipe);
    cJSON_Delete(models);
}

int mix_metadata_config(struct sd_meta *m, struct sd_model_file *first, struct sd_err *err)
{
    const struct sd_model_config *config = sd_model_file_config(first);
    struct sd_buf text = SD_BUF_INIT;
    const char *had = meta_of(first, "sd_config");
    if (had || !strcmp(config->name, "custom")) {
        m->failed |= !had && sd_model_config_write(&text, config);
        add(m, "sd_config", had ? had : text.data);
    }
    sd_buf_free(&text);
    return m->failed ? sd_err_memory(err, 0) : 0;
}

int mix_metadata(struct sd_meta *m, const struct mix_origin *o, struct sd_err *err)
{
    /* what mixing does not change; titles, authors and hashes are another model's */
    static const char *const kept[] = {"modelspec.architecture", "modelspec.implementation",
                                       "modelspec.prediction_type", "modelspec.resolution"};
    struct sd_file_hash *h = calloc(o->count, sizeof *h);
    int rc = !h ? sd_err_memory(err, o->count * sizeof *h) : o->hash ? hash_files(o, h, err) : 0;
    rc = rc || mix_metadata_config(m, o->models[0], err);
    if (!rc) {
        add(m, "format", "pt");
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            sd_meta_set(m, kept[i], meta_of(o->models[0], kept[i]));
        add_merged_from(m, o);
        add_recipe(m, o, h);
        rc = m->failed ? sd_err_memory(err, 0) : 0;
    }
    free(h);
    return rc ? -1 : 0;
}
