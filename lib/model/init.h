/* Model files with random weights, in the original (LDM) layout. */
#ifndef SD_MODEL_INIT_H
#define SD_MODEL_INIT_H

#include "model/config.h"
#include "store/safetensors_write.h"

/* Asked now and then while the file is written; returns false to give it up, which is an error like others.
 */
struct sd_model_init_watch {
    bool (*go_on)(void *ctx, uint64_t bytes, uint64_t total);
    void *ctx;
};

/* Writes a whole model: text encoder, U-Net and VAE under the original key names and shapes, OpenCLIP's
 * unused last layer and projection too; the metadata "sd_config" tells the configuration. Weights are uniform
 * with variance 1/fan_in, so that activations stay near 1; norms are 1 and 0, biases small, embeddings wider.
 * Each value depends on seed, key and position only, whatever the dtype: F32, F16 or BF16. watch may be
 * NULL. */
int sd_model_init(const char *path, const struct sd_model_config *c, uint64_t seed, enum sd_store_dtype dtype,
                  const struct sd_model_init_watch *watch, struct sd_err *err);

#endif
