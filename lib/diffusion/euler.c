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

static void input(const struct sd_sampler *s, int i, const float *x, float *in, size_t count)
{
    float scale = sqrtf(s->sigma[i] * s->sigma[i] + 1);
    for (size_t k = 0; k < count; k++)
        in[k] = x[k] / scale;
}

static void step(const struct sd_sampler *s, int i, const float *out, float *x, size_t count)
{
    float sigma = s->sigma[i], dt = s->sigma[i + 1] - sigma, var = sigma * sigma + 1;
    float cv = -sigma / sqrtf(var);
    for (size_t k = 0; k < count; k++) {
        float x0 = s->setup.v_prediction ? out[k] * cv + x[k] / var : x[k] - sigma * out[k];
        x[k] += (x[k] - x0) / sigma * dt;
    }
}

const struct sd_sampler_kind sd_sampler_euler = {"euler", "k_euler", plan, input, step};
