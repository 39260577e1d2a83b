/* DDIM (Song et al., Denoising Diffusion Implicit Models, 2021), eta 0, "leading" timesteps: multiples of
 * floor(1000/steps), plus steps_offset. */
#include "diffusion/sampler.h"

#include <math.h>

static int plan(struct sd_sampler *s, struct sd_err *err)
{
    int ratio = SD_TIMESTEPS / s->n;
    if (s->setup.steps_offset < 0 || (s->n - 1) * ratio + s->setup.steps_offset >= SD_TIMESTEPS)
        return sd_err_set(err, SD_ERR_USAGE,
                          "ddim with %d steps and an offset of %d leaves timesteps 0 to %d", s->n,
                          s->setup.steps_offset, SD_TIMESTEPS - 1);
    for (int i = 0; i < s->n; i++)
        s->timestep[i] = (float)((s->n - 1 - i) * ratio + s->setup.steps_offset);
    return 0;
}

static void step(const struct sd_sampler *s, int i, double c[SD_STEP_COEFFICIENTS])
{
    int t = (int)s->timestep[i], before = t - SD_TIMESTEPS / s->n;
    const float *alpha_bar = s->schedule.alpha_bar;
    double a = (double)alpha_bar[t], end = s->setup.end_at_first ? (double)alpha_bar[0] : 1,
           a_before = before >= 0 ? (double)alpha_bar[before] : end;
    double ra = sqrt(a), rb = sqrt(1 - a), pa = sqrt(a_before), pb = sqrt(1 - a_before);
    if (s->setup.v_prediction) { /* the noise is ra out + rb x */
        c[SD_STEP_X0_OF_X] = ra;
        c[SD_STEP_X0_OF_OUT] = -rb;
        c[SD_STEP_X] = pb * rb;
        c[SD_STEP_OUT] = pb * ra;
    } else {
        c[SD_STEP_X0_OF_X] = 1 / ra;
        c[SD_STEP_X0_OF_OUT] = -rb / ra;
        c[SD_STEP_OUT] = pb;
    }
    c[SD_STEP_X0] = pa;
    if (s->setup.clip_sample)
        c[SD_STEP_X0_LIMIT] = 1;
}

const struct sd_sampler_kind sd_sampler_ddim = {"ddim", NULL, plan, step};
