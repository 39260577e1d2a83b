#include "objective_options.h"

#include <math.h>
#include <string.h>

/* What sd-scripts refuses, or says to be unexpected; and what would do nothing. */
static void check(struct sd_cmd *c, const struct cmd_objective *s, bool v_prediction)
{
    const struct sd_noise_options *n = &s->noise;
    if (!isnan(n->offset_latent) && !s->offset_given)
        cmd_usage(c, "--adaptive-noise-scale goes with --noise-offset");
    if (s->weighting.scale_v && !v_prediction)
        cmd_usage(c, "--scale-v-pred-loss-like-noise-pred is for models that predict velocity "
                     "(--v-parameterization)");
    if (s->weighting.v_like != 0 && v_prediction)
        cmd_usage(c, "--v-pred-like-loss is for models that predict noise; this one predicts velocity");
    if (s->zero_terminal && !v_prediction)
        cmd_warn(c, "--zero-terminal-snr is for models that predict velocity; this one predicts noise");
    if (!isnan(n->offset_latent) && n->offset == 0)
        cmd_warn(c, "--adaptive-noise-scale does nothing where --noise-offset is 0");
    if (n->offset_random && n->offset == 0)
        cmd_warn(c, "--noise-offset-random-strength does nothing without --noise-offset");
    if (n->input_random && n->input == 0)
        cmd_warn(c, "--ip-noise-gamma-random-strength does nothing without --ip-noise-gamma");
    if (n->min_timestep > n->max_timestep)
        cmd_warn(c, "--min-timestep %lld is above --max-timestep: only timestep %lld is trained",
                 (long long)n->min_timestep, (long long)n->max_timestep);
}

void cmd_objective_settle(struct sd_cmd *c, const struct cmd_objective *s, struct sd_train_config *t)
{
    check(c, s, t->trainer.v_prediction);
    t->noise = s->noise;
    t->noise.cuda = !strcmp(s->rng, "cuda");
    t->timestep_range = s->timestep_given;
    t->trainer.zero_terminal = s->zero_terminal;
    t->trainer.weighting = s->weighting;
    t->trainer.huber = s->huber;
    t->trainer.loss = !strcmp(s->loss, "l1")          ? SD_LOSS_L1
                      : !strcmp(s->loss, "huber")     ? SD_LOSS_HUBER
                      : !strcmp(s->loss, "smooth_l1") ? SD_LOSS_SMOOTH_L1
                                                      : SD_LOSS_L2;
    t->trainer.huber.schedule = !strcmp(s->schedule, "constant")      ? SD_HUBER_CONSTANT
                                : !strcmp(s->schedule, "exponential") ? SD_HUBER_EXPONENTIAL
                                                                      : SD_HUBER_SNR;
}
