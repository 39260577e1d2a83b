#include "diffusion/schedule.h"

#include <math.h>

/* What follows from the betas. torch.cumprod carries a double and stores floats. */
static void accumulate(struct sd_schedule *s)
{
    double product = 1;
    for (int i = 0; i < SD_TIMESTEPS; i++) {
        product *= (double)(1.0f - s->beta[i]);
        s->alpha_bar[i] = (float)product;
        s->sigma[i] = sqrtf((1 - s->alpha_bar[i]) / s->alpha_bar[i]);
    }
}

void sd_schedule_init(struct sd_schedule *s)
{
    /* torch.linspace in f32: counted from the start in the first half, from the end in the second, each value
     * rounded once (a fused multiply-add; these doubles are exact). */
    float from = (float)sqrt(0.00085), to = (float)sqrt(0.012), step = (to - from) / (SD_TIMESTEPS - 1);
    for (int i = 0; i < SD_TIMESTEPS; i++) {
        float root = (float)(i < SD_TIMESTEPS / 2 ? (double)from + (double)step * i
                                                  : (double)to - (double)step * (SD_TIMESTEPS - 1 - i));
        s->beta[i] = root * root;
    }
    accumulate(s);
}

void sd_schedule_init_zero_terminal(struct sd_schedule *s)
{
    float before = 1; /* alpha_bar of the step before */
    sd_schedule_init(s);
    float first = sqrtf(s->alpha_bar[0]), last = sqrtf(s->alpha_bar[SD_TIMESTEPS - 1]),
          stretch = first / (first - last);
    for (int i = 0; i < SD_TIMESTEPS; i++) {
        float root = (sqrtf(s->alpha_bar[i]) - last) * stretch, alpha_bar = root * root;
        s->beta[i] = 1 - alpha_bar / before;
        before = alpha_bar;
    }
    accumulate(s);
}

void sd_schedule_noisy(const struct sd_schedule *s, float table[SD_TIMESTEPS][2])
{
    for (int i = 0; i < SD_TIMESTEPS; i++) {
        table[i][0] = sqrtf(s->alpha_bar[i]);
        table[i][1] = sqrtf(1 - s->alpha_bar[i]);
    }
}

void sd_schedule_velocity(const struct sd_schedule *s, float table[SD_TIMESTEPS][2])
{
    for (int i = 0; i < SD_TIMESTEPS; i++) {
        table[i][0] = -sqrtf(1 - s->alpha_bar[i]);
        table[i][1] = sqrtf(s->alpha_bar[i]);
    }
}
