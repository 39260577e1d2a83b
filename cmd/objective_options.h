/* sd-scripts' options for what training minimises: noise, timesteps, the kind of loss, and its weight by
 * timestep. */
#ifndef CMD_OBJECTIVE_OPTIONS_H
#define CMD_OBJECTIVE_OPTIONS_H

#include "cmd.h"

#include "train/train.h"

struct cmd_objective {
    struct sd_noise_options noise;
    struct sd_weighting weighting;
    struct sd_huber huber;
    bool zero_terminal, offset_given, timestep_given;
    const char *rng, *loss, *schedule;
};

#define CMD_OBJECTIVE_DEFAULTS                         \
    ((struct cmd_objective){.noise = SD_NOISE_DEFAULT, \
                            .huber = SD_HUBER_DEFAULT, \
                            .rng = "cpu",              \
                            .loss = "l2",              \
                            .schedule = "snr"})

/* Rows of an option table; s is a struct cmd_objective *. */
#define CMD_OBJECTIVE_OPTIONS(s)                                                                         \
    {SD_OPT_HEADING("Noise and timesteps")},                                                             \
        {SD_OPT_CHOICE("rng", 0, &(s)->rng, "cpu|cuda",                                                  \
                       "PyTorch's generator of noise: the processor's or a card's")},                    \
        {SD_OPT_DOUBLE("noise-offset", 0, &(s)->noise.offset, "X",                                       \
                       "move the noise of each channel by a normal number times X"),                     \
         .min = -1e6, .max = 1e6, .given = &(s)->offset_given},                                          \
        {SD_OPT_BOOL("noise-offset-random-strength", 0, &(s)->noise.offset_random,                       \
                     "times a share of X, drawn for each batch")},                                       \
        {SD_OPT_DOUBLE("adaptive-noise-scale", 0, &(s)->noise.offset_latent, "X",                        \
                       "raise the offset by X times the channel's mean in the latents"),                 \
         .min = -1e6, .max = 1e6},                                                                       \
        {SD_OPT_INT("multires-noise-iterations", 0, &(s)->noise.multires, "N",                           \
                    "add noise of N sizes, each 2 to 4 times as coarse as the last; 0: not"),            \
         .max = 1e6},                                                                                    \
        {SD_OPT_DOUBLE("multires-noise-discount", 0, &(s)->noise.multires_discount, "X",                 \
                       "weight of each size over the last"),                                             \
         .max = 100},                                                                                    \
        {SD_OPT_DOUBLE("ip-noise-gamma", 0, &(s)->noise.input, "X",                                      \
                       "mix in X times as much other noise, which is not to be predicted; 0: not"),      \
         .max = 1e6},                                                                                    \
        {SD_OPT_BOOL("ip-noise-gamma-random-strength", 0, &(s)->noise.input_random,                      \
                     "a share of X, drawn for each batch")},                                             \
        {SD_OPT_INT("min-timestep", 0, &(s)->noise.min_timestep, "N", "train timesteps from here"),      \
         .max = 999, .given = &(s)->timestep_given},                                                     \
        {SD_OPT_INT("max-timestep", 0, &(s)->noise.max_timestep, "N",                                    \
                    "to below here; where that is none, this one"),                                      \
         .max = 1000, .given = &(s)->timestep_given},                                                    \
        {SD_OPT_BOOL("zero-terminal-snr", 0, &(s)->zero_terminal,                                        \
                     "stretch the schedule until its last step is nothing but noise")},                  \
        {SD_OPT_HEADING("Loss")},                                                                        \
        {SD_OPT_CHOICE("loss-type", 0, &(s)->loss, "l2|l1|huber|smooth_l1", "what a difference costs")}, \
        {SD_OPT_CHOICE("huber-schedule", 0, &(s)->schedule, "snr|exponential|constant",                  \
                       "how c of huber and smooth_l1, where they bend, goes with the timestep")},        \
        {SD_OPT_DOUBLE("huber-c", 0, &(s)->huber.c, "X", "c at the last timestep, or everywhere"),       \
         .min = 1e-12, .max = 1e6},                                                                      \
        {SD_OPT_DOUBLE("huber-scale", 0, &(s)->huber.scale, "X", "multiplies c, but that of snr"),       \
         .min = 1e-12, .max = 1e6},                                                                      \
        {SD_OPT_DOUBLE("min-snr-gamma", 0, &(s)->weighting.min_snr_gamma, "X",                           \
                       "weigh timesteps by min(SNR, X)/SNR; 5 is usual; 0: not"),                        \
         .max = 1e6},                                                                                    \
        {SD_OPT_BOOL("debiased-estimation-loss", 0, &(s)->weighting.debiased,                            \
                     "weigh timesteps by 1/sqrt(SNR), or 1/(SNR + 1) for velocity")},                    \
        {SD_OPT_BOOL("scale-v-pred-loss-like-noise-pred", 0, &(s)->weighting.scale_v,                    \
                     "weigh timesteps of velocity as those of noise")},                                  \
    {                                                                                                    \
        SD_OPT_DOUBLE("v-pred-like-loss", 0, &(s)->weighting.v_like, "X",                                \
                      "add X times the loss weighed as that of velocity; 0: not"),                       \
            .max = 1e6                                                                                   \
    }

/* After the options were read and t->trainer.v_prediction is known: into t. Ends the program on wrong ones.
 */
void cmd_objective_settle(struct sd_cmd *c, const struct cmd_objective *s, struct sd_train_config *t);

#endif
