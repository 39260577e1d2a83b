/* Euler steps in sigma space (Karras et al., Elucidating the Design Space of Diffusion-Based Generative
 * Models, 2022, algorithm 2 without churn), timesteps evenly from 999 to 0, fractional ones interpolated. */
#include "diffusion/sampler.h"

#include <math.h>

static int plan(struct sd_sampler *s, struct sd_err *err)
{
    (void)err;
    for (int i = 0; i < s->n; i++) {
        /* As numpy.linspace makes floats, and numpy.interp reads them. */
        double t =
            s->n == 1 ? 0 : (double)(float)((s->n - 1 - i) * ((SD_TIMESTEPS - 1) / (double)(s->n - 1)));
        int below = (int)t < SD_TIMESTEPS - 1 ? (int)t : SD_TIMESTEPS - 2;
        double low = (double)s->schedule.sigma[below], high = (double)s->schedule.sigma[below + 1];
        s->timestep[i] = (float)t;
        s->sigma[i] = (float)(low + (high - low) * (t - below));
    }
    s->sigma[s->n] = 0;
    s->init_sigma = s->sigma[0];
    return 0;
}

static void step(const struct sd_sampler *s, int i, double c[SD_STEP_COEFFICIENTS])
{
    double sigma = (double)s->sigma[i], dt = (double)s->sigma[i + 1] - sigma, var = sigma * sigma + 1;
    c[SD_STEP_IN] = 1 / sqrt(var);
    c[SD_STEP_X0_OF_X] = s->setup.v_prediction ? 1 / var : 1;
    c[SD_STEP_X0_OF_OUT] = s->setup.v_prediction ? -sigma / sqrt(var) : -sigma;
    /* x + dt (x - x0) / sigma, without the difference: it is small beside x and x0. */
    c[SD_STEP_X] = 1 + dt / sigma * (1 - c[SD_STEP_X0_OF_X]);
    c[SD_STEP_OUT] = -dt / sigma * c[SD_STEP_X0_OF_OUT];
}

const struct sd_sampler_kind sd_sampler_euler = {"euler", "k_euler", plan, step};
