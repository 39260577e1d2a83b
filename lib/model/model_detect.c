#include "model/model_detect.h"

#include <string.h>

#include "model/config_json.h"

/* A part is there when some key starts with prefix and then marker. The first row that fits tells the
 * spelling. */
static const struct {
    enum sd_part part;
    const char *prefix, *marker;
    enum sd_naming naming;
} spellings[] = {
    {SD_PART_UNET, "model.diffusion_model.", "", SD_NAMING_LDM},
    {SD_PART_UNET, "unet.", "", SD_NAMING_DIFFUSERS},
    {SD_PART_UNET, "diffusion_model.", "", SD_NAMING_LDM},
    {SD_PART_UNET, "", "input_blocks.", SD_NAMING_LDM},
    {SD_PART_UNET, "", "down_blocks.", SD_NAMING_DIFFUSERS},
    {SD_PART_VAE, "first_stage_model.", "", SD_NAMING_LDM},
    {SD_PART_VAE, "vae.", "encoder.mid_block.attentions.0.query.", SD_NAMING_OLD_VAE},
    {SD_PART_VAE, "vae.", "decoder.mid_block.attentions.0.query.", SD_NAMING_OLD_VAE},
    {SD_PART_VAE, "vae.", "", SD_NAMING_DIFFUSERS},
    {SD_PART_VAE, "", "encoder.mid_block.attentions.0.query.", SD_NAMING_OLD_VAE},
    {SD_PART_VAE, "", "decoder.mid_block.attentions.0.query.", SD_NAMING_OLD_VAE},
    {SD_PART_VAE, "", "encoder.down_blocks.", SD_NAMING_DIFFUSERS},
    {SD_PART_VAE, "", "decoder.up_blocks.", SD_NAMING_DIFFUSERS},
    {SD_PART_VAE, "", "encoder.down.", SD_NAMING_LDM},
    {SD_PART_VAE, "", "decoder.up.", SD_NAMING_LDM},
    {SD_PART_TEXT, "cond_stage_model.transformer.", "text_model.", SD_NAMING_DIFFUSERS},
    {SD_PART_TEXT, "cond_stage_model.transformer.", "", SD_NAMING_BARE_CLIP},
    {SD_PART_TEXT, "cond_stage_model.model.", "", SD_NAMING_OPENCLIP},
    {SD_PART_TEXT, "text_encoder.", "text_model.", SD_NAMING_DIFFUSERS},
    {SD_PART_TEXT, "text_encoder.", "", SD_NAMING_BARE_CLIP},
    {SD_PART_TEXT, "", "text_model.", SD_NAMING_DIFFUSERS},
    {SD_PART_TEXT, "", "transformer.resblocks.", SD_NAMING_OPENCLIP},
    {SD_PART_TEXT, "", "encoder.layers.", SD_NAMING_BARE_CLIP},
};

static bool some_key(const struct sd_tensor_file *tf, const char *prefix, const char *marker)
{
    size_t n = strlen(prefix), k = strlen(marker);
    for (size_t i = 0; i < sd_tensor_file_count(tf); i++) {
        const char *key = sd_tensor_file_entry(tf, i)->name;
        if (!strncmp(key, prefix, n) && !strncmp(key + n, marker, k))
            return true;
    }
    return false;
}

bool sd_model_detect_names(const struct sd_tensor_file *tf, enum sd_part part, struct sd_part_names *out)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (spellings[i].part == part && some_key(tf, spellings[i].prefix, spellings[i].marker)) {
            *out = (struct sd_part_names){spellings[i].prefix, spellings[i].naming};
            return true;
        }
    return false;
}

/* Compares one tensor with what configuration c says of it; -1 in want is any size. Returns 1 when it agrees,
 * 0 when it is not in the file, -1 when it is of another shape. */
