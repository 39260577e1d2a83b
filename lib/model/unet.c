#include "model/unet.h"

#include <stdio.h>

#include "nn/blocks.h"

#define MAX_LAYERS 8 /* resnets in a down block; published models have 1 to 3 */
#define MAX_SKIPS (1 + SD_MAX_LEVELS * (MAX_LAYERS + 1))

/* silu of the time embedding [N, 4*channels[0]], in f32 throughout: sinusoids, linear, SiLU, linear. */
static struct sd_tensor *time_embedding(struct sd_nn *b, const struct sd_unet_config *c,
                                        struct sd_tensor *timesteps)
{
    int64_t width = 4 * c->channels[0];
    struct sd_tensor *t = sd_graph_timestep_embedding(b->g, timesteps, c->channels[0], 10000, true);
    sd_nn_push(b, "time_embedding");
    t = sd_nn_linear(b, "linear_1", t, width, true);
    t = sd_graph_act(b->g, t, SD_ACT_SILU);
    t = sd_nn_linear(b, "linear_2", t, width, true);
    sd_nn_pop(b);
    return sd_graph_act(b->g, t, SD_ACT_SILU);
}

/* Self-attention, cross-attention, gated feed-forward, each on the layer norm of x and added to it. */
static struct sd_tensor *transformer_block(struct sd_nn *b, struct sd_tensor *x, struct sd_tensor *context,
                                           int64_t heads)
{
    if (!x)
        return NULL;
    int64_t width = x->dim[2];
    struct sd_tensor *h = sd_nn_layer_norm(b, "norm1", x, 1e-5f);
    x = sd_nn_attention(b, "attn1", &sd_nn_attention_diffusers, h, h, heads, false, x);
    h = sd_nn_layer_norm(b, "norm2", x, 1e-5f);
    x = sd_nn_attention(b, "attn2", &sd_nn_attention_diffusers, h, context, heads, false, x);
    h = sd_nn_layer_norm(b, "norm3", x, 1e-5f);
    h = sd_nn_linear(b, "ff.net.0.proj", h, 8 * width, true);
    h = sd_graph_geglu(b->g, h);
    return sd_nn_linear_onto(b, "ff.net.2", h, width, true, x);
}

/* Norm, projection, transformer blocks over the pixels as tokens, projection, and x added back. */
static struct sd_tensor *transformer(struct sd_nn *b, const struct sd_unet_config *c, int level,
                                     const char *name, struct sd_tensor *x, struct sd_tensor *context)
{
    if (!x)
        return NULL;
    int64_t width = x->dim[3];
    sd_nn_push(b, "%s", name);
    struct sd_tensor *h = sd_nn_group_norm(b, "norm", x, c->groups, 1e-6f, SD_ACT_NONE);
    h = c->linear_projection ? sd_nn_linear(b, "proj_in", h, width, true)
                             : sd_nn_conv2d(b, "proj_in", h, width, 1, NULL);
    h = sd_nn_tokens(b, h);
    for (int i = 0; i < c->transformer_layers[level]; i++) {
        sd_nn_push(b, "transformer_blocks.%d", i);
        h = sd_nn_block_output(b, transformer_block(b, h, context, c->heads[level]));
        sd_nn_pop(b);
    }
    h = sd_nn_pixels(b, h, x);
    h = c->linear_projection ? sd_nn_linear_onto(b, "proj_out", h, width, true, x)
                             : sd_nn_conv2d(b, "proj_out", h, width, 1, x);
    sd_nn_pop(b);
    return sd_nn_block_output(b, h);
}

/* A resnet and, where the block has attention, a transformer after it. */
static struct sd_tensor *layer(struct sd_nn *b, const struct sd_unet_config *c, int level, int index,
                               bool attention, struct sd_tensor *x, struct sd_tensor *temb,
                               struct sd_tensor *context)
{
    char name[32];
    snprintf(name, sizeof name, "resnets.%d", index);
    x = sd_nn_resnet(b, name, x, temb, c->channels[level], c->groups, c->eps);
    if (!attention)
        return x;
    snprintf(name, sizeof name, "attentions.%d", index);
    return transformer(b, c, level, name, x, context);
}

struct sd_tensor *sd_unet(struct sd_nn *b, const struct sd_unet_config *c, struct sd_tensor *x,
                          struct sd_tensor *timesteps, struct sd_tensor *context)
{
    struct sd_tensor *skip[MAX_SKIPS];
    int skips = 0, last = c->levels - 1;
    if (c->levels > SD_MAX_LEVELS || c->layers > MAX_LAYERS) {
        sd_err_set(&b->g->err, SD_ERR_USAGE,
                   "a U-Net of %d levels and %d layers a block, at most %d and %d are known", c->levels,
                   c->layers, SD_MAX_LEVELS, MAX_LAYERS);
        return NULL;
    }
    sd_nn_push(b, "unet");
    struct sd_tensor *temb = sd_nn_cast(b, time_embedding(b, c, timesteps), b->dtype);
    context = sd_nn_cast(b, context, b->dtype);
    struct sd_tensor *h = sd_nn_conv2d(b, "conv_in", sd_nn_cast(b, x, b->dtype), c->channels[0], 3, NULL);
    skip[skips++] = sd_nn_block_output(b, h);

    for (int i = 0; i <= last; i++) {
        sd_nn_push(b, "down_blocks.%d", i);
        for (int j = 0; j < c->layers; j++)
            skip[skips++] = h = layer(b, c, i, j, c->down_attention[i], h, temb, context);
        if (i < last)
            skip[skips++] = h = sd_nn_block_output(b, sd_nn_downsample(b, "downsamplers.0", h, false));
        sd_nn_pop(b);
    }

    sd_nn_push(b, "mid_block");
    h = layer(b, c, last, 0, true, h, temb, context);
    h = sd_nn_resnet(b, "resnets.1", h, temb, c->channels[last], c->groups, c->eps);
    sd_nn_pop(b);

    for (int i = 0; i <= last; i++) {
        sd_nn_push(b, "up_blocks.%d", i);
        for (int j = 0; j <= c->layers; j++) {
            h = sd_graph_concat(b->g, h, skip[--skips]);
            h = layer(b, c, last - i, j, c->up_attention[i], h, temb, context);
        }
        if (i < last &&
            skip[skips - 1]) /* to the size of the skip that comes next: twice, or one less where odd */
            h = sd_nn_block_output(
                b, sd_nn_upsample(b, "upsamplers.0", h, skip[skips - 1]->dim[1], skip[skips - 1]->dim[2]));
        sd_nn_pop(b);
    }

    h = sd_nn_group_norm(b, "conv_norm_out", h, c->groups, c->eps, SD_ACT_SILU);
    h = sd_nn_cast(b, sd_nn_conv2d(b, "conv_out", h, c->out_channels, 3, NULL), SD_F32);
    sd_nn_pop(b);
    return h;
}
