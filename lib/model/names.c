#include "model/names.h"

#include <string.h>

/* How the numbers in two corresponding names hang together. L is layers_per_block, n the number of levels. */
enum index_map {
    SAME,       /* equal */
    DOWN,       /* down_blocks.i...j   input_blocks.((L+1)i+j+1) */
    DOWN_ATTN,  /* the same, where level i has attention */
    DOWNSAMPLE, /* down_blocks.i       input_blocks.((L+1)(i+1)), not for the last level */
    UP,         /* up_blocks.i...j     output_blocks.((L+1)i+j), j up to L */
    UP_ATTN,
    UPSAMPLE, /* up_blocks.i           output_blocks.((L+1)i+L).(2 after attention, else 1), not for the last
               */
    FLIP,     /* up_blocks.i...j       up.(n-1-i)...j: LDM's VAE counts levels by resolution */
    LAYER,    /* equal, below the number of text layers */
};

/* Names inside a block that differ: a prefix ending at a dot or at the end. slice as in sd_name_to_file. */
struct leaf {
    const char *ours, *theirs;
    int slice;
};

/* '#' stands for a number. What follows the pattern goes through the leaves, or unchanged where there are
 * none. */
struct rule {
    const char *ours, *theirs;
    enum index_map map;
    const struct leaf *leaves;
};

static const struct leaf unet_resnet[] = {
    {"norm1", "in_layers.0", -1},
    {"conv1", "in_layers.2", -1},
    {"time_emb_proj", "emb_layers.1", -1},
    {"norm2", "out_layers.0", -1},
    {"conv2", "out_layers.3", -1},
    {"conv_shortcut", "skip_connection", -1},
    {NULL, NULL, 0},
};

static const struct rule unet_rules[] = {
    {"time_embedding.linear_1", "time_embed.0", SAME, NULL},
    {"time_embedding.linear_2", "time_embed.2", SAME, NULL},
    {"conv_in", "input_blocks.0.0", SAME, NULL},
    {"conv_norm_out", "out.0", SAME, NULL},
    {"conv_out", "out.2", SAME, NULL},
    {"down_blocks.#.resnets.#", "input_blocks.#.0", DOWN, unet_resnet},
    {"down_blocks.#.attentions.#", "input_blocks.#.1", DOWN_ATTN, NULL},
    {"down_blocks.#.downsamplers.0.conv", "input_blocks.#.0.op", DOWNSAMPLE, NULL},
    {"mid_block.resnets.0", "middle_block.0", SAME, unet_resnet},
    {"mid_block.attentions.0", "middle_block.1", SAME, NULL},
    {"mid_block.resnets.1", "middle_block.2", SAME, unet_resnet},
    {"up_blocks.#.resnets.#", "output_blocks.#.0", UP, unet_resnet},
    {"up_blocks.#.attentions.#", "output_blocks.#.1", UP_ATTN, NULL},
    {"up_blocks.#.upsamplers.0.conv", "output_blocks.#.#.conv", UPSAMPLE, NULL},
    {NULL, NULL, SAME, NULL},
};

static const struct leaf vae_resnet[] = {
    {"norm1", "norm1", -1},
    {"conv1", "conv1", -1},
    {"norm2", "norm2", -1},
    {"conv2", "conv2", -1},
    {"conv_shortcut", "nin_shortcut", -1},
    {NULL, NULL, 0},
};

static const struct leaf vae_attention[] = {
    {"group_norm", "norm", -1},   {"to_q", "q", -1}, {"to_k", "k", -1}, {"to_v", "v", -1},
    {"to_out.0", "proj_out", -1}, {NULL, NULL, 0},
};

static const struct rule vae_rules[] = {
    {"encoder.conv_in", "encoder.conv_in", SAME, NULL},
    {"encoder.down_blocks.#.resnets.#", "encoder.down.#.block.#", SAME, vae_resnet},
    {"encoder.down_blocks.#.downsamplers.0.conv", "encoder.down.#.downsample.conv", SAME, NULL},
    {"encoder.mid_block.resnets.0", "encoder.mid.block_1", SAME, vae_resnet},
    {"encoder.mid_block.attentions.0", "encoder.mid.attn_1", SAME, vae_attention},
    {"encoder.mid_block.resnets.1", "encoder.mid.block_2", SAME, vae_resnet},
    {"encoder.conv_norm_out", "encoder.norm_out", SAME, NULL},
    {"encoder.conv_out", "encoder.conv_out", SAME, NULL},
    {"quant_conv", "quant_conv", SAME, NULL},
    {"post_quant_conv", "post_quant_conv", SAME, NULL},
    {"decoder.conv_in", "decoder.conv_in", SAME, NULL},
    {"decoder.mid_block.resnets.0", "decoder.mid.block_1", SAME, vae_resnet},
    {"decoder.mid_block.attentions.0", "decoder.mid.attn_1", SAME, vae_attention},
    {"decoder.mid_block.resnets.1", "decoder.mid.block_2", SAME, vae_resnet},
    {"decoder.up_blocks.#.resnets.#", "decoder.up.#.block.#", FLIP, vae_resnet},
    {"decoder.up_blocks.#.upsamplers.0.conv", "decoder.up.#.upsample.conv", FLIP, NULL},
    {"decoder.conv_norm_out", "decoder.norm_out", SAME, NULL},
    {"decoder.conv_out", "decoder.conv_out", SAME, NULL},
    {NULL, NULL, SAME, NULL},
};

