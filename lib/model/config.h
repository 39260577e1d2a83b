/* What a Stable Diffusion model looks like, as plain data: the members of diffusers' config.json that change
 * the network. The builders in unet.h, vae.h and clip_text.h read nothing else. */
#ifndef SD_MODEL_CONFIG_H
#define SD_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "tensor/graph.h"

#define SD_MAX_LEVELS 8 /* resolutions of a U-Net or VAE; published ones have 3 or 4 */

struct sd_text_config {
    int64_t vocab, positions; /* 49408, 77 */
    int64_t width, mlp, layers, heads;
    enum sd_act act; /* quick GELU (OpenAI's CLIP) or GELU (OpenCLIP) */
    float eps;
    int64_t pad; /* id that fills a short prompt: 49407 in SD1, 0 in SD2 */
};

struct sd_unet_config {
    int64_t in_channels, out_channels; /* 4 latent channels */
    int levels;
    int64_t channels[SD_MAX_LEVELS]; /* block_out_channels */
    int layers;                      /* resnets in a down block; an up block has one more */
    bool down_attention[SD_MAX_LEVELS],
        up_attention[SD_MAX_LEVELS]; /* CrossAttn...Block2D; up block 0 is the deepest */
    int64_t heads[SD_MAX_LEVELS]; /* of each level; diffusers calls this attention_head_dim in SD's configs */
    int transformer_layers[SD_MAX_LEVELS];
    int64_t context;        /* cross_attention_dim: width of the text encoder */
    bool linear_projection; /* proj_in and proj_out are linear layers (SD2), not 1x1 convolutions (SD1) */
    int64_t groups;
    float eps;
    int64_t sample_size;   /* side of the latents it was trained at: 64 for 512 pixels */
    bool upcast_attention; /* some SD2 files ask for attention scores in f32 */
};

struct sd_vae_config {
    int64_t in_channels, out_channels, latent_channels;
    int levels;
    int64_t channels[SD_MAX_LEVELS];
    int layers; /* resnets in an encoder block; a decoder block has one more */
    int64_t groups;
    float scale; /* scaling_factor: latents of the diffusion are the VAE's times this, 0.18215 */
};

enum sd_prediction { SD_PREDICT_EPSILON, SD_PREDICT_V };

struct sd_model_config {
    const char *name; /* of the built-in it is, or "custom"; static */
    struct sd_text_config text;
    struct sd_unet_config unet;
    struct sd_vae_config vae;
    enum sd_prediction prediction;
};

/* A built-in configuration: "sd1", "sd2", "sd2-v" or "tiny" (contrib/tiny). NULL for another name. */
const struct sd_model_config *sd_model_config_builtin(const char *arch);

/* Their names, the list ending with NULL. */
extern const char *const sd_model_config_names[];

/* Checks what the network's arithmetic needs: channels that divide into groups and heads, sizes in sane
 * bounds. */
int sd_model_config_check(const struct sd_model_config *c, struct sd_err *err);

#endif
