/* The autoencoder of Stable Diffusion (Kingma and Welling, Auto-Encoding Variational Bayes, 2014; Esser et
 * al., Taming Transformers for High-Resolution Image Synthesis, 2021). Follows diffusers' AutoencoderKL. */
#ifndef SD_MODEL_VAE_H
#define SD_MODEL_VAE_H

#include "model/config.h"
#include "nn/nn.h"

/* Pictures f32 [N,H,W,3] in [-1,1] to moments f32 [N,h,w,2*latent], h = H/8 in SD (one halving fewer than
 * levels): the mean, then the logarithm of the variance, which callers clamp to [-30,20]. Sampling is the
 * caller's: latents = (mean + exp(logvar/2) * noise) * c->scale. Parameters are named vae.encoder.*,
 * vae.quant_conv.* . */
struct sd_tensor *sd_vae_encode(struct sd_nn *b, const struct sd_vae_config *c, struct sd_tensor *x);

/* Latents f32 [N,h,w,latent], already divided by c->scale, to pictures f32 [N,H,W,3], about [-1,1] and not
 * clamped. Parameters are named vae.decoder.*, vae.post_quant_conv.* . */
struct sd_tensor *sd_vae_decode(struct sd_nn *b, const struct sd_vae_config *c, struct sd_tensor *z);

#endif