static const struct leaf old_attention[] = {
    {"group_norm", "group_norm", -1}, {"to_q", "query", -1}, {"to_k", "key", -1}, {"to_v", "value", -1},
    {"to_out.0", "proj_attn", -1},    {NULL, NULL, 0},
};

static const struct rule old_vae_rules[] = {
    {"encoder.mid_block.attentions.0", "encoder.mid_block.attentions.0", SAME, old_attention},
    {"decoder.mid_block.attentions.0", "decoder.mid_block.attentions.0", SAME, old_attention},
    {"encoder", "encoder", SAME, NULL},
    {"decoder", "decoder", SAME, NULL},
    {"quant_conv", "quant_conv", SAME, NULL},
    {"post_quant_conv", "post_quant_conv", SAME, NULL},
    {NULL, NULL, SAME, NULL},
};

static const struct rule bare_clip_rules[] = {
    {"text_model.embeddings", "embeddings", SAME, NULL},
    {"text_model.encoder", "encoder", SAME, NULL},
    {"text_model.final_layer_norm", "final_layer_norm", SAME, NULL},
    {NULL, NULL, SAME, NULL},
};

static const struct leaf openclip_layer[] = {
    {"layer_norm1", "ln_1", -1},
    {"layer_norm2", "ln_2", -1},
    {"mlp.fc1", "mlp.c_fc", -1},
    {"mlp.fc2", "mlp.c_proj", -1},
    {"self_attn.out_proj", "attn.out_proj", -1},
    {"self_attn.q_proj.weight", "attn.in_proj_weight", 0},
    {"self_attn.k_proj.weight", "attn.in_proj_weight", 1},
    {"self_attn.v_proj.weight", "attn.in_proj_weight", 2},
    {"self_attn.q_proj.bias", "attn.in_proj_bias", 0},
    {"self_attn.k_proj.bias", "attn.in_proj_bias", 1},
    {"self_attn.v_proj.bias", "attn.in_proj_bias", 2},
    {NULL, NULL, 0},
};

static const struct rule openclip_rules[] = {
    {"text_model.embeddings.token_embedding", "token_embedding", SAME, NULL},
    {"text_model.embeddings.position_embedding.weight", "positional_embedding", SAME, NULL},
    {"text_model.encoder.layers.#", "transformer.resblocks.#", LAYER, openclip_layer},
    {"text_model.final_layer_norm", "ln_final", SAME, NULL},
    {NULL, NULL, SAME, NULL},
};

static const struct rule *rules_of(enum sd_part part, enum sd_naming naming)
{
    switch (naming) {
    case SD_NAMING_LDM:
        return part == SD_PART_UNET ? unet_rules : part == SD_PART_VAE ? vae_rules : NULL;
    case SD_NAMING_OLD_VAE:
        return part == SD_PART_VAE ? old_vae_rules : NULL;
    case SD_NAMING_BARE_CLIP:
        return part == SD_PART_TEXT ? bare_clip_rules : NULL;
    case SD_NAMING_OPENCLIP:
        return part == SD_PART_TEXT ? openclip_rules : NULL;
    case SD_NAMING_DIFFUSERS:
        return NULL;
    }
    return NULL;
}

/* Two numbers of one name into those of the other. False when the configuration has no such place. */
static bool to_theirs(const struct sd_model_config *c, enum index_map map, const int in[2], int out[2])
{
    const struct sd_unet_config *u = &c->unet;
    int per = u->layers + 1, i = in[0], j = in[1];
    out[0] = i;
    out[1] = j;
    switch (map) {
    case SAME:
        return true;
    case DOWN:
    case DOWN_ATTN:
        out[0] = per * i + j + 1;
        return i < u->levels && j < u->layers && (map == DOWN || u->down_attention[i]);
    case DOWNSAMPLE:
        out[0] = per * (i + 1);
        return i < u->levels - 1;
    case UP:
    case UP_ATTN:
        out[0] = per * i + j;
        return i < u->levels && j < per && (map == UP || u->up_attention[i]);
    case UPSAMPLE:
        if (i >= u->levels - 1)
            return false;
        out[0] = per * i + u->layers;
        out[1] = u->up_attention[i] ? 2 : 1;
        return true;
    case FLIP:
        out[0] = c->vae.levels - 1 - i;
        return i < c->vae.levels;
    case LAYER:
        return i < c->text.layers;
    }
    return false;
}

