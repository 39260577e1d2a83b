/* Training a LoRA: the loop over epochs and batches, with what it tells about itself and what it saves.
 *
 * The loop follows sd-scripts' train_network.py: gradients are applied every `accumulation` batches and at
 * the end of an epoch; steps count updates; the shown average replaces the losses of the last epoch one by
 * one.
 *
 * How pictures and captions are treated is the data's to say (data/subset.h). Pictures without cached latents
 * are encoded by the model's VAE each time they are used. */
#ifndef SD_TRAIN_TRAIN_H
#define SD_TRAIN_TRAIN_H

#include "adapter/lora.h"
#include "data/dataset.h"
#include "diffusion/noise.h"
#include "model/model_file.h"
#include "optim/lr.h"
#include "train/groups.h"
#include "train/trainer.h"

struct sd_archives;

struct sd_train_config {
    /* what */
    struct sd_lora_options lora;
    struct sd_network_args network_args; /* what they say of shapes and dropout is in lora already */
    double network_dropout;              /* NaN: not given */
    struct sd_strings network_words;     /* as they were given, for the metadata */
    const char *network_weights;         /* a LoRA file to start from, or NULL */
    bool dim_from_weights;               /* its modules, ranks and alphas too; of lora only the parts count */
    /* how */
    struct sd_trainer_options trainer;
    struct sd_optim_config optimizer;
    double lr, text_encoder_lr, unet_lr; /* the latter NaN: lr */
    const char *lr_scheduler;
    double lr_warmup_steps;
    double scale_weight_norms;                 /* after each update; 0: never */
    int64_t max_train_steps, max_train_epochs; /* epochs > 0 override steps */
    uint64_t seed;
    int max_token_length; /* 75, 150, 225 */
    bool v2;              /* pads captions as Stable Diffusion 2 does */
    double prior_loss_weight;
    struct sd_noise_options noise;
    bool timestep_range;          /* the metadata tell the timesteps */
    struct sd_archives *archives; /* open ones of pictures and caches, or NULL */
    struct sd_model_file *vae;    /* encodes pictures without latents; NULL: the model's own */
    sd_weights_find *find;        /* where text encoder and U-Net have their weights; NULL: the model's own */
    void *find_ctx;
    /* where to */
    const char *output;             /* the file; earlier saves lie beside it under sd-scripts' names */
    enum sd_store_dtype save_dtype; /* F32, F16 or BF16 */
    int64_t save_every_n_steps, save_every_n_epochs; /* 0: only at the end */
    bool no_metadata;
    const char *training_comment;
    const char *model_path; /* for the metadata */
    bool profile;
};

enum sd_train_event_kind { SD_TRAIN_START, SD_TRAIN_STEP, SD_TRAIN_EPOCH, SD_TRAIN_SAVE, SD_TRAIN_END };

struct sd_train_event {
    enum sd_train_event_kind kind;
    int64_t step, epoch;  /* step: updates so far; epoch from 1 */
    double loss, average; /* step: of its batches, and the running average; epoch, end: the average */
    double grad_norm;     /* step: before clipping; not finite when gradients overflowed f16 */
    double loss_scale;    /* step, of f16: the next losses', where it has changed; else 0 */
    bool skipped;         /* step, of f16: gradients overflowed, so nothing was updated */
    const double *lr;     /* step: of each group */
    double d;             /* step, where the optimizer adapts its step size: that of the next; else 0 */
    const struct sd_lora_norms *norms; /* step, with scale_weight_norms: what it did; else NULL */
    double seconds;                    /* step: since the last one; end: since the start */
    const char *path;                  /* save */
    bool stopped;                      /* end: by a signal */
};

/* What start tells. */
struct sd_train_plan {
    int64_t pictures, reg_pictures, batches_per_epoch, epochs, steps;
    size_t modules, parameters;
    const struct sd_optim_group *group; /* [n_groups] */
    int n_groups;
    const struct sd_optim_config *optimizer;
    struct sd_model_config model;
};

struct sd_train_hooks {
    void (*event)(void *ctx, const struct sd_train_event *e, const struct sd_train_plan *plan);
    bool (*stop)(void *ctx); /* true: finish the step, save, end; may be NULL */
    void *ctx;
};

/* Trains and saves. What goes wrong on the way ends it with an error after what was trained is saved. After a
 * loss that is not finite these are the weights before the last update, which may have broken them. */
int sd_train_lora(const struct sd_train_config *config, struct sd_model_file *model, struct sd_dataset *data,
                  struct sd_backend *backend, const struct sd_train_hooks *hooks, struct sd_err *err);

#endif
