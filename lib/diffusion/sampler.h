/* Samplers: from noise to latents in a few calls of the model.
 *
 *     struct sd_sampler s;
 *     sd_sampler_init(&s, &setup, &err);
 *     x = noise * s.init_sigma
 *     for (int i = 0; i < s.n; i++) {
 *         sd_sampler_input(&s, i, x, in, count);              // what the model sees
 *         out = model(in, s.timestep[i]);
 *         sd_sampler_step(&s, i, out, x, count);
 *     }
 *     sd_sampler_free(&s);
 *
 * Arrays hold count f32 values in any order. A sampler is a row of the table in sampler.c and a file of its
 * own. */
#ifndef SD_DIFFUSION_SAMPLER_H
#define SD_DIFFUSION_SAMPLER_H

#include "base/err.h"
#include "diffusion/schedule.h"

#include <stdbool.h>
#include <stddef.h>

struct sd_sampler_setup {
    const char *name;  /* "ddim", "euler", "k_euler" */
    int steps;         /* 1 to 1000 */
    bool v_prediction; /* the model predicts velocity, not noise */
    bool clip_sample;  /* ddim: clamp the predicted latents to [-1,1], as sd-scripts' training samples do */
    int steps_offset;  /* ddim: added to every timestep; 0 in sd-scripts' training samples, 1 elsewhere */
    bool end_at_first; /* ddim: the last step ends at alpha_bar[0], not at 1: diffusers' set_alpha_to_one =
                          false, as in the configuration published with SD1 */
};

struct sd_sampler;

struct sd_sampler_kind {
    const char *name, *alias;                              /* alias may be NULL */
    int (*plan)(struct sd_sampler *s, struct sd_err *err); /* fills timestep, sigma, init_sigma */
    void (*input)(const struct sd_sampler *s, int i, const float *x, float *in, size_t count);
    void (*step)(const struct sd_sampler *s, int i, const float *out, float *x, size_t count);
};

struct sd_sampler {
    struct sd_sampler_setup setup;
    const struct sd_sampler_kind *kind;
    struct sd_schedule schedule;
    int n;            /* model calls */
    float *timestep;  /* [n], what the model is told; may be fractional */
    float *sigma;     /* [n+1], sigma samplers only */
    float init_sigma; /* scale of the first noise */
};

int sd_sampler_init(struct sd_sampler *s, const struct sd_sampler_setup *setup, struct sd_err *err);
void sd_sampler_free(struct sd_sampler *s);
void sd_sampler_input(const struct sd_sampler *s, int i, const float *x, float *in, size_t count);
void sd_sampler_step(const struct sd_sampler *s, int i, const float *out, float *x, size_t count);

/* NULL-terminated names, for choices in help texts and messages. */
extern const char *const sd_sampler_names[];

extern const struct sd_sampler_kind sd_sampler_ddim, sd_sampler_euler;

#endif
