#include "adapter/identify.h"

#include <stdio.h>
#include <string.h>

#include "adapter/identify_private.h"
#include "adapter/network.h"

/* ---- looking for keys ---- */

static bool starts(const char *s, const char *with)
{
    return !strncmp(s, with, strlen(with));
}

static bool ends(const char *s, const char *with)
{
    size_t n = strlen(s), k = strlen(with);
    return n >= k && !strcmp(s + n - k, with);
}

enum where { START, INSIDE, END };

static const struct sd_id_key *find(const struct sd_id_keys *keys, enum where where, const char *text)
{
    for (size_t i = 0; i < keys->count; i++) {
        const char *name = keys->v[i].name;
        if (where == START ? starts(name, text)
            : where == END ? ends(name, text)
                           : strstr(name, text) != NULL)
            return &keys->v[i];
    }
    return NULL;
}

static bool has(const struct sd_id_keys *keys, enum where where, const char *text)
{
    return find(keys, where, text);
}

/* Size i of the tensor of a key; 0 where there is none. */
static int64_t size_of(const struct sd_id_key *key, int i)
{
    return key && i < key->entry->ndim ? key->entry->shape[i] : 0;
}

/* ---- families ---- */

/* Markers of other models' networks. */
static const struct {
    const char *key, *family;
} foreign[] = {
    {"distilled_guidance_layer.", "chroma"},
    {"single_transformer_blocks.", "flux"},
    {"single_transformer_blocks_", "flux"},
    {"single_blocks.", "flux"},
    {"single_blocks_", "flux"},
    {"joint_blocks.", "sd3"},
    {"joint_blocks_", "sd3"},
    {"attn.add_k_proj.", "sd3"},
    {"noise_refiner.", "lumina"},
    {"noise_refiner_", "lumina"},
    {"conditioner.embedders.1.", "sdxl"},
    {"conditioner.embedders.0.model.", "sdxl-refiner"},
    {"add_embedding.linear_1.", "sdxl"},
    {"lora_te2_", "sdxl"},
};

static const char *foreign_family(const struct sd_id_keys *keys)
{
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (has(keys, INSIDE, foreign[i].key))
            return foreign[i].family;
    return NULL;
}

/* By the width of the text encoder, which cross-attention takes in. */
static const char *family_of_width(int64_t width)
{
    return width == 768    ? "sd1"
           : width == 1024 ? "sd2"
           : width == 2048 ? "sdxl"
           : width == 1280 ? "sdxl-refiner"
                           : NULL;
}

static const char *unet_family(const struct sd_id_keys *keys)
{
    const char *family = foreign_family(keys);
    return family ? family : family_of_width(size_of(find(keys, END, "attn2.to_k.weight"), 1));
}

/* By the first convolution's channels. */
static const char *unet_variant(const struct sd_id_keys *keys)
{
    static const char *const names[] = {"model.diffusion_model.input_blocks.0.0.weight",
                                        "input_blocks.0.0.weight", "unet.conv_in.weight", "conv_in.weight"};
    const struct sd_id_key *key = NULL;
    for (int i = 0; i < 4 && !key; i++)
        key = find(keys, START, names[i]);
    switch (size_of(key, 1)) {
    case 5:
        return "depth";
    case 7:
        return "upscaler";
    case 8:
        return "instruct-pix2pix";
    case 9:
        return "inpainting";
    default:
        return size_of(find(keys, INSIDE, "label_emb.0.0.weight"), 1) &&
                       size_of(find(keys, END, "attn2.to_k.weight"), 1) == 1024
                   ? "unclip"
                   : NULL;
    }
}

/* ---- what is no model ---- */

