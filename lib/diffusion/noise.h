/* The noise and the timesteps of a training batch, as sd-scripts draws them: Gaussian, with offset
 * noise (Guttenberg, Diffusion with Offset Noise, 2023), multi-resolution noise (Whitaker, 2023) and input
 * perturbation (Ning et al., Input Perturbation Reduces Exposure Bias in Diffusion Models, 2023) where they
 * are asked for. */
#ifndef SD_DIFFUSION_NOISE_H
#define SD_DIFFUSION_NOISE_H

#include "base/philox.h"
#include "base/pyrandom.h"
#include "base/rng.h"
#include "diffusion/schedule.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct sd_noise_options {
    bool cuda;            /* normal numbers as PyTorch has them on a CUDA device, not on a CPU */
    double offset;        /* each channel of a sample is moved by a normal number times this; 0: none */
    bool offset_random;   /* which is lessened by a factor in [0, 1), one a batch */
    double offset_latent; /* and raised, never below 0, by this times |mean of the channel's latents|; NaN:
                             not */
    int64_t multires;     /* turns of multi-resolution noise at most; 0: none */
    double multires_discount;           /* weight of a turn over that of the one before */
    double input;                       /* noise that is mixed in and not in the target; 0: none */
    bool input_random;                  /* lessened as above */
    int64_t min_timestep, max_timestep; /* uniform below the latter; all are that where none is below */
};

#define SD_NOISE_DEFAULT \
    ((struct sd_noise_options){.offset_latent = NAN, .multires_discount = 0.3, .max_timestep = SD_TIMESTEPS})

/* A batch, in PyTorch's order of elements. */
struct sd_noise {
    int64_t n, c, h, w;
    const float *latents; /* [n,c,h,w]; only offset_latent reads them */
    float scale;          /* that latents are mixed with */
    float *target;        /* [n,c,h,w] the noise to be predicted */
    float *mixed;         /* [n,c,h,w] what is mixed in: the same without input */
    int64_t *timesteps;   /* [n] */
};

/* Fills target, mixed and timesteps as on a CPU. Normal numbers come from rng, sizes of multi-resolution
 * noise from random. */
void sd_noise_draw(const struct sd_noise_options *options, struct sd_rng *rng, struct sd_pyrandom *random,
                   const struct sd_noise *batch);

/* What the noise of a batch is made of where a graph makes it (train/noise.h), as with sd-scripts on a CUDA
 * device: of the device's generator there are the states from which normal numbers are drawn; what sd-scripts
 * draws on the host all the same, timesteps and multi-resolution noise, is here. */
enum { SD_NOISE_TURNS = 32 }; /* at most */
struct sd_noise_parts {
    struct sd_philox normal, offset, input;
    float offset_strength, input_strength;
    float turns[SD_NOISE_TURNS][3]; /* height, width and weight of coarser noise; height 0: no more */
    float *levels;                  /* its numbers, [sd_noise_level_count()]; the caller's */
};

/* Turns of multi-resolution noise and their numbers, at most, for latents [n,c,h,w]. */
int64_t sd_noise_turns(const struct sd_noise_options *options, int64_t h, int64_t w);
int64_t sd_noise_level_count(const struct sd_noise_options *options, int64_t n, int64_t c, int64_t h,
                             int64_t w);

/* Fills parts, and timesteps [n], for latents [n,c,h,w]. philox is the device's generator, threads how many
 * it runs at once (base/philox.h). */
void sd_noise_draw_parts(const struct sd_noise_options *options, struct sd_philox *philox, uint64_t threads,
                         struct sd_rng *rng, struct sd_pyrandom *random, int64_t n, int64_t c, int64_t h,
                         int64_t w, struct sd_noise_parts *parts, int64_t *timesteps);

#endif
