/* The step of training: noise, prediction, loss, gradients, update (Ho et al., DDPM, 2020, algorithm 1).
 *
 * For each batch shape one graph holds the text encoder, the forward diffusion, the U-Net, the loss and the
 * backward, whose gradients are added to the optimizer's; plans are made when a shape first comes and kept.
 * Nothing is drawn here: noise, or the states it is made from, and timesteps are the caller's. */
#ifndef SD_TRAIN_TRAINER_H
#define SD_TRAIN_TRAINER_H

#include "diffusion/weighting.h"
#include "model/config.h"
#include "model/weights.h"
#include "optim/optimizer.h"
#include "train/noise.h"

struct sd_trainer_options {
    enum sd_dtype dtype;           /* activations and frozen weights: f32, bf16 or f16 */
    bool checkpointing;            /* recompute activations in the backward */
    bool v_prediction;             /* the target is velocity */
    bool zero_terminal;            /* the schedule ends in nothing but noise */
    struct sd_noise_options noise; /* cuda: the graph makes it; input: what is mixed in is not the target */
    enum sd_loss loss;
    struct sd_huber huber; /* of the losses that bend */
    struct sd_weighting weighting;
    int clip_skip;    /* 0 or 1: the text encoder's last layer */
    int text_chunks;  /* 1, 2, 3: prompts of 75, 150, 225 tokens */
    int accumulation; /* the loss is divided by this */
};

struct sd_train_batch {
    int64_t n, h, w;      /* samples; size of the latents */
    const float *latents; /* [n,c,h,w] as the VAE made them: scaled here */
    struct sd_train_noise_batch noise;
    const int64_t *timesteps; /* [n], 0..999 */
    const int32_t *ids;       /* [n*text_chunks,77] */
    const float *weight;      /* [n] factor on a sample's loss, times that of its timestep; NULL: 1 */
};

struct sd_trainer;

/* Everything is borrowed and must outlive the trainer. adapt may be NULL. The optimizer says what is trained,
 * and by what losses are scaled, which those of f16 need. */
struct sd_trainer *sd_trainer_new(const struct sd_model_config *config,
                                  const struct sd_trainer_options *options, struct sd_weights *weights,
                                  sd_nn_adapt *adapt, void *adapt_ctx, struct sd_optimizer *optimizer,
                                  struct sd_backend *backend, struct sd_err *err);
void sd_trainer_free(struct sd_trainer *t);

/* The arena of its plans, for others that run between its steps. */
struct sd_workspace *sd_trainer_workspace(struct sd_trainer *t);

/* The step of a batch shape, compiled if it is new: for those who write inputs that adapt has added, just
 * before sd_trainer_batch. */
int sd_trainer_step(struct sd_trainer *t, int64_t n, int64_t h, int64_t w, const struct sd_graph **graph,
                    struct sd_plan **plan, struct sd_err *err);

/* Forward and backward of one batch; *loss is before the division by the accumulation. With update also what
 * the optimizer was prepared for, in one go; sd_optimizer_finish comes after. */
int sd_trainer_batch(struct sd_trainer *t, const struct sd_train_batch *b, bool update, float *loss,
                     struct sd_err *err);
/* Its two halves: a device works between them. What b points at may be overwritten then. */
int sd_trainer_start(struct sd_trainer *t, const struct sd_train_batch *b, bool update, struct sd_err *err);
int sd_trainer_finish(struct sd_trainer *t, float *loss, struct sd_err *err);

/* Memory of the largest plan so far; all plans share one arena and scratch. */
struct sd_plan_memory sd_trainer_memory(const struct sd_trainer *t);

/* Seconds by op since profiling was switched on, summed over plans. */
void sd_trainer_profile(struct sd_trainer *t, bool on);
double sd_trainer_seconds(const struct sd_trainer *t, enum sd_op op);

#endif