static void identify_network(struct sd_identity *id, const struct sd_id_keys *keys)
{
    enum sd_network_type type = SD_NETWORK_OTHER;
    bool window = false, mixed = false;
    const char *module = sd_id_meta(keys, "ss_network_module");
    for (size_t i = 0; i < keys->count; i++) {
        enum sd_network_type t = sd_network_type_of(keys->v[i].name);
        const struct sd_store_entry *e = keys->v[i].entry;
        if (t == SD_NETWORK_OTHER)
            continue;
        mixed |= type != SD_NETWORK_OTHER && t != type;
        type = t;
        window |= e->ndim == 4 && e->shape[2] > 1;
    }
    id->kind = module && strstr(module, "dylora")  ? "dylora"
               : mixed                             ? "mixed_network"
               : type == SD_NETWORK_LORA && window ? "locon"
                                                   : sd_network_type_name(type);
    id->layout = has(keys, INSIDE, ".lora_A.")     ? "peft"
                 : has(keys, INSIDE, "lora.down.") ? "diffusers"
                                                   : "sd-scripts";
    id->family = foreign_family(keys);
    static const char *const widths[] = {"attn2_to_k.lora_down.weight", "attn2.to_k.lora_A.weight",
                                         "attn2.processor.to_k_lora.down.weight", "attn2_to_k.hada_w1_b"};
    for (int i = 0; i < 4 && !id->family; i++)
        id->family = family_of_width(size_of(find(keys, END, widths[i]), 1));
    if (!id->family)
        id->family = family_of_width(size_of(find(keys, END, "mlp_fc1.lora_down.weight"), 1));
}

/* An embedding is one tensor of vectors as wide as a text encoder's. */
static bool identify_embedding(struct sd_identity *id, const struct sd_id_keys *keys)
{
    const struct sd_id_key *key = find(keys, START, "emb_params");
    key = key ? key : find(keys, INSIDE, "string_to_param");
    if (!key && keys->count == 1 && keys->v->entry->ndim <= 2 && !strchr(keys->v->name, '.'))
        key = keys->v;
    bool both = has(keys, START, "clip_l") && has(keys, START, "clip_g") && keys->count == 2;
    if (!key && !both)
        return false;
    const char *family = both ? "sdxl" : family_of_width(size_of(key, key->entry->ndim - 1));
    if (!family)
        return false;
    id->kind = "textual_inversion";
    id->family = family;
    return true;
}

static bool is_hypernetwork_key(const char *name)
{
    int width, which, used = 0;
    return sscanf(name, "%4d.%1d.linear%n", &width, &which, &used) == 2 && used && which < 2 &&
           width % 64 == 0;
}

