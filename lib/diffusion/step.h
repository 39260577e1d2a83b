/* A sampler's step as nodes of a graph, around the model's: the whole of it runs on a device, and from step
 * to step the host writes only a row of numbers a sample and the timesteps.
 *
 *     x = sd_graph_var(g, &latents, SD_F32);                            [N,...], mutable
 *     coef = sd_graph_input(g, "coefficients", SD_F32, 2, {N, SD_STEP_COEFFICIENTS});
 *     in = sd_step_input(g, x, coef, guided);                           [N,...], or guided: [2N,...]
 *     out = the model of in, f32
 *     sd_step_update(g, x, coef, out);
 *
 *     for (int i = 0; i < s.n; i++) {
 *         sd_sampler_step(&s, i, scale, a row of coef); the model's timesteps = s.timestep[i]; run
 *     } */
#ifndef SD_DIFFUSION_STEP_H
#define SD_DIFFUSION_STEP_H

#include "diffusion/sampler.h"
#include "tensor/graph.h"

/* What the model sees of latents x; guided: twice, first without the prompt, then with it. */
struct sd_tensor *sd_step_input(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *coef, bool guided);

/* Writes the latents after the step into x, and returns them. out has one answer a sample, or two as `guided`
 * has it. */
struct sd_tensor *sd_step_update(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *coef,
                                 struct sd_tensor *out);

#endif
