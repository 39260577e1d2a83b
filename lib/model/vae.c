#include "model/vae.h"

#include <stdio.h>

#include "nn/blocks.h"

static const float eps = 1e-6f;

static struct sd_tensor *resnet(struct sd_nn *b, const struct sd_vae_config *c, int index,
                                struct sd_tensor *x, int64_t out)
{
    char name[32];
    snprintf(name, sizeof name, "resnets.%d", index);
    return sd_nn_resnet(b, name, x, NULL, out, c->groups, eps);
}

/* Attention of one head over all pixels, added to x. */
static struct sd_tensor *attention(struct sd_nn *b, const struct sd_vae_config *c, struct sd_tensor *x)
{
    static const struct sd_nn_attention_names names = {"to_q", "to_k", "to_v", "to_out.0", true};
    struct sd_tensor *h = sd_nn_group_norm(b, "attentions.0.group_norm", x, c->groups, eps, SD_ACT_NONE);
    h = sd_nn_tokens(b, h);
    h = sd_nn_attention(b, "attentions.0", &names, h, h, 1, false, sd_nn_tokens(b, x));
    return sd_nn_block_output(b, sd_nn_pixels(b, h, x));
}

static struct sd_tensor *mid_block(struct sd_nn *b, const struct sd_vae_config *c, struct sd_tensor *h)
{
    int64_t width = c->channels[c->levels - 1];
    sd_nn_push(b, "mid_block");
    h = resnet(b, c, 0, h, width);
    h = attention(b, c, h);
    h = resnet(b, c, 1, h, width);
    sd_nn_pop(b);
    return h;
}

struct sd_tensor *sd_vae_encode(struct sd_nn *b, const struct sd_vae_config *c, struct sd_tensor *x)
{
    sd_nn_push(b, "vae");
    sd_nn_push(b, "encoder");
    struct sd_tensor *h = sd_nn_conv2d(b, "conv_in", sd_nn_cast(b, x, b->dtype), c->channels[0], 3, NULL);
    for (int i = 0; i < c->levels; i++) {
        sd_nn_push(b, "down_blocks.%d", i);
        for (int j = 0; j < c->layers; j++)
            h = resnet(b, c, j, h, c->channels[i]);
        if (i < c->levels - 1)
            h = sd_nn_downsample(b, "downsamplers.0", h, true);
        sd_nn_pop(b);
    }
    h = mid_block(b, c, h);
    h = sd_nn_group_norm(b, "conv_norm_out", h, c->groups, eps, SD_ACT_SILU);
    h = sd_nn_conv2d(b, "conv_out", h, 2 * c->latent_channels, 3, NULL);
    sd_nn_pop(b);
    h = sd_nn_conv2d(b, "quant_conv", h, 2 * c->latent_channels, 1, NULL);
    sd_nn_pop(b);
    return sd_nn_cast(b, h, SD_F32);
}

struct sd_tensor *sd_vae_decode(struct sd_nn *b, const struct sd_vae_config *c, struct sd_tensor *z)
{
    int last = c->levels - 1;
    sd_nn_push(b, "vae");
    struct sd_tensor *h =
        sd_nn_conv2d(b, "post_quant_conv", sd_nn_cast(b, z, b->dtype), c->latent_channels, 1, NULL);
    sd_nn_push(b, "decoder");
    h = sd_nn_conv2d(b, "conv_in", h, c->channels[last], 3, NULL);
    h = mid_block(b, c, h);
    for (int i = 0; i <= last; i++) {
        sd_nn_push(b, "up_blocks.%d", i);
        for (int j = 0; j <= c->layers; j++)
            h = resnet(b, c, j, h, c->channels[last - i]);
        if (i < last && h)
            h = sd_nn_upsample(b, "upsamplers.0", h, 2 * h->dim[1], 2 * h->dim[2]);
        sd_nn_pop(b);
    }
    h = sd_nn_group_norm(b, "conv_norm_out", h, c->groups, eps, SD_ACT_SILU);
    h = sd_nn_conv2d(b, "conv_out", h, c->out_channels, 3, NULL);
    sd_nn_pop(b);
    sd_nn_pop(b);
    return sd_nn_cast(b, h, SD_F32);
}
