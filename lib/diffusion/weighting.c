#include "diffusion/weighting.h"

#include <math.h>

static float weight_of(const struct sd_weighting *w, bool v_prediction, float snr)
{
    float capped = fminf(snr, 1000), scale = capped / (capped + 1), weight = 1;
    if (w->min_snr_gamma != 0)
        weight *= fminf(snr, (float)w->min_snr_gamma) / (v_prediction ? snr + 1 : snr);
    if (w->scale_v)
        weight *= scale;
    if (w->v_like != 0)
        weight += weight / scale * (float)w->v_like;
    if (w->debiased)
        weight *= 1 / (v_prediction ? capped + 1 : sqrtf(capped));
    return weight;
}

void sd_weighting_table(const struct sd_weighting *w, bool v_prediction, float weight[SD_TIMESTEPS])
{
    struct sd_schedule plain;
    sd_schedule_init(&plain);
    for (int t = 0; t < SD_TIMESTEPS; t++) {
        float ratio = sqrtf(plain.alpha_bar[t]) / sqrtf(1 - plain.alpha_bar[t]);
        weight[t] = weight_of(w, v_prediction, ratio * ratio);
    }
}

static float delta_of(const struct sd_huber *h, float alpha_bar, int t)
{
    float c = (float)h->c, sigma = sqrtf((1 - alpha_bar) / alpha_bar);
    if (h->schedule == SD_HUBER_CONSTANT)
        return (float)(h->c * h->scale);
    if (h->schedule == SD_HUBER_EXPONENTIAL)
        return expf((float)(log(h->c) / SD_TIMESTEPS) * (float)t) * (float)h->scale;
    return (float)(1 - h->c) / ((1 + sigma) * (1 + sigma)) + c;
}

void sd_huber_table(const struct sd_huber *h, const struct sd_schedule *s, float delta[SD_TIMESTEPS])
{
    for (int t = 0; t < SD_TIMESTEPS; t++)
        delta[t] = delta_of(h, s->alpha_bar[t], t);
}
