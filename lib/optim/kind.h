/* The optimizers that --optimizer-type names: sd-scripts' own names and those of torch.optim, their arguments
 * (--optimizer-args) with the defaults of the packages that sd-scripts takes them from, and how their numbers
 * become a row of the rule they step by (tensor/rule.h). A new one is a row of the table in kind.c. */
#ifndef SD_OPTIM_KIND_H
#define SD_OPTIM_KIND_H

#include "base/options.h"
#include "tensor/adapt.h"
#include "tensor/rule.h"

/* Arguments; those of one name stand next to each other. */
enum sd_optim_arg {
    SD_OPTIM_BETA1,
    SD_OPTIM_BETA2,
    SD_OPTIM_BETA3,
    SD_OPTIM_EPS,
    SD_OPTIM_EPS_SCALE, /* AdaFactor's second one, of the parameter's size */
    SD_OPTIM_WEIGHT_DECAY,
    SD_OPTIM_AMSGRAD,
    SD_OPTIM_DECOUPLED,
    SD_OPTIM_MOMENTUM_DECAY,
    SD_OPTIM_MOMENTUM,
    SD_OPTIM_DAMPENING,
    SD_OPTIM_NESTEROV,
    SD_OPTIM_ALPHA,
    SD_OPTIM_CENTERED,
    SD_OPTIM_LR_DECAY,
    SD_OPTIM_INITIAL,
    SD_OPTIM_RHO,
    SD_OPTIM_LAMBD,
    SD_OPTIM_T0,
    SD_OPTIM_ETA_MINUS,
    SD_OPTIM_ETA_PLUS,
    SD_OPTIM_STEP_LEAST,
    SD_OPTIM_STEP_MOST,
    SD_OPTIM_CLIP_THRESHOLD,
    SD_OPTIM_DECAY_RATE,
    SD_OPTIM_FIRST, /* AdaFactor's beta1; NaN is None: no first moment */
    SD_OPTIM_SCALE_PARAMETER,
    SD_OPTIM_RELATIVE_STEP,
    SD_OPTIM_WARMUP_INIT,
    SD_OPTIM_D0,
    SD_OPTIM_GROWTH_RATE,
    SD_OPTIM_D_COEF,
    SD_OPTIM_PRODIGY_BETA3, /* NaN: the root of the second */
    SD_OPTIM_DECOUPLE,
    SD_OPTIM_BIAS_CORRECTION,
    SD_OPTIM_SAFEGUARD,
    SD_OPTIM_NO_PROX,
    SD_OPTIM_ARGS
};

/* An argument that an optimizer takes, and what it is where it is not given. */
struct sd_optim_default {
    enum sd_optim_arg arg;
    double value;
    bool fixed; /* it cannot be given */
};

/* Functions take the values of the arguments, by enum sd_optim_arg. */
struct sd_optim_kind {
    const char *name;   /* as --optimizer-type has it; case does not matter */
    const char *python; /* "module.Class", as ss_optimizer records it */
    const char *given;  /* what sd-scripts adds to the arguments when it is not among them, or NULL */
    bool factored;      /* AdaFactor: steps by sd_graph_adafactor, not by a rule */
    bool codes;         /* moments of 8 bits, for parameters of at least SD_OPTIM_CODES_FROM elements */
    const struct sd_optim_default *args; /* [n_args] */
    int n_args;
    enum sd_rule rule;
    bool adapts; /* its step size, by adapt_rule; it has no rule and no functions then */
    enum sd_adapt_rule adapt_rule;
    enum sd_rule (*choose)(const double *a); /* the rule by the arguments, or NULL */
    /* Fills row h for update number t (from 1) at rate lr; carry is what `carry` made of the update before, 1
     * at first. */
    void (*hyper)(const double *a, double lr, double t, double carry, float *h);
    double (*carry)(const double *a, double lr, double t, double carry); /* or NULL */
    /* What a moment starts from; NULL: 0. */
    double (*start)(const double *a, int moment, double lr);
};

enum { SD_OPTIM_CODES_FROM = 4096 };

/* One of them with its arguments. */
struct sd_optim_config {
    const struct sd_optim_kind *kind;
    double arg[SD_OPTIM_ARGS];
    char text[256];                 /* "key=value,key=value" of those given, as Python would print them */
    double max_grad_norm;           /* 0: no clipping */
    struct sd_loss_scaling scaling; /* initial 0: gradients come unscaled */
};

/* The optimizer of a name, "" being AdamW, with words KEY=VALUE whose values are Python's literals: 0.1,
 * True, (0.9, 0.99) or .9,.99. words may be NULL. max_grad_norm becomes sd-scripts' 1. What is unknown or
 * cannot be read is refused by name (SD_ERR_USAGE). */
int sd_optim_config_init(struct sd_optim_config *c, const char *name, const struct sd_strings *words,
                         struct sd_err *err);

/* The i-th optimizer; NULL when there are no more. */
const struct sd_optim_kind *sd_optim_kind(int i);

enum sd_rule sd_optim_rule(const struct sd_optim_config *c);
int sd_optim_moments(const struct sd_optim_config *c); /* how many it has of each parameter */

/* Whether it makes its rates itself: those given, and schedules, do not count. */
bool sd_optim_relative(const struct sd_optim_config *c);

#endif
