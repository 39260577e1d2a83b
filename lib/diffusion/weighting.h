/* How much the loss of a sample counts by its timestep, and where its huber loss bends: tables by timestep,
 * under sd-scripts' names. Signal-to-noise ratios are those of the plain schedule, also where training fixes
 * it. */
#ifndef SD_DIFFUSION_WEIGHTING_H
#define SD_DIFFUSION_WEIGHTING_H

#include "diffusion/schedule.h"

#include <stdbool.h>

/* Factors, of which all that are on are multiplied. SNR is the ratio, S = min(SNR, 1000). */
struct sd_weighting {
    double min_snr_gamma; /* min(SNR, gamma)/SNR, for velocity /(SNR + 1) (Hang et al., 2023); 0: off */
    bool scale_v;         /* S/(S + 1), which weighs velocity as noise is weighed */
    double v_like;        /* 1 + v_like (S + 1)/S; 0: off */
    bool debiased;        /* 1/sqrt(S), for velocity 1/(S + 1) (Yu et al., 2023) */
};

void sd_weighting_table(const struct sd_weighting *w, bool v_prediction, float weight[SD_TIMESTEPS]);

enum sd_huber_schedule { SD_HUBER_SNR, SD_HUBER_EXPONENTIAL, SD_HUBER_CONSTANT };

/* sigma = sqrt((1 - alpha_bar)/alpha_bar); snr: (1 - c)/(1 + sigma)^2 + c, whatever scale is; exponential:
 * c^(t/1000) scale; constant: c scale. c and scale are above 0. */
struct sd_huber {
    enum sd_huber_schedule schedule;
    double c, scale;
};

#define SD_HUBER_DEFAULT ((struct sd_huber){.schedule = SD_HUBER_SNR, .c = 0.1, .scale = 1})

void sd_huber_table(const struct sd_huber *h, const struct sd_schedule *s, float delta[SD_TIMESTEPS]);

#endif
