#include "model/config_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SIZE_LIMIT ((int64_t)1 << 31)

/* A member that may only have the values this toolkit builds, as JSON texts separated by '|'. Absent and null
 * are always fine. */
struct fixed {
    const char *name, *values;
};

static const struct fixed unet_fixed[] = {
    {"act_fn", "\"silu\"|\"swish\""},
    {"addition_embed_type", ""},
    {"addition_time_embed_dim", ""},
    {"attention_type", "\"default\""},
    {"center_input_sample", "false"},
    {"class_embed_type", ""},
    {"class_embeddings_concat", "false"},
    {"conv_in_kernel", "3"},
    {"conv_out_kernel", "3"},
    {"cross_attention_norm", ""},
    {"downsample_padding", "1"},
    {"dropout", "0"},
    {"dual_cross_attention", "false"},
    {"encoder_hid_dim", ""},
    {"encoder_hid_dim_type", ""},
    {"flip_sin_to_cos", "true"},
    {"freq_shift", "0"},
    {"mid_block_only_cross_attention", "false"},
    {"mid_block_scale_factor", "1"},
    {"mid_block_type", "\"UNetMidBlock2DCrossAttn\""},
    {"num_attention_heads", ""}, /* diffusers refuses it too: attention_head_dim holds the number of heads */
    {"num_class_embeds", ""},
    {"only_cross_attention", "false"},
    {"projection_class_embeddings_input_dim", ""},
    {"resnet_out_scale_factor", "1"},
    {"resnet_skip_time_act", "false"},
    {"resnet_time_scale_shift", "\"default\""},
    {"reverse_transformer_layers_per_block", ""},
    {"time_cond_proj_dim", ""},
    {"time_embedding_act_fn", ""},
    {"time_embedding_dim", ""},
    {"time_embedding_type", "\"positional\""},
    {"timestep_post_act", ""},
    {NULL, NULL},
};

static const struct fixed vae_fixed[] = {
    {"act_fn", "\"silu\"|\"swish\""},    {"latents_mean", ""}, {"latents_std", ""},
    {"mid_block_add_attention", "true"}, {"shift_factor", ""}, {"use_post_quant_conv", "true"},
    {"use_quant_conv", "true"},          {NULL, NULL},
};

static const struct fixed text_fixed[] = {
    {"model_type", "\"clip_text_model\""},
    {NULL, NULL},
};

static const struct fixed scheduler_fixed[] = {
    {"beta_start", "0.00085"},
    {"beta_end", "0.012"},
    {"beta_schedule", "\"scaled_linear\""},
    {"num_train_timesteps", "1000"},
    {"rescale_betas_zero_snr", "false"},
    {"trained_betas", ""},
    {NULL, NULL},
};

static bool one_of(const char *text, const char *values)
{
    size_t n = strlen(text);
    for (const char *v = values; *v; v += strcspn(v, "|"), v += *v == '|')
        if (strcspn(v, "|") == n && !strncmp(v, text, n))
            return true;
    return false;
}

static int check_one(const struct fixed *f, const cJSON *item, struct sd_err *err)
{
    char *text = cJSON_PrintUnformatted(item);
    if (!text)
        return sd_err_memory(err, 0);
    int rc = 0;
    if (!one_of(text, f->values))
        rc = sd_err_set(err, SD_ERR_DATA, "%s is %.60s, only %s is supported", f->name, text,
                        *f->values ? f->values : "null");
    free(text);
    return rc;
}

static int check_fixed(const struct fixed *f, const cJSON *object, struct sd_err *err)
{
    if (!cJSON_IsObject(object))
        return sd_err_set(err, SD_ERR_DATA, "not a JSON object");
    for (; f->name; f++) {
        const cJSON *item = sd_json_get(object, f->name);
        if (cJSON_IsArray(item)) { /* one value a level */
            for (item = item->child; item; item = item->next)
                if (check_one(f, item, err))
                    return -1;
        } else if (item && check_one(f, item, err)) {
            return -1;
        }
    }
    return 0;
}

/* A list of n numbers, or one number for all n; absent leaves what is in out. */
static int get_ints(const cJSON *object, const char *name, int n, int64_t *out, struct sd_err *err)
{
    const cJSON *item = sd_json_get(object, name);
    uint64_t v;
    if (!item)
        return 0;
    if (sd_json_uint(item, &v) && (int64_t)v <= SIZE_LIMIT) {
        for (int i = 0; i < n; i++)
            out[i] = (int64_t)v;
        return 0;
    }
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != n)
        return sd_err_set(err, SD_ERR_DATA, "%s: expected a whole number or a list of %d", name, n);
    int i = 0;
    for (item = item->child; item; item = item->next, i++) {
        if (!sd_json_uint(item, &v) || (int64_t)v > SIZE_LIMIT)
            return sd_err_set(err, SD_ERR_DATA, "%s: expected whole numbers", name);
        out[i] = (int64_t)v;
    }
    return 0;
}

