/* The VAE at work: pictures to latents and back. Graphs are compiled by shape and kept; all share one arena.
 */
#ifndef SD_SAMPLE_AUTOENCODER_H
#define SD_SAMPLE_AUTOENCODER_H

#include "image/image.h"
#include "model/model_file.h"
#include "tensor/plan.h"

struct sd_autoencoder;

/* model is borrowed and must have a VAE; dtype is f32 or bf16. Memory for activations comes from workspace,
 * which may be shared with other plans that do not run at the same time; NULL: its own. */
int sd_autoencoder_new(struct sd_autoencoder **a, struct sd_model_file *model, struct sd_backend *backend,
                       enum sd_dtype dtype, struct sd_workspace *workspace, struct sd_err *err);
void sd_autoencoder_free(struct sd_autoencoder *a); /* takes NULL */

int64_t sd_autoencoder_channels(const struct sd_autoencoder *a); /* of the latents */

/* n RGB pictures of one size (multiples of 8) to latents [n,c,h/8,w/8], unscaled. noise [n,c,h/8,w/8] draws
 * from the posterior, mean + exp(logvar/2) * noise with logvar clamped to [-30,20]; NULL gives the mean.
 * Latents can be NaN or infinite where the VAE's type is too small for a picture: the caller asks
 * sd_autoencoder_check of each. */
int sd_autoencoder_encode(struct sd_autoencoder *a, const struct sd_image *const *pictures, int64_t n,
                          const float *noise, float *latents, struct sd_err *err);

/* -1 when one of the n numbers is NaN or infinite. */
int sd_autoencoder_check(const float *latents, size_t n, struct sd_err *err);

/* Unscaled latents [c,h,w] to a picture of 8h x 8w, which is made; rounded to 8 bits as diffusers does. */
int sd_autoencoder_decode(struct sd_autoencoder *a, const float *latents, int64_t h, int64_t w,
                          struct sd_image *im, struct sd_err *err);

#endif
