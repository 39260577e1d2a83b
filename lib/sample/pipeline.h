/* From a prompt to a picture: text encoder, sampler over the U-Net with classifier-free guidance (Ho and
 * Salimans, 2022), VAE decoder. Numbers follow diffusers' StableDiffusionPipeline: the same seed gives the
 * same noise (PyTorch's CPU generator), the same prompt the same ids.
 *
 * Graphs are compiled when a size first comes and kept; all share one arena. One pipeline serves one thread.
 */
#ifndef SD_SAMPLE_PIPELINE_H
#define SD_SAMPLE_PIPELINE_H

#include "diffusion/sampler.h"
#include "image/image.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "tensor/plan.h"

struct sd_pipeline_options {
    enum sd_dtype dtype;
    sd_nn_adapt *adapt; /* LoRA hook, or NULL */
    void *adapt_ctx;
    sd_weights_find *find; /* where text encoder and U-Net have their weights, or NULL: the model's own */
    void *find_ctx;
    int clip_skip;
    bool v_prediction;
};

struct sd_draw {
    const char *prompt, *negative; /* UTF-8; negative NULL: "" */
    int64_t width, height;         /* pixels, multiples of 8 */
    uint64_t seed;
    double scale; /* guidance; at most 1: one model call a step, no negative prompt */
    struct sd_sampler_setup sampler;
    bool (*step)(void *ctx, int done, int of); /* called after each step; false stops; may be NULL */
    void *ctx;
};

struct sd_pipeline;

/* model is borrowed; it must have all three parts. vae NULL: model's own. */
int sd_pipeline_new(struct sd_pipeline **p, struct sd_model_file *model, struct sd_model_file *vae,
                    struct sd_backend *backend, const struct sd_pipeline_options *options,
                    struct sd_err *err);
void sd_pipeline_free(struct sd_pipeline *p); /* takes NULL */

/* *im is made. 0, -1, or 1 when step stopped it (no picture then). */
int sd_pipeline_draw(struct sd_pipeline *p, const struct sd_draw *d, struct sd_image *im, struct sd_err *err);

/* The same up to the latents, scaled as the diffusion has them: [h,w,c] f32 into out, which holds width/8 *
 * height/8 * channels. For tests, and for programs that go on with latents. */
int sd_pipeline_latents(struct sd_pipeline *p, const struct sd_draw *d, float *out, struct sd_err *err);

#endif