static bool identify_other(struct sd_identity *id, const struct sd_id_keys *keys)
{
    static const struct {
        enum where where;
        const char *key, *kind;
    } others[] = {
        {START, "lllite_", "control-net-lllite"},
        {START, "control_model.", "controlnet"},
        {INSIDE, "controlnet_cond_embedding.", "controlnet"},
        {INSIDE, "input_hint_block.", "controlnet"},
        {START, "ip_adapter.", "ip-adapter"},
        {START, "image_proj.", "ip-adapter"},
        {START, "adapter.body.", "t2i-adapter"},
        {INSIDE, "motion_modules.", "motion_module"},
    };
    for (size_t i = 0; i < keys->count; i++)
        if (sd_network_type_of(keys->v[i].name) != SD_NETWORK_OTHER) {
            identify_network(id, keys);
            return true;
        }
    if (keys->count && is_hypernetwork_key(keys->v->name)) {
        id->kind = "hypernetwork";
        return true;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (has(keys, others[i].where, others[i].key)) {
            id->kind = others[i].kind;
            id->family = unet_family(keys);
            return true;
        }
    return identify_embedding(id, keys);
}

/* ---- models ---- */

static const char *model_layout(const struct sd_id_keys *keys)
{
    static const char *const original[] = {
        "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.",
        "input_blocks.",          "encoder.down.",      "decoder.up."};
    for (size_t i = 0; i < sizeof original / sizeof *original; i++)
        if (has(keys, START, original[i]))
            return "original";
    if (has(keys, END, "attentions.0.query.weight"))
        return "diffusers-old";
    if (has(keys, INSIDE, "down_blocks.") || has(keys, INSIDE, "up_blocks.") ||
        has(keys, INSIDE, "transformer_blocks."))
        return "diffusers";
    return has(keys, INSIDE, "text_model.") ? "transformers" : NULL;
}

static void add_part(struct sd_identity *id, const char *name, bool there)
{
    if (there)
        id->parts[id->part_count++] = name;
}

static void identify_model(struct sd_identity *id, const struct sd_id_keys *keys)
{
    bool unet = has(keys, START, "model.diffusion_model.") || has(keys, START, "input_blocks.") ||
                has(keys, START, "unet.") || has(keys, START, "down_blocks.") || foreign_family(keys);
    bool vae = has(keys, START, "first_stage_model.") || has(keys, START, "vae.") ||
               has(keys, START, "encoder.down") || has(keys, START, "decoder.up");
    bool text = has(keys, START, "cond_stage_model.") || has(keys, START, "conditioner.embedders.0.") ||
                has(keys, START, "text_encoder.") || has(keys, START, "text_model.");
    bool text2 = has(keys, START, "conditioner.embedders.1.") || has(keys, START, "text_encoder_2.");
    add_part(id, "unet", unet);
    add_part(id, "vae", vae);
    add_part(id, "text_encoder", text);
    add_part(id, "text_encoder_2", text2);
    id->model = id->part_count > 0;
    id->kind = id->part_count > 1 ? "checkpoint" : id->part_count ? id->parts[0] : "unknown";
    id->layout = id->model ? model_layout(keys) : NULL;
    if (unet) {
        id->family = unet_family(keys);
        id->variant = unet_variant(keys);
    } else if (text) {
        const struct sd_id_key *key = find(keys, END, "token_embedding.weight");
        id->family = size_of(key, 1) == 1280 ? "sdxl" : family_of_width(size_of(key, 1));
    }
}

/* ---- numbers ---- */

static void count(struct sd_identity *id, const struct sd_id_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        const struct sd_store_entry *e = keys->v[i].entry;
        bool ema = starts(keys->v[i].name, "model_ema.");
        id->tensors++;
        id->ema |= ema && strchr(keys->v[i].name + 10, '.') == NULL && e->ndim > 0;
        id->bytes[e->dtype] += e->bytes;
        if (!ema && sd_store_dtype_is_float(e->dtype) && !sd_key_is_schedule(keys->v[i].name))
            id->parameters += e->bytes / sd_store_dtype_bytes(e->dtype);
    }
}

static const char *prediction_of(const struct sd_id_keys *keys)
{
    const char *spec = sd_id_meta(keys, "modelspec.prediction_type"),
               *base = sd_id_meta(keys, "ss_base_model_version");
    if (spec)
        return !strcmp(spec, "epsilon") ? "epsilon" : !strcmp(spec, "v") ? "v_prediction" : NULL;
    if (has(keys, START, "v_pred") &&
        find(keys, START, "v_pred")->name[6] == 0) /* a marker of later SDXL models */
        return "v_prediction";
    if (base && (starts(base, "sd_v1") || starts(base, "sd_v2"))) /* sd-scripts adds _v */
        return ends(base, "_v") ? "v_prediction" : "epsilon";
    return NULL;
}

int sd_identify(struct sd_identity *id, const char *path, struct sd_err *err)
{
    struct sd_id_keys keys;
    *id = (struct sd_identity){0};
    if (sd_id_keys_open(&keys, path, err))
        return -1;
    if (!identify_other(id, &keys))
        identify_model(id, &keys);
    id->prediction = prediction_of(&keys);
    count(id, &keys);
    int rc = id->model ? sd_id_check(id, &keys, path, err) : 0;
    sd_id_keys_close(&keys);
    if (rc)
        sd_identity_free(id);
    return rc;
}

void sd_identity_free(struct sd_identity *id)
{
    sd_arena_free(&id->arena);
    *id = (struct sd_identity){0};
}