static int get_levels(const cJSON *object, int *levels, int64_t *channels, struct sd_err *err)
{
    const cJSON *list = sd_json_get(object, "block_out_channels");
    int n = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (n < 1 || n > SD_MAX_LEVELS)
        return sd_err_set(err, SD_ERR_DATA, "block_out_channels: expected a list of 1 to %d numbers",
                          SD_MAX_LEVELS);
    *levels = n;
    return get_ints(object, "block_out_channels", n, channels, err);
}

/* One block type a level: attention[i] tells whether it is `with` or `plain`. with may be NULL. */
static int get_block_types(const cJSON *object, const char *name, int n, const char *plain, const char *with,
                           bool *attention, struct sd_err *err)
{
    const cJSON *list = sd_json_get(object, name);
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != n)
        return sd_err_set(err, SD_ERR_DATA, "%s: expected a list of %d, one for each of block_out_channels",
                          name, n);
    int i = 0;
    for (const cJSON *item = list->child; item; item = item->next, i++) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "?";
        bool has = with && !strcmp(type, with);
        if (!has && strcmp(type, plain))
            return sd_err_set(err, SD_ERR_DATA, "%s: %.60s is not supported, only %s%s%s", name, type, plain,
                              with ? " and " : "", with ? with : "");
        if (attention)
            attention[i] = has;
    }
    return 0;
}

static int get_small(const cJSON *object, const char *name, int64_t max, int *out, struct sd_err *err)
{
    int64_t v = *out;
    if (sd_json_get_int(object, name, 0, max, &v, err))
        return -1;
    *out = (int)v;
    return 0;
}

static int get_float(const cJSON *object, const char *name, float *out, struct sd_err *err)
{
    double v = *out;
    if (sd_json_get_double(object, name, &v, err))
        return -1;
    *out = (float)v;
    return 0;
}

int sd_unet_config_parse(struct sd_unet_config *out, const cJSON *object, struct sd_err *err)
{
    struct sd_unet_config u = {.in_channels = 4,
                               .out_channels = 4,
                               .layers = 2,
                               .context = 1280,
                               .groups = 32,
                               .eps = 1e-5f,
                               .sample_size = 64};
    int64_t depth[SD_MAX_LEVELS];
    for (int i = 0; i < SD_MAX_LEVELS; i++) {
        u.heads[i] = 8;
        depth[i] = 1;
    }
    if (check_fixed(unet_fixed, object, err) || get_levels(object, &u.levels, u.channels, err) ||
        get_block_types(object, "down_block_types", u.levels, "DownBlock2D", "CrossAttnDownBlock2D",
                        u.down_attention, err) ||
        get_block_types(object, "up_block_types", u.levels, "UpBlock2D", "CrossAttnUpBlock2D", u.up_attention,
                        err) ||
        sd_json_get_int(object, "in_channels", 1, SIZE_LIMIT, &u.in_channels, err) ||
        sd_json_get_int(object, "out_channels", 1, SIZE_LIMIT, &u.out_channels, err) ||
        get_small(object, "layers_per_block", 64, &u.layers, err) ||
        get_ints(object, "attention_head_dim", u.levels, u.heads, err) ||
        get_ints(object, "transformer_layers_per_block", u.levels, depth, err) ||
        sd_json_get_int(object, "cross_attention_dim", 1, SIZE_LIMIT, &u.context, err) ||
        sd_json_get_bool(object, "use_linear_projection", &u.linear_projection, err) ||
        sd_json_get_int(object, "norm_num_groups", 1, SIZE_LIMIT, &u.groups, err) ||
        get_float(object, "norm_eps", &u.eps, err) ||
        sd_json_get_int(object, "sample_size", 1, SIZE_LIMIT, &u.sample_size, err) ||
        sd_json_get_bool(object, "upcast_attention", &u.upcast_attention, err))
        return -1;
    for (int i = 0; i < u.levels; i++)
        u.transformer_layers[i] = depth[i] <= 64 ? (int)depth[i] : 0; /* 0 is refused by the check */
    *out = u;
    return 0;
}

