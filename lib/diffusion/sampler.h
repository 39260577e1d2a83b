/* Samplers: from noise to latents in a few calls of the model.
 *
 *     struct sd_sampler s;
 *     sd_sampler_init(&s, &setup, &err);
 *     x = noise * s.init_sigma
 *     for (int i = 0; i < s.n; i++)
 *         sd_sampler_step(&s, i, scale, c), and with these numbers:
 *             in  = c[IN] x                                   and then, with guidance,
 *             out = c[FREE] model(in) + c[GUIDED] model(in, prompt), or else
 *             out = model(in, prompt), all at s.timestep[i]
 *             x0  = c[X0_OF_X] x + c[X0_OF_OUT] out           within +-c[X0_LIMIT]
 *             x   = c[X] x + c[OUT] out + c[X0] x0
 *     sd_sampler_free(&s);
 *
 * diffusion/step.h has that as nodes of a graph. A sampler is a row of the table in sampler.c and a file of
 * its own. */
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

/* A step's numbers; those of one sum lie together, in its order. */
enum sd_step_coefficient {
    SD_STEP_IN,
    SD_STEP_FREE,
    SD_STEP_GUIDED,
    SD_STEP_X0_OF_X, /* x0: the latents without noise, as the model has them at this step */
    SD_STEP_X0_OF_OUT,
    SD_STEP_X0_LIMIT, /* infinity: none */
    SD_STEP_X,
    SD_STEP_OUT,
    SD_STEP_X0,
    SD_STEP_COEFFICIENTS /* how many */
};

struct sd_sampler;

struct sd_sampler_kind {
    const char *name, *alias;                              /* alias may be NULL */
    int (*plan)(struct sd_sampler *s, struct sd_err *err); /* fills timestep, sigma, init_sigma */
    /* Fills c, in which IN is 1, there is no limit, and the rest is 0; FREE and GUIDED are not its own. */
    void (*step)(const struct sd_sampler *s, int i, double c[SD_STEP_COEFFICIENTS]);
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
/* The numbers of step i, worked out in double; scale is the guidance's. */
void sd_sampler_step(const struct sd_sampler *s, int i, double scale, float c[SD_STEP_COEFFICIENTS]);

/* NULL-terminated names, for choices in help texts and messages. */
extern const char *const sd_sampler_names[];

extern const struct sd_sampler_kind sd_sampler_ddim, sd_sampler_euler;

#endif