static int probe(const struct sd_tensor_file *tf, const struct sd_model_config *c,
                 const struct sd_part_names *n, const char *name, int64_t want0, int64_t want1)
{
    struct sd_buf key = SD_BUF_INIT;
    int slice, got = 0;
    if (sd_name_to_file(c, n, name, &key, &slice) > 0) {
        const struct sd_store_entry *e = sd_tensor_file_find(tf, key.data);
        if (e)
            got = e->ndim >= 2 && (want0 < 0 || e->shape[0] == want0) && (want1 < 0 || e->shape[1] == want1)
                      ? 1
                      : -1;
    }
    sd_buf_free(&key);
    return got;
}

/* Whether the shapes of a part may be those of c: some tensor agrees and none disagrees. */
static bool part_agrees(const struct sd_tensor_file *tf, const struct sd_model_config *c, enum sd_part part,
                        const struct sd_part_names *n)
{
    const struct sd_unet_config *u = &c->unet;
    const struct sd_vae_config *v = &c->vae;
    const struct sd_text_config *t = &c->text;
    const struct {
        enum sd_part part;
        const char *name;
        int64_t want0, want1;
    } probes[] = {
        {SD_PART_UNET, "unet.conv_in.weight", u->channels[0], -1},
        {SD_PART_UNET, "unet.mid_block.resnets.0.conv1.weight", u->channels[u->levels - 1], -1},
        {SD_PART_UNET, "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", -1, u->context},
        {SD_PART_VAE, "vae.encoder.conv_in.weight", v->channels[0], v->in_channels},
        {SD_PART_VAE, "vae.decoder.conv_in.weight", v->channels[v->levels - 1], v->latent_channels},
        {SD_PART_TEXT, "text_encoder.text_model.embeddings.token_embedding.weight", -1, t->width},
        {SD_PART_TEXT, "text_encoder.text_model.encoder.layers.0.mlp.fc1.weight", t->mlp, t->width},
    };
    int agree = 0;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        int got =
            probes[i].part == part ? probe(tf, c, n, probes[i].name, probes[i].want0, probes[i].want1) : 0;
        if (got < 0)
            return false;
        agree += got;
    }
    return agree > 0;
}

/* Inpainting models differ from their base in this one number. */
static void take_in_channels(const struct sd_tensor_file *tf, const struct sd_part_names *n,
                             struct sd_model_config *c)
{
    struct sd_buf key = SD_BUF_INIT;
    int slice;
    if (sd_name_to_file(c, n, "unet.conv_in.weight", &key, &slice) > 0) {
        const struct sd_store_entry *e = sd_tensor_file_find(tf, key.data);
        if (e && e->ndim == 4 && e->shape[1] >= 1)
            c->unet.in_channels = e->shape[1];
    }
    sd_buf_free(&key);
}

int sd_model_detect_config(const struct sd_tensor_file *tf, const bool has[SD_PARTS],
                           const struct sd_part_names names[SD_PARTS], struct sd_model_config *out,
                           struct sd_err *err)
{
    const char *path = sd_tensor_file_path(tf), *json = sd_tensor_file_meta(tf, "sd_config");
    if (json) {
        struct sd_model_config c = *sd_model_config_builtin("sd1");
        if (sd_model_config_parse_text(&c, json, err))
            return sd_err_prefix(err, "%s: metadata sd_config", path);
        *out = c;
        return 0;
    }
    for (const char *const *arch = sd_model_config_names; *arch; arch++) {
        struct sd_model_config c = *sd_model_config_builtin(*arch);
        bool fits = true;
        for (int p = 0; p < SD_PARTS && fits; p++)
            fits = !has[p] || part_agrees(tf, &c, (enum sd_part)p, &names[p]);
        if (!fits)
            continue;
        if (has[SD_PART_UNET])
            take_in_channels(tf, &names[SD_PART_UNET], &c);
        *out = c;
        return 0;
    }
    return sd_err_set(
        err, SD_ERR_DATA,
        "%s: its shapes are not those of Stable Diffusion 1 or 2; a model of another configuration "
        "must state it, in the metadata sd_config or as a diffusers folder",
        path);
}
