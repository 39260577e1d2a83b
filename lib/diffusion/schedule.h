/* The noise schedule of Stable Diffusion and what is derived from it (Ho et al., DDPM, 2020; Rombach et al.,
 * 2022). 1000 steps, "scaled linear": beta_i = (sqrt(b0) + (sqrt(b1) - sqrt(b0)) i/999)^2, b0 = 0.00085, b1 =
 * 0.012. */
#ifndef SD_DIFFUSION_SCHEDULE_H
#define SD_DIFFUSION_SCHEDULE_H

#include <stdbool.h>

#define SD_TIMESTEPS 1000

struct sd_schedule {
    float beta[SD_TIMESTEPS];
    float alpha_bar[SD_TIMESTEPS]; /* product of 1 - beta up to here; PyTorch's alphas_cumprod, in f32 as
                                      there */
    float sigma[SD_TIMESTEPS];     /* sqrt((1 - alpha_bar) / alpha_bar), for samplers in sigma space */
};

void sd_schedule_init(struct sd_schedule *s);

/* The same moved and stretched so that the last step holds no signal: alpha_bar 0, sigma infinite (Lin et
 * al., Common Diffusion Noise Schedules and Sample Steps are Flawed, 2023, algorithm 1). */
void sd_schedule_init_zero_terminal(struct sd_schedule *s);

/* Coefficients of x and noise for sd_graph_mix: [t][0]*x + [t][1]*noise.
 * noisy: sqrt(alpha_bar), sqrt(1 - alpha_bar). velocity (Salimans and Ho, 2022): -sqrt(1 - alpha_bar),
 * sqrt(alpha_bar). */
void sd_schedule_noisy(const struct sd_schedule *s, float table[SD_TIMESTEPS][2]);
void sd_schedule_velocity(const struct sd_schedule *s, float table[SD_TIMESTEPS][2]);

#endif