/* The inverse, by undoing the arithmetic and checking the result forwards. */
static bool to_ours(const struct sd_model_config *c, enum index_map map, const int in[2], int out[2])
{
    int per = c->unet.layers + 1, k = in[0], back[2];
    out[0] = k;
    out[1] = in[1];
    if (map == DOWN || map == DOWN_ATTN) {
        if (k < 1)
            return false;
        out[0] = (k - 1) / per;
        out[1] = (k - 1) % per;
    } else if (map == DOWNSAMPLE) {
        out[0] = k / per - 1;
    } else if (map == UP || map == UP_ATTN) {
        out[0] = k / per;
        out[1] = k % per;
    } else if (map == UPSAMPLE) {
        out[0] = k / per;
    } else if (map == FLIP) {
        out[0] = c->vae.levels - 1 - k;
    }
    if (out[0] < 0 || !to_theirs(c, map, out, back))
        return false;
    return back[0] == k && (map != UPSAMPLE || back[1] == in[1]);
}

/* Matches name against pattern, numbers into index. On success *rest is what follows: "" or ".weight". */
static bool match(const char *pattern, const char *name, int index[2], const char **rest)
{
    int n = 0;
    index[0] = index[1] = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*pattern != *name++)
                return false;
            continue;
        }
        int value = 0, digits = 0;
        for (; *name >= '0' && *name <= '9' && digits < 5; name++, digits++)
            value = value * 10 + (*name - '0');
        if (!digits || (digits > 1 && name[-digits] == '0'))
            return false;
        index[n++] = value;
    }
    *rest = name;
    return !*name || *name == '.';
}

/* Appends pattern with its numbers filled in. */
static int expand(struct sd_buf *b, const char *pattern, const int index[2])
{
    int n = 0, bad = 0;
    for (; *pattern && !bad; pattern++)
        bad = *pattern == '#' ? sd_buf_addf(b, "%d", index[n++]) : sd_buf_addc(b, *pattern);
    return bad;
}

/* The number-th leaf whose name on our (or their) side begins rest (".norm1.weight"), with *tail after it. */
static const struct leaf *find_leaf(const struct leaf *leaves, bool ours, const char *rest, int number,
                                    const char **tail)
{
    if (*rest != '.')
        return NULL;
    for (const struct leaf *l = leaves; l->ours; l++) {
        const char *name = ours ? l->ours : l->theirs;
        size_t n = strlen(name);
        if (strncmp(rest + 1, name, n) || (rest[1 + n] && rest[1 + n] != '.'))
            continue;
        if (number-- > 0)
            continue;
        *tail = rest + 1 + n;
        return l;
    }
    return NULL;
}

/* Translates name (without prefixes) by one rule, appending to out. Returns like sd_name_to_file. */
static int apply(const struct sd_model_config *c, const struct rule *r, bool from_ours, const char *name,
                 int which, struct sd_buf *out, int *slice)
{
    int in[2], to[2];
    const char *rest;
    if (!match(from_ours ? r->ours : r->theirs, name, in, &rest))
        return 0;
    if (from_ours ? !to_theirs(c, r->map, in, to) : !to_ours(c, r->map, in, to))
        return 0;
    *slice = -1;
    const struct leaf *leaf = NULL;
    if (r->leaves && !(leaf = find_leaf(r->leaves, from_ours, rest, which, &rest)))
        return 0;
    int bad = expand(out, from_ours ? r->theirs : r->ours, to);
    if (leaf) {
        *slice = leaf->slice;
        bad = bad || sd_buf_addc(out, '.') || sd_buf_adds(out, from_ours ? leaf->theirs : leaf->ours);
    }
    return bad || sd_buf_adds(out, rest) ? -1 : 1;
}

static int translate(const struct sd_model_config *c, enum sd_part part, enum sd_naming naming,
                     bool from_ours, const char *name, int which, struct sd_buf *out, int *slice)
{
    const struct rule *r = rules_of(part, naming);
    *slice = -1;
    if (!r) /* spelled as here, which is also how transformers spells the text encoder in LDM files */
        return sd_buf_adds(out, name) ? -1 : 1;
    for (; r->ours; r++) {
        int got = apply(c, r, from_ours, name, which, out, slice);
        if (got)
            return got;
    }
    return 0;
}

