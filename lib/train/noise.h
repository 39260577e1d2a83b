/* The noise in a training step's graph: a batch's, as inputs, or made in the graph of a batch's parts. */
#ifndef SD_TRAIN_NOISE_H
#define SD_TRAIN_NOISE_H

#include "diffusion/noise.h"
#include "tensor/plan.h"

struct sd_train_noise {
    struct sd_tensor *target, *mixed; /* [N,H,W,C] what is to be predicted, and what is mixed in */
    /* private: inputs; NULL where there is no such noise */
    struct sd_tensor *normal, *offset, *input, *offset_strength, *input_strength, *levels, *turns;
};

/* What a batch brings: noise, or with options->cuda its parts. */
struct sd_train_noise_batch {
    const float *target, *mixed; /* [n,c,h,w]; mixed is read with options->input only */
    const struct sd_noise_parts *parts;
};

/* Adds it to g for latents x [N,H,W,C] as they are mixed with it. threads is the backend's. Failures are the
 * graph's. */
void sd_train_noise_build(struct sd_train_noise *s, struct sd_graph *g,
                          const struct sd_noise_options *options, uint64_t threads, struct sd_tensor *x);
/* Writes a batch into the inputs, before a run. */
void sd_train_noise_feed(const struct sd_train_noise *s, struct sd_plan *plan,
                         const struct sd_noise_options *options, const struct sd_train_noise_batch *batch);

/* [n,c,hw] to [n,hw,c] */
void sd_train_to_nhwc(float *to, const float *from, int64_t n, int64_t c, int64_t hw);

#endif
