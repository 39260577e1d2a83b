/* What the parameters of a model are called in files.
 *
 * Inside the toolkit a parameter has diffusers' name behind the name of its part:
 *     unet.down_blocks.0.resnets.0.conv1.weight
 *     vae.encoder.mid_block.attentions.0.to_q.weight
 *     text_encoder.text_model.encoder.layers.0.self_attn.q_proj.weight
 * One table, read in both directions, relates these to the original (LDM) names of CompVis' and Stability's
 * files, for any number of levels and layers. */
#ifndef SD_MODEL_NAMES_H
#define SD_MODEL_NAMES_H

#include "base/buf.h"
#include "model/config.h"

enum sd_part { SD_PART_UNET, SD_PART_VAE, SD_PART_TEXT, SD_PARTS };

const char *sd_part_name(enum sd_part part); /* "unet", "vae", "text_encoder" */

/* The part a parameter belongs to, by its first word; *rest is what follows its dot. -1 when it is none. */
int sd_part_of(const char *name, const char **rest);

/* How a file spells the parameters of one part. */
enum sd_naming {
    SD_NAMING_DIFFUSERS, /* as here, without the part */
    SD_NAMING_OLD_VAE, /* the same with query, key, value, proj_attn in the VAE's attention (diffusers < 0.17)
                        */
    SD_NAMING_LDM,     /* original U-Net and VAE */
    SD_NAMING_BARE_CLIP, /* text encoder without "text_model." (files of early transformers) */
    SD_NAMING_OPENCLIP,  /* text encoder of SD2: q, k and v in one tensor */
};

/* prefix goes before every name: "model.diffusion_model.". */
struct sd_part_names {
    const char *prefix;
    enum sd_naming naming;
};

/* The original files' names of a part: what sd-init writes and other programs read. */
struct sd_part_names sd_names_ldm(const struct sd_model_config *c, enum sd_part part);

/* Puts the file's key for a parameter (with its part: "unet.conv_in.weight") into key. *slice is -1 when the
 * key's tensor is the parameter, or 0, 1, 2 when the parameter is that third of its rows. Returns 1, 0 when
 * the configuration has no such parameter, -1 when memory is out. */
int sd_name_to_file(const struct sd_model_config *c, const struct sd_part_names *n, const char *name,
                    struct sd_buf *key, int *slice);

/* The other way: how many parameters of the part a key holds: 0, 1, or 3 (q, k, v). Puts the name of number
 * `which` of them into name. -1 when memory is out. */
int sd_name_from_file(const struct sd_model_config *c, enum sd_part part, const struct sd_part_names *n,
                      const char *key, int which, struct sd_buf *name);

/* True for keys with the part's prefix that published files carry beside the parameters and that nobody
 * needs: position_ids, OpenCLIP's unused last layer and projection, a VAE's loss network. */
bool sd_name_is_surplus(const struct sd_model_config *c, enum sd_part part, const struct sd_part_names *n,
                        const char *key);

/* The name under which LDM keeps the moving average of a tensor: model.diffusion_model.out.0.weight is
 * model_ema.diffusion_modelout0weight. Replaces *out. 1, 0 when LDM averages no tensor of this name, -1 when
 * memory is out. */
#define SD_EMA_PREFIX "model_ema."
int sd_name_ema(struct sd_buf *out, const char *key);

/* True for what whole original files carry beside the three parts: averages, the noise schedule, counters. */
bool sd_name_is_stray(const char *key);

#endif