int sd_vae_config_parse(struct sd_vae_config *out, const cJSON *object, struct sd_err *err)
{
    struct sd_vae_config v = {.in_channels = 3,
                              .out_channels = 3,
                              .latent_channels = 4,
                              .layers = 1,
                              .groups = 32,
                              .scale = 0.18215f};
    if (check_fixed(vae_fixed, object, err) || get_levels(object, &v.levels, v.channels, err) ||
        get_block_types(object, "down_block_types", v.levels, "DownEncoderBlock2D", NULL, NULL, err) ||
        get_block_types(object, "up_block_types", v.levels, "UpDecoderBlock2D", NULL, NULL, err) ||
        sd_json_get_int(object, "in_channels", 1, SIZE_LIMIT, &v.in_channels, err) ||
        sd_json_get_int(object, "out_channels", 1, SIZE_LIMIT, &v.out_channels, err) ||
        sd_json_get_int(object, "latent_channels", 1, SIZE_LIMIT, &v.latent_channels, err) ||
        get_small(object, "layers_per_block", 64, &v.layers, err) ||
        sd_json_get_int(object, "norm_num_groups", 1, SIZE_LIMIT, &v.groups, err) ||
        get_float(object, "scaling_factor", &v.scale, err))
        return -1;
    *out = v;
    return 0;
}

int sd_text_config_parse(struct sd_text_config *out, const cJSON *object, struct sd_err *err)
{
    struct sd_text_config t = {.vocab = 49408,
                               .positions = 77,
                               .width = 512,
                               .mlp = 2048,
                               .layers = 12,
                               .heads = 8,
                               .act = SD_ACT_QUICK_GELU,
                               .eps = 1e-5f};
    if (check_fixed(text_fixed, object, err) ||
        sd_json_get_int(object, "vocab_size", 1, SIZE_LIMIT, &t.vocab, err) ||
        sd_json_get_int(object, "max_position_embeddings", 1, SIZE_LIMIT, &t.positions, err) ||
        sd_json_get_int(object, "hidden_size", 1, SIZE_LIMIT, &t.width, err) ||
        sd_json_get_int(object, "intermediate_size", 1, SIZE_LIMIT, &t.mlp, err) ||
        sd_json_get_int(object, "num_hidden_layers", 1, SIZE_LIMIT, &t.layers, err) ||
        sd_json_get_int(object, "num_attention_heads", 1, SIZE_LIMIT, &t.heads, err) ||
        get_float(object, "layer_norm_eps", &t.eps, err))
        return -1;
    const cJSON *act = sd_json_get(object, "hidden_act");
    if (act && (!cJSON_IsString(act) || !one_of(act->valuestring, "quick_gelu|gelu")))
        return sd_err_set(err, SD_ERR_DATA, "hidden_act: only \"quick_gelu\" and \"gelu\" are supported");
    if (act && !strcmp(act->valuestring, "gelu"))
        t.act = SD_ACT_GELU;
    /* pad_token_id says 1 in every published file and nobody uses it: SD1 pads with the end token, SD2
     * (OpenCLIP, exact GELU) with "!", which is 0. */
    t.pad = t.act == SD_ACT_GELU ? 0 : t.vocab > 49407 ? 49407 : t.vocab - 1;
    *out = t;
    return 0;
}

int sd_scheduler_config_parse(enum sd_prediction *out, const cJSON *object, struct sd_err *err)
{
    if (check_fixed(scheduler_fixed, object, err))
        return -1;
    const cJSON *type = sd_json_get(object, "prediction_type");
    const char *name = !type ? "epsilon" : cJSON_IsString(type) ? type->valuestring : "?";
    if (!one_of(name, "epsilon|v_prediction"))
        return sd_err_set(err, SD_ERR_DATA, "prediction_type: %.40s, expected epsilon or v_prediction", name);
    *out = *name == 'v' ? SD_PREDICT_V : SD_PREDICT_EPSILON;
    return 0;
}

static bool same_config(const struct sd_model_config *a, struct sd_model_config b)
{
    struct sd_buf x = SD_BUF_INIT, y = SD_BUF_INIT;
    b.unet.sample_size = a->unet.sample_size; /* what a model was trained at, not what it is */
    b.unet.upcast_attention = a->unet.upcast_attention;
    bool same = !sd_model_config_write(&x, a) && !sd_model_config_write(&y, &b) && x.len == y.len &&
                !memcmp(x.data, y.data, x.len);
    sd_buf_free(&x);
    sd_buf_free(&y);
    return same;
}

static const char *name_of(const struct sd_model_config *c)
{
    for (const char *const *n = sd_model_config_names; *n; n++)
        if (same_config(c, *sd_model_config_builtin(*n)))
            return *n;
    return "custom";
}

