/* Pictures to latents through the VAE's encoder. Graphs are compiled by batch shape and kept; all share one
 * arena. */
#ifndef SD_SAMPLE_ENCODER_H
#define SD_SAMPLE_ENCODER_H

#include "image/image.h"
#include "model/model_file.h"
#include "tensor/plan.h"

struct sd_encoder;

/* model is borrowed and must have a VAE; dtype is f32 or bf16. */
int sd_encoder_new(struct sd_encoder **e, struct sd_model_file *model, struct sd_backend *backend,
                   enum sd_dtype dtype, struct sd_err *err);
void sd_encoder_free(struct sd_encoder *e); /* takes NULL */

int64_t sd_encoder_channels(const struct sd_encoder *e); /* of the latents */

/* n RGB pictures of one size (multiples of 8) to latents [n,c,h/8,w/8], unscaled. noise [n,c,h/8,w/8] draws
 * from the posterior, mean + exp(logvar/2) * noise with logvar clamped to [-30,20]; NULL gives the mean. */
int sd_encoder_encode(struct sd_encoder *e, const struct sd_image *const *pictures, int64_t n,
                      const float *noise, float *latents, struct sd_err *err);

#endif
