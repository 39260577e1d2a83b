#include "convert_metadata.h"

#include <string.h>
#include <time.h>

#include "adapter/lora_meta.h"
#include "base/json.h"
#include "model/config_json.h"

#define OURS 8 /* pairs of sd_config and modelspec */

/* A list with room for all that may come; the first failure sticks. */
struct pairs {
    struct sd_arena *arena;
    struct sd_store_meta *v;
    size_t n;
    bool failed;
};

/* Keeps copies. */
static void set(struct pairs *m, const char *key, size_t key_len, const char *value)
{
    char *k = sd_arena_strndup(m->arena, key, key_len), *v = value ? sd_arena_strdup(m->arena, value) : NULL;
    size_t i = 0;
    if (!k || !v) {
        m->failed = true;
        return;
    }
    while (i < m->n && strcmp(m->v[i].key, k))
        i++;
    m->v[i] = (struct sd_store_meta){k, v};
    m->n += i == m->n;
}

static void put(struct pairs *m, const char *key, const char *value)
{
    set(m, key, strlen(key), value);
}

static void drop(struct pairs *m, const char *key)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->v[i].key, key))
            m->v[kept++] = m->v[i];
    m->n = kept;
}

/* Hashes tell of the tensors that were; sd_config is made anew. */
static bool is_stale(const char *key)
{
    return !strcmp(key, "modelspec.hash_sha256") || !strcmp(key, "sshs_model_hash") ||
           !strcmp(key, "sshs_legacy_hash") || !strcmp(key, "sd_config");
}

/* The configuration of the parts that are written. */
static void put_config(struct pairs *m, const struct convert_metadata *o)
{
    struct sd_buf all = SD_BUF_INIT;
    cJSON *tree = sd_model_config_write(&all, o->config) ? NULL : sd_json_parse(all.data, all.len, NULL);
    for (int p = 0; p < SD_PARTS; p++)
        if (!o->parts[p])
            cJSON_DeleteItemFromObjectCaseSensitive(tree, sd_part_name((enum sd_part)p));
    char *text = tree ? cJSON_PrintUnformatted(tree) : NULL;
    put(m, "sd_config", text);
    cJSON_free(text);
    cJSON_Delete(tree);
    sd_buf_free(&all);
}

static void put_modelspec(struct pairs *m, const struct convert_metadata *o)
{
    struct sd_meta spec = {0};
    sd_meta_modelspec(&spec, &(struct sd_modelspec){.v2 = o->config->text.act == SD_ACT_GELU,
                                                    .v_prediction = o->config->prediction == SD_PREDICT_V,
                                                    .diffusers = !o->ldm,
                                                    .path = o->output,
                                                    .date = time(NULL)});
    for (size_t i = 0; i < spec.n; i++)
        put(m, spec.v[i].key, spec.v[i].value);
    m->failed |= spec.failed;
    sd_meta_free(&spec);
}

int convert_metadata(const struct convert_metadata *o, const struct sd_tensor_file *source,
                     struct sd_arena *arena, struct sd_store_meta **out, size_t *count, struct sd_err *err)
{
    size_t n = 0;
    const struct sd_store_meta *had = source ? sd_tensor_file_metadata(source, &n) : NULL;
    struct pairs m = {.arena = arena, .v = sd_arena_array(arena, n + o->set->n + OURS, sizeof *m.v)};
    if (!m.v)
        return sd_err_memory(err, n * sizeof *m.v);
    for (size_t i = 0; o->keep && i < n; i++)
        if (!is_stale(had[i].key))
            put(&m, had[i].key, had[i].value);
    bool told = source && sd_tensor_file_meta(source, "sd_config");
    if (o->keep && (told || (strcmp(o->config->name, "sd1") && strcmp(o->config->name, "sd2"))))
        put_config(&m, o); /* shapes do not tell everything */
    if (o->modelspec)
        put_modelspec(&m, o);
    for (size_t i = 0; i < o->drop->n; i++)
        drop(&m, o->drop->v[i]);
    for (size_t i = 0; i < o->set->n; i++)
        set(&m, o->set->v[i], strcspn(o->set->v[i], "="), strchr(o->set->v[i], '=') + 1);
    *out = m.v;
    *count = m.n;
    return m.failed ? sd_err_memory(err, 0) : 0;
}