int sd_model_config_parse(struct sd_model_config *out, const cJSON *object, struct sd_err *err)
{
    struct sd_model_config c = *out;
    const cJSON *unet = sd_json_get(object, "unet"), *vae = sd_json_get(object, "vae");
    const cJSON *text = sd_json_get(object, "text_encoder"), *scheduler = sd_json_get(object, "scheduler");
    if (!cJSON_IsObject(object))
        return sd_err_set(err, SD_ERR_DATA, "not a JSON object");
    if (unet && sd_unet_config_parse(&c.unet, unet, err))
        return sd_err_prefix(err, "unet");
    if (vae && sd_vae_config_parse(&c.vae, vae, err))
        return sd_err_prefix(err, "vae");
    if (text && sd_text_config_parse(&c.text, text, err))
        return sd_err_prefix(err, "text_encoder");
    if (scheduler && sd_scheduler_config_parse(&c.prediction, scheduler, err))
        return sd_err_prefix(err, "scheduler");
    if (sd_model_config_check(&c, err))
        return -1;
    c.name = name_of(&c);
    *out = c;
    return 0;
}

int sd_model_config_parse_text(struct sd_model_config *c, const char *json, struct sd_err *err)
{
    cJSON *object = sd_json_parse(json, strlen(json), err);
    if (!object)
        return -1;
    int rc = sd_model_config_parse(c, object, err);
    cJSON_Delete(object);
    return rc;
}

/* FOLDER/name as JSON into *out; *out is NULL when there is no such file. */
static int read_optional(const char *folder, const char *name, cJSON **out, char *path, size_t size,
                         struct sd_err *err)
{
    struct stat st;
    *out = NULL;
    if ((size_t)snprintf(path, size, "%s/%s", folder, name) >= size)
        return sd_err_set(err, SD_ERR_DATA, "%.200s: name too long", folder);
    if (stat(path, &st))
        return 0;
    *out = sd_json_read(path, err);
    return *out ? 0 : -1;
}

/* The padding token as "text" or {"content": "text"}. */
static int parse_pad(struct sd_model_config *c, const cJSON *object, struct sd_err *err)
{
    const cJSON *pad = sd_json_get(object, "pad_token");
    if (cJSON_IsObject(pad))
        pad = sd_json_get(pad, "content");
    if (!pad)
        return 0;
    if (cJSON_IsString(pad) && !strcmp(pad->valuestring, "!"))
        c->text.pad = 0;
    else if (cJSON_IsString(pad) && !strcmp(pad->valuestring, "<|endoftext|>"))
        c->text.pad = 49407;
    else
        return sd_err_set(err, SD_ERR_DATA, "pad_token: expected \"!\" or \"<|endoftext|>\"");
    return 0;
}

static int parse_file(struct sd_model_config *c, int which, const cJSON *object, struct sd_err *err)
{
    switch (which) {
    case 0:
        return sd_unet_config_parse(&c->unet, object, err);
    case 1:
        return sd_vae_config_parse(&c->vae, object, err);
    case 2:
        return sd_text_config_parse(&c->text, object, err);
    case 3:
        return sd_scheduler_config_parse(&c->prediction, object, err);
    default:
        return parse_pad(c, object, err);
    }
}

int sd_model_config_read_folder(struct sd_model_config *out, const char *folder, struct sd_err *err)
{
    static const char *const names[] = {"unet/config.json", "vae/config.json", "text_encoder/config.json",
                                        "scheduler/scheduler_config.json",
                                        "tokenizer/special_tokens_map.json"};
    struct sd_model_config c = *out;
    int found = 0;
    for (int i = 0; i < 5; i++) {
        char path[4096];
        cJSON *object;
        if (read_optional(folder, names[i], &object, path, sizeof path, err))
            return -1;
        if (!object)
            continue;
        found++;
        int rc = parse_file(&c, i, object, err);
        cJSON_Delete(object);
        if (rc)
            return sd_err_prefix(err, "%.300s", path);
    }
    if (!found)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: no unet/config.json, vae/config.json or text_encoder/config.json "
                          "in this folder",
                          folder);
    if (sd_model_config_check(&c, err))
        return sd_err_prefix(err, "%s", folder);
    c.name = name_of(&c);
    *out = c;
    return 0;
}

static int add_ints(struct sd_buf *b, const char *name, int n, const int64_t *v)
{
    int bad = sd_buf_addf(b, "\"%s\":[", name);
    for (int i = 0; i < n; i++)
        bad |= sd_buf_addf(b, i ? ",%lld" : "%lld", (long long)v[i]);
    return bad | sd_buf_adds(b, "],");
}

