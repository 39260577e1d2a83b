/* Optimizers: the state beside trained variables, and the graph of one update.
 *
 * Gradients are summed into grad variables by the graphs of the micro-steps (sd_graph_accumulate). An update
 * is a plan of its own, the same for every shape: it clips all gradients by their common norm, steps, and
 * zeroes them. What changes from update to update (rates, bias corrections) is written into a small input
 * tensor, so a device can replay it. Whoever reads the trained variables on the host brings them there by the
 * optimizer's block (tensor/block.h). */
#ifndef SD_OPTIM_OPTIMIZER_H
#define SD_OPTIM_OPTIMIZER_H

#include "optim/kind.h"
#include "tensor/block.h"
#include "tensor/plan.h"

struct sd_optim_group {
    const char *name; /* "textencoder", "unet": as sd-scripts logs it */
    double lr;
    double last; /* the rate of the last update, as sd-scripts logs it; the optimizer keeps it */
};

struct sd_optim_param {
    struct sd_var *var; /* trained; borrowed */
    int group;
    struct sd_var grad; /* f32, var's shape */
    struct sd_var
        moment[SD_ADAPT_MOMENTS];       /* those of the rule, f32 or codes; AdaFactor's rows, columns, m */
    struct sd_var max[SD_STEP_MOMENTS]; /* magnitudes of the codes' blocks */
    bool codes;
    /* The next update leaves it and its moments as they are, as PyTorch does where no gradient reached it. */
    bool idle;
    int64_t updates;  /* private: done so far to this one */
    double lr, carry; /* private: of the update at hand; what its kind carries from one to the next */
};

/* The scale that a backward's seed is to be multiplied by (sd_graph_loss_scale), f32 [1]. */
struct sd_optim_scale {
    struct sd_var scale, streak;
    float memory[2];
};

/* The step size of kinds that adapt it, which every rate is multiplied by. */
struct sd_optim_adapted {
    struct sd_var state; /* tensor/adapt.h */
    struct sd_tensor *d; /* private: what an update makes of it */
    float memory[SD_ADAPT_STATE];
    double rate;     /* private: of the update at hand */
    int64_t updates; /* private: those that counted */
};

/* Stays where it was initialised. */
struct sd_optimizer {
    struct sd_optim_config config;
    struct sd_optim_group *groups; /* owned */
    int n_groups;
    struct sd_optim_param *params; /* owned */
    int n_params;
    struct sd_optim_scale *scale;     /* owned; NULL: gradients come unscaled */
    struct sd_optim_adapted *adapted; /* owned; NULL: nothing is adapted */
    int64_t updates;                  /* done so far */
    struct sd_backend *backend;
    struct sd_block *block; /* the trained variables */
    struct sd_plan *plan;
    struct sd_graph *graph;            /* private from here */
    struct sd_tensor *clip, *hyper[2]; /* rows of those with f32 moments, of those with codes */
    struct sd_tensor *rms;             /* AdaFactor's; else NULL */
    void *memory;
    float maps[SD_STEP_MOMENTS][SD_QUANT_CODES];
    struct sd_var maps_var;
};

/* The variable at vars[i] belongs to groups[group_of[i]]; all must be trainable f32. 0 or -1. */
int sd_optimizer_init(struct sd_optimizer *o, const struct sd_optim_config *config,
                      const struct sd_optim_group *groups, int n_groups, struct sd_var *const *vars,
                      const int *group_of, int n, struct sd_backend *backend, struct sd_err *err);
void sd_optimizer_free(struct sd_optimizer *o);

/* The gradient variable of a trained variable, NULL when it has none here. */
struct sd_var *sd_optimizer_grad(struct sd_optimizer *o, const struct sd_var *var);

/* What an update did. */
struct sd_optim_update {
    float norm;   /* the gradients', unscaled, before clipping */
    bool skipped; /* scaled gradients overflowed: nothing was updated or counted */
    float scale;  /* the next losses' (1: unscaled) */
    float d;      /* the step size that the next update's rates are multiplied by (1: it is not adapted) */
};

/* One update with every group's rate times factor. 0 or -1. */
int sd_optimizer_update(struct sd_optimizer *o, double factor, struct sd_optim_update *did,
                        struct sd_err *err);
/* Its three parts, for those who have o->plan run with another: before the run, sd_plan_start_with, and when
 * it is done. */
void sd_optimizer_prepare(struct sd_optimizer *o, double factor);
int sd_optimizer_finish(struct sd_optimizer *o, struct sd_optim_update *did, struct sd_err *err);

#endif
