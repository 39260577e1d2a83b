/* DDIM (Song et al., Denoising Diffusion Implicit Models, 2021), eta 0, "leading" timesteps: multiples of
 * floor(1000/steps), plus steps_offset. */
#include "diffusion/sampler.h"

#include <math.h>
#include <string.h>

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

static void input(const struct sd_sampler *s, int i, const float *x, float *in, size_t count)
{
    (void)s;
    (void)i;
    memcpy(in, x, count * sizeof *x);
}

static void step(const struct sd_sampler *s, int i, const float *out, float *x, size_t count)
{
    int t = (int)s->timestep[i], before = t - SD_TIMESTEPS / s->n;
    float end = s->setup.end_at_first ? s->schedule.alpha_bar[0] : 1;
    float a = s->schedule.alpha_bar[t], a_before = before >= 0 ? s->schedule.alpha_bar[before] : end;
    float ra = sqrtf(a), rb = sqrtf(1 - a), pa = sqrtf(a_before), pb = sqrtf(1 - a_before);
    for (size_t k = 0; k < count; k++) {
        float x0, eps;
        if (s->setup.v_prediction) {
            x0 = ra * x[k] - rb * out[k];
            eps = ra * out[k] + rb * x[k];
        } else {
            x0 = (x[k] - rb * out[k]) / ra;
            eps = out[k];
        }
        if (s->setup.clip_sample)
            x0 = fminf(fmaxf(x0, -1), 1);
        x[k] = pa * x0 + pb * eps;
    }
}

const struct sd_sampler_kind sd_sampler_ddim = {"ddim", NULL, plan, input, step};