/* The shortest digits that read back as the same float: 1e-05, not 9.99999975e-06. */
static int add_float(struct sd_buf *b, const char *name, float v)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtof(text, NULL) == v)
            break;
    }
    return sd_buf_addf(b, "\"%s\":%s,", name, text);
}

static int add_types(struct sd_buf *b, const char *name, int n, const char *plain, const char *with,
                     const bool *attention)
{
    int bad = sd_buf_addf(b, "\"%s\":[", name);
    for (int i = 0; i < n; i++)
        bad |= sd_buf_addf(b, i ? ",\"%s\"" : "\"%s\"", attention && attention[i] ? with : plain);
    return bad | sd_buf_adds(b, "],");
}

static int write_unet(struct sd_buf *b, const struct sd_unet_config *u)
{
    int64_t depth[SD_MAX_LEVELS];
    for (int i = 0; i < u->levels; i++)
        depth[i] = u->transformer_layers[i];
    return sd_buf_addf(b,
                       "\"_class_name\":\"UNet2DConditionModel\",\"in_channels\":%lld,\"out_channels\":%lld,",
                       (long long)u->in_channels, (long long)u->out_channels) |
           add_ints(b, "block_out_channels", u->levels, u->channels) |
           add_types(b, "down_block_types", u->levels, "DownBlock2D", "CrossAttnDownBlock2D",
                     u->down_attention) |
           add_types(b, "up_block_types", u->levels, "UpBlock2D", "CrossAttnUpBlock2D", u->up_attention) |
           sd_buf_addf(b, "\"layers_per_block\":%d,\"cross_attention_dim\":%lld,", u->layers,
                       (long long)u->context) |
           add_ints(b, "attention_head_dim", u->levels, u->heads) |
           add_ints(b, "transformer_layers_per_block", u->levels, depth) | add_float(b, "norm_eps", u->eps) |
           sd_buf_addf(b,
                       "\"norm_num_groups\":%lld,\"sample_size\":%lld,\"use_linear_projection\":%s,"
                       "\"upcast_attention\":%s",
                       (long long)u->groups, (long long)u->sample_size,
                       u->linear_projection ? "true" : "false", u->upcast_attention ? "true" : "false");
}

static int write_vae(struct sd_buf *b, const struct sd_vae_config *v)
{
    return sd_buf_addf(b,
                       "\"_class_name\":\"AutoencoderKL\",\"in_channels\":%lld,\"out_channels\":%lld,"
                       "\"latent_channels\":%lld,",
                       (long long)v->in_channels, (long long)v->out_channels, (long long)v->latent_channels) |
           add_ints(b, "block_out_channels", v->levels, v->channels) |
           add_types(b, "down_block_types", v->levels, "DownEncoderBlock2D", NULL, NULL) |
           add_types(b, "up_block_types", v->levels, "UpDecoderBlock2D", NULL, NULL) |
           add_float(b, "scaling_factor", v->scale) |
           sd_buf_addf(b, "\"layers_per_block\":%d,\"norm_num_groups\":%lld", v->layers,
                       (long long)v->groups);
}

static int write_text(struct sd_buf *b, const struct sd_text_config *t)
{
    return sd_buf_adds(b, "\"architectures\":[\"CLIPTextModel\"],\"model_type\":\"clip_text_model\",") |
           sd_buf_addf(b, "\"vocab_size\":%lld,\"max_position_embeddings\":%lld,\"hidden_size\":%lld,",
                       (long long)t->vocab, (long long)t->positions, (long long)t->width) |
           sd_buf_addf(b,
                       "\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,\"num_attention_heads\":%lld,",
                       (long long)t->mlp, (long long)t->layers, (long long)t->heads) |
           add_float(b, "layer_norm_eps", t->eps) |
           sd_buf_addf(b, "\"hidden_act\":\"%s\"", t->act == SD_ACT_GELU ? "gelu" : "quick_gelu");
}

int sd_model_config_write(struct sd_buf *b, const struct sd_model_config *c)
{
    const char *type = c->prediction == SD_PREDICT_V ? "v_prediction" : "epsilon";
    return sd_buf_adds(b, "{\"unet\":{") | write_unet(b, &c->unet) | sd_buf_adds(b, "},\"vae\":{") |
                   write_vae(b, &c->vae) | sd_buf_adds(b, "},\"text_encoder\":{") | write_text(b, &c->text) |
                   sd_buf_addf(b, "},\"scheduler\":{\"prediction_type\":\"%s\"}}", type)
               ? -1
               : 0;
}
