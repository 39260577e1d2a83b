#include "convert_metadata.h"

#include <string.h>
#include <time.h>

#include "base/json.h"
#include "model/config_json.h"
#include "model/modelspec.h"

/* The configuration of the parts that are written. */
static void put_config(struct sd_meta *m, const struct convert_metadata *o)
{
    struct sd_buf all = SD_BUF_INIT;
    cJSON *tree = sd_model_config_write(&all, o->config) ? NULL : sd_json_parse(all.data, all.len, NULL);
    for (int p = 0; p < SD_PARTS; p++)
        if (!o->parts[p])
            cJSON_DeleteItemFromObjectCaseSensitive(tree, sd_part_name((enum sd_part)p));
    char *text = tree ? cJSON_PrintUnformatted(tree) : NULL;
    m->failed |= !text;
    sd_meta_set(m, "sd_config", text);
    cJSON_free(text);
    cJSON_Delete(tree);
    sd_buf_free(&all);
}

static void set_pair(struct sd_meta *m, const char *pair)
{
    const char *equals = strchr(pair, '=');
    char *key = sd_arena_strndup(&m->arena, pair, (size_t)(equals - pair));
    if (key)
        sd_meta_set(m, key, equals + 1);
    m->failed |= !key;
}

int convert_metadata(const struct convert_metadata *o, const struct sd_tensor_file *source, struct sd_meta *m,
                     struct sd_err *err)
{
    /* hashes tell of the tensors that were; sd_config is made anew */
    static const char *const stale[] = {"modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash",
                                        "sd_config"};
    bool told = source && sd_tensor_file_meta(source, "sd_config");
    if (o->keep && source)
        sd_meta_copy(m, source);
    for (size_t i = 0; i < sizeof stale / sizeof *stale; i++)
        sd_meta_drop(m, stale[i]);
    if (o->keep && (told || (strcmp(o->config->name, "sd1") && strcmp(o->config->name, "sd2"))))
        put_config(m, o); /* shapes do not tell everything */
    if (o->modelspec)
        sd_modelspec_set(m, &(struct sd_modelspec){.v2 = o->config->text.act == SD_ACT_GELU,
                                                   .v_prediction = o->config->prediction == SD_PREDICT_V,
                                                   .diffusers = !o->ldm,
                                                   .path = o->output,
                                                   .date = time(NULL)});
    for (size_t i = 0; i < o->drop->n; i++)
        sd_meta_drop(m, o->drop->v[i]);
    for (size_t i = 0; i < o->set->n; i++)
        set_pair(m, o->set->v[i]);
    return m->failed ? sd_err_memory(err, 0) : 0;
}