const char *sd_part_name(enum sd_part part)
{
    static const char *const names[SD_PARTS] = {"unet", "vae", "text_encoder"};
    return names[part];
}

int sd_part_of(const char *name, const char **rest)
{
    for (int p = 0; p < SD_PARTS; p++) {
        size_t n = strlen(sd_part_name((enum sd_part)p));
        if (!strncmp(name, sd_part_name((enum sd_part)p), n) && name[n] == '.') {
            *rest = name + n + 1;
            return p;
        }
    }
    return -1;
}

struct sd_part_names sd_names_ldm(const struct sd_model_config *c, enum sd_part part)
{
    if (part == SD_PART_UNET)
        return (struct sd_part_names){"model.diffusion_model.", SD_NAMING_LDM};
    if (part == SD_PART_VAE)
        return (struct sd_part_names){"first_stage_model.", SD_NAMING_LDM};
    if (c->text.act == SD_ACT_GELU) /* OpenCLIP, so SD2 */
        return (struct sd_part_names){"cond_stage_model.model.", SD_NAMING_OPENCLIP};
    return (struct sd_part_names){"cond_stage_model.transformer.", SD_NAMING_DIFFUSERS};
}

int sd_name_to_file(const struct sd_model_config *c, const struct sd_part_names *n, const char *name,
                    struct sd_buf *key, int *slice)
{
    const char *rest;
    int part = sd_part_of(name, &rest);
    sd_buf_clear(key);
    if (part < 0)
        return 0;
    if (sd_buf_adds(key, n->prefix))
        return -1;
    return translate(c, (enum sd_part)part, n->naming, true, rest, 0, key, slice);
}

int sd_name_from_file(const struct sd_model_config *c, enum sd_part part, const struct sd_part_names *n,
                      const char *key, int which, struct sd_buf *name)
{
    size_t skip = strlen(n->prefix);
    int slice;
    sd_buf_clear(name);
    if (strncmp(key, n->prefix, skip))
        return 0;
    if (sd_buf_addf(name, "%s.", sd_part_name(part)))
        return -1;
    int got = translate(c, part, n->naming, false, key + skip, which, name, &slice);
    return got > 0 && slice >= 0 ? 3 : got;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

bool sd_name_is_surplus(const struct sd_model_config *c, enum sd_part part, const struct sd_part_names *n,
                        const char *key)
{
    size_t skip = strlen(n->prefix);
    if (strncmp(key, n->prefix, skip))
        return false;
    key += skip;
    if (part == SD_PART_VAE)
        return !strncmp(key, "loss.", 5) || !strncmp(key, SD_EMA_PREFIX, strlen(SD_EMA_PREFIX));
    if (part != SD_PART_TEXT)
        return false;
    int index[2];
    const char *rest;
    if (match("transformer.resblocks.#", key, index, &rest) ||
        match("text_model.encoder.layers.#", key, index, &rest))
        return index[0] >= c->text.layers;
    return ends_with(key, "position_ids") || !strcmp(key, "text_projection") || !strcmp(key, "logit_scale") ||
           !strcmp(key, "text_projection.weight");
}

int sd_name_ema(struct sd_buf *out, const char *key)
{
    static const char whole[] = "model.";
    size_t skip = sizeof whole - 1;
    sd_buf_clear(out);
    if (strncmp(key, whole, skip))
        return 0;
    int bad = sd_buf_adds(out, SD_EMA_PREFIX);
    for (key += skip; *key && !bad; key++)
        bad = *key != '.' && sd_buf_addc(out, *key);
    return bad ? -1 : 1;
}

bool sd_name_is_stray(const char *key)
{
    /* the buffers of LDM's DDPM, and what its trainers and A1111's merger leave */
    static const char *const exact[] = {"alphas_cumprod",
                                        "alphas_cumprod_prev",
                                        "betas",
                                        "log_one_minus_alphas_cumprod",
                                        "logvar",
                                        "lvlb_weights",
                                        "posterior_log_variance_clipped",
                                        "posterior_mean_coef1",
                                        "posterior_mean_coef2",
                                        "posterior_variance",
                                        "scale_factor",
                                        "sqrt_alphas_cumprod",
                                        "sqrt_one_minus_alphas_cumprod",
                                        "sqrt_recip_alphas_cumprod",
                                        "sqrt_recipm1_alphas_cumprod"};
    if (!strncmp(key, SD_EMA_PREFIX, strlen(SD_EMA_PREFIX)))
        return true;
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        if (!strcmp(key, exact[i]))
            return true;
    return false;
}
