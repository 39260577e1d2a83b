/* The U-Net of Stable Diffusion (Rombach et al., High-Resolution Image Synthesis with Latent Diffusion
 * Models, 2022). Follows diffusers' UNet2DConditionModel, for any configuration that struct sd_unet_config
 * can state. */
#ifndef SD_MODEL_UNET_H
#define SD_MODEL_UNET_H

#include "model/config.h"
#include "nn/nn.h"

/* Noisy latents x f32 [N,H,W,in], timesteps f32 [N], context [N,T,c->context] (any float type) to the
 * prediction f32 [N,H,W,out]. H and W need not be multiples of anything. Parameters are named unet.* . */
struct sd_tensor *sd_unet(struct sd_nn *b, const struct sd_unet_config *c, struct sd_tensor *x,
                          struct sd_tensor *timesteps, struct sd_tensor *context);

#endif
