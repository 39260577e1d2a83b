/* Blocks that several networks share: the residual block, multi-head attention, resampling. */
#ifndef SD_NN_BLOCKS_H
#define SD_NN_BLOCKS_H

#include "nn/nn.h"

/* The residual block (Ho et al., DDPM, 2020) on x [N,H,W,C] to [N,H,W,out]; temb [N,E] is silu(time
 * embedding), or NULL for a block without time. Scopes norm1, conv1, time_emb_proj, norm2, conv2,
 * conv_shortcut. */
struct sd_tensor *sd_nn_resnet(struct sd_nn *b, const char *name, struct sd_tensor *x, struct sd_tensor *temb,
                               int64_t out, int64_t groups, float eps);

/* Names of the four projections inside an attention, and what has a bias. */
struct sd_nn_attention_names {
    const char *q, *k, *v, *out;
    bool qkv_bias;
};

/* Multi-head attention (Vaswani et al., 2017) of h [N,T,C] over context [N,S,D] (h itself for
 * self-attention), the output projected and added to residual [N,T,C]. Scaled by head width^-0.5. */
struct sd_tensor *sd_nn_attention(struct sd_nn *b, const char *name,
                                  const struct sd_nn_attention_names *names, struct sd_tensor *h,
                                  struct sd_tensor *context, int64_t heads, bool causal,
                                  struct sd_tensor *residual);

/* diffusers' names: to_q, to_k, to_v, to_out.0. */
extern const struct sd_nn_attention_names sd_nn_attention_diffusers;

/* Nearest neighbour to height x width, then name.conv 3x3. */
struct sd_tensor *sd_nn_upsample(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t height,
                                 int64_t width);

/* name.conv 3x3 of stride 2. A U-Net pads by 1 on all sides; the VAE, with asymmetric, right and bottom only.
 */
struct sd_tensor *sd_nn_downsample(struct sd_nn *b, const char *name, struct sd_tensor *x, bool asymmetric);

/* [N,H,W,C] as tokens [N,HW,C], and tokens as pixels of the shape of `like` (its channels aside). */
struct sd_tensor *sd_nn_tokens(struct sd_nn *b, struct sd_tensor *x);
struct sd_tensor *sd_nn_pixels(struct sd_nn *b, struct sd_tensor *x, const struct sd_tensor *like);

#endif
