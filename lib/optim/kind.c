#include "optim/kind.h"

#include "tensor/adafactor.h"

#include <math.h>

/* --- Adam and its kin --- */

static enum sd_rule adam_choose(const double *a)
{
    return a[SD_OPTIM_AMSGRAD] != 0 ? SD_RULE_amsgrad : SD_RULE_adam;
}

/* All but what depends on the number of the update. */
static void fill_adam(const double *a, double lr, float *h)
{
    double decay = a[SD_OPTIM_WEIGHT_DECAY];
    bool decoupled = a[SD_OPTIM_DECOUPLED] != 0;
    h[SD_ADAM_KEEP] = (float)(decoupled ? 1 - lr * decay : 1);
    h[SD_ADAM_DECAY] = (float)(decoupled ? 0 : decay);
    h[SD_ADAM_BETA1] = (float)a[SD_OPTIM_BETA1];
    h[SD_ADAM_NEW1] = (float)(1 - a[SD_OPTIM_BETA1]);
    h[SD_ADAM_BETA2] = (float)a[SD_OPTIM_BETA2];
    h[SD_ADAM_NEW2] = (float)(1 - a[SD_OPTIM_BETA2]);
    h[SD_ADAM_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_ADAM_FRESH] = 0;
}

static void adam(const double *a, double lr, double t, double carry, float *h)
{
    (void)carry;
    fill_adam(a, lr, h);
    h[SD_ADAM_RATE] = (float)(lr / (1 - pow(a[SD_OPTIM_BETA1], t)));
    h[SD_ADAM_ROOT] = (float)(1 / sqrt(1 - pow(a[SD_OPTIM_BETA2], t)));
}

/* bitsandbytes' AdamW decays after the step, not before it. */
static void adam_bnb(const double *a, double lr, double t, double carry, float *h)
{
    (void)carry;
    fill_adam(a, lr, h);
    h[SD_ADAM_RATE] = (float)(lr * (1 - lr * a[SD_OPTIM_WEIGHT_DECAY]) / (1 - pow(a[SD_OPTIM_BETA1], t)));
    h[SD_ADAM_ROOT] = (float)(1 / sqrt(1 - pow(a[SD_OPTIM_BETA2], t)));
}

/* The momentum of update t (Dozat, Incorporating Nesterov Momentum into Adam, 2016). */
static double nadam_momentum(const double *a, double t)
{
    return a[SD_OPTIM_BETA1] * (1 - 0.5 * pow(0.96, t * a[SD_OPTIM_MOMENTUM_DECAY]));
}

/* The product of the momenta up to t. */
static double nadam_carry(const double *a, double lr, double t, double carry)
{
    (void)lr;
    return carry * nadam_momentum(a, t);
}

static void nadam(const double *a, double lr, double t, double carry, float *h)
{
    double now = nadam_momentum(a, t), next = nadam_momentum(a, t + 1), product = carry * now;
    fill_adam(a, lr, h);
    h[SD_ADAM_FRESH] = (float)(lr * (1 - now) / (1 - product));
    h[SD_ADAM_RATE] = (float)(lr * next / (1 - product * next));
    h[SD_ADAM_ROOT] = (float)(1 / sqrt(1 - pow(a[SD_OPTIM_BETA2], t)));
}

/* Liu et al., On the Variance of the Adaptive Learning Rate and Beyond, 2020. */
static void radam(const double *a, double lr, double t, double carry, float *h)
{
    double beta2 = a[SD_OPTIM_BETA2], left = 1 - pow(beta2, t), most = 2 / (1 - beta2) - 1;
    double length = most - 2 * t * pow(beta2, t) / left, rate = lr / (1 - pow(a[SD_OPTIM_BETA1], t));
    (void)carry;
    fill_adam(a, lr, h);
    if (length > 5) {
        double rectified = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length);
        h[SD_ADAM_RATE] = (float)(rate * sqrt(rectified) * sqrt(left));
        h[SD_ADAM_ROOT] = 1;
    } else { /* the mean alone */
        h[SD_ADAM_RATE] = (float)rate;
        h[SD_ADAM_ROOT] = 0;
        h[SD_ADAM_EPS] = 1;
    }
}

static void adamax(const double *a, double lr, double t, double carry, float *h)
{
    (void)carry;
    h[SD_ADAMAX_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
    h[SD_ADAMAX_BETA1] = (float)a[SD_OPTIM_BETA1];
    h[SD_ADAMAX_NEW1] = (float)(1 - a[SD_OPTIM_BETA1]);
    h[SD_ADAMAX_BETA2] = (float)a[SD_OPTIM_BETA2];
    h[SD_ADAMAX_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_ADAMAX_RATE] = (float)(lr / (1 - pow(a[SD_OPTIM_BETA1], t)));
}

/* --- one moment or less --- */

static void lion(const double *a, double lr, double t, double carry, float *h)
{
    (void)t;
    (void)carry;
    h[SD_LION_KEEP] = (float)(1 - lr * a[SD_OPTIM_WEIGHT_DECAY]);
    h[SD_LION_BETA1] = (float)a[SD_OPTIM_BETA1];
    h[SD_LION_NEW1] = (float)(1 - a[SD_OPTIM_BETA1]);
    h[SD_LION_BETA2] = (float)a[SD_OPTIM_BETA2];
    h[SD_LION_NEW2] = (float)(1 - a[SD_OPTIM_BETA2]);
    h[SD_LION_RATE] = (float)lr;
}

/* torch.optim.SGD: the first gradient is not damped. */
static void sgd(const double *a, double lr, double t, double carry, float *h)
{
    double momentum = a[SD_OPTIM_MOMENTUM];
    bool nesterov = a[SD_OPTIM_NESTEROV] != 0;
    (void)carry;
    h[SD_SGD_KEEP] = 1;
    h[SD_SGD_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
    h[SD_SGD_MOMENTUM] = (float)momentum;
    h[SD_SGD_NEW] = (float)(t > 1 && momentum != 0 ? 1 - a[SD_OPTIM_DAMPENING] : 1);
    h[SD_SGD_FRESH] = (float)(nesterov ? lr : 0);
    h[SD_SGD_RATE] = (float)(nesterov ? lr * momentum : lr);
}

/* The next update's step size (Polyak and Juditsky, 1992, as torch.optim.ASGD has it). */
static double asgd_carry(const double *a, double lr, double t, double carry)
{
    (void)carry;
    return lr / pow(1 + a[SD_OPTIM_LAMBD] * lr * t, a[SD_OPTIM_ALPHA]);
}

/* Its running average of the parameter is not kept: nothing reads it. */
static void asgd(const double *a, double lr, double t, double carry, float *h)
{
    double eta = t > 1 ? carry : lr;
    h[SD_SGD_KEEP] = (float)(1 - a[SD_OPTIM_LAMBD] * eta);
    h[SD_SGD_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
    h[SD_SGD_MOMENTUM] = 0;
    h[SD_SGD_NEW] = 1;
    h[SD_SGD_FRESH] = (float)eta;
    h[SD_SGD_RATE] = 0;
}

/* --- by mean squares, by signs --- */

static enum sd_rule rmsprop_choose(const double *a)
{
    return a[SD_OPTIM_CENTERED] != 0 || a[SD_OPTIM_MOMENTUM] > 0 ? SD_RULE_rmsprop_full : SD_RULE_rmsprop;
}

static void rmsprop(const double *a, double lr, double t, double carry, float *h)
{
    (void)t;
    (void)carry;
    h[SD_RMSPROP_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
    h[SD_RMSPROP_ALPHA] = (float)a[SD_OPTIM_ALPHA];
    h[SD_RMSPROP_NEW] = (float)(1 - a[SD_OPTIM_ALPHA]);
    h[SD_RMSPROP_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_RMSPROP_RATE] = (float)lr;
    h[SD_RMSPROP_CENTER] = (float)a[SD_OPTIM_CENTERED];
    h[SD_RMSPROP_MOMENTUM] = (float)a[SD_OPTIM_MOMENTUM];
}

/* Duchi et al., 2011: the sum of squares in place of their mean. */
static void adagrad(const double *a, double lr, double t, double carry, float *h)
{
    (void)carry;
    h[SD_RMSPROP_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
    h[SD_RMSPROP_ALPHA] = h[SD_RMSPROP_NEW] = 1;
    h[SD_RMSPROP_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_RMSPROP_RATE] = (float)(lr / (1 + (t - 1) * a[SD_OPTIM_LR_DECAY]));
}

static double adagrad_start(const double *a, int moment, double lr)
{
    (void)moment;
    (void)lr;
    return a[SD_OPTIM_INITIAL];
}

static void adadelta(const double *a, double lr, double t, double carry, float *h)
{
    (void)t;
    (void)carry;
    h[SD_ADADELTA_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
    h[SD_ADADELTA_RHO] = (float)a[SD_OPTIM_RHO];
    h[SD_ADADELTA_NEW] = (float)(1 - a[SD_OPTIM_RHO]);
    h[SD_ADADELTA_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_ADADELTA_RATE] = (float)lr;
}

static void rprop(const double *a, double lr, double t, double carry, float *h)
{
    (void)lr;
    (void)t;
    (void)carry;
    h[SD_RPROP_UP] = (float)a[SD_OPTIM_ETA_PLUS];
    h[SD_RPROP_DOWN] = (float)a[SD_OPTIM_ETA_MINUS];
    h[SD_RPROP_LEAST] = (float)a[SD_OPTIM_STEP_LEAST];
    h[SD_RPROP_MOST] = (float)a[SD_OPTIM_STEP_MOST];
}

/* Steps begin at the rate, which counts no more after that. */
static double rprop_start(const double *a, int moment, double lr)
{
    (void)a;
    return moment ? lr : 0;
}

/* --- AdaFactor, as transformers has it --- */

static void adafactor(const double *a, double lr, double t, double carry, float *h)
{
    double least = a[SD_OPTIM_WARMUP_INIT] != 0 ? 1e-6 * t : 1e-2, fresh = pow(t, a[SD_OPTIM_DECAY_RATE]);
    bool moment = !isnan(a[SD_OPTIM_FIRST]);
    (void)carry;
    h[SD_ADAFACTOR_RATE] = (float)(a[SD_OPTIM_RELATIVE_STEP] != 0 ? fmin(least, 1 / sqrt(t)) : lr);
    h[SD_ADAFACTOR_SCALED] = (float)a[SD_OPTIM_SCALE_PARAMETER];
    h[SD_ADAFACTOR_LEAST] = (float)a[SD_OPTIM_EPS_SCALE];
    h[SD_ADAFACTOR_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_ADAFACTOR_KEEP] = (float)(1 - fresh);
    h[SD_ADAFACTOR_NEW] = (float)fresh;
    h[SD_ADAFACTOR_MOST] = (float)a[SD_OPTIM_CLIP_THRESHOLD];
    h[SD_ADAFACTOR_BETA1] = (float)(moment ? a[SD_OPTIM_FIRST] : 0);
    h[SD_ADAFACTOR_NEW1] = (float)(moment ? 1 - a[SD_OPTIM_FIRST] : 1);
    h[SD_ADAFACTOR_DECAY] = (float)a[SD_OPTIM_WEIGHT_DECAY];
}

bool sd_optim_relative(const struct sd_optim_config *c)
{
    return c->kind->factored && c->arg[SD_OPTIM_RELATIVE_STEP] != 0;
}

/* --- the table --- */

#define ARG(name, value)              \
    {                                 \
        SD_OPTIM_##name, value, false \
    }
#define FIXED(name, value)           \
    {                                \
        SD_OPTIM_##name, value, true \
    }
#define BETAS(b1, b2) ARG(BETA1, b1), ARG(BETA2, b2)
#define ARGS(...)                                           \
    .args = (const struct sd_optim_default[]){__VA_ARGS__}, \
    .n_args = sizeof((const struct sd_optim_default[]){__VA_ARGS__}) / sizeof(struct sd_optim_default)

#define ADAMW \
    ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0.01), ARG(AMSGRAD, 0), FIXED(DECOUPLED, 1))
#define ADAMW_BNB ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0.01), FIXED(DECOUPLED, 1))
#define LION ARGS(BETAS(0.9, 0.99), ARG(WEIGHT_DECAY, 0))
#define SGD(momentum, nesterov) \
    ARGS(ARG(MOMENTUM, momentum), ARG(DAMPENING, 0), ARG(WEIGHT_DECAY, 0), nesterov)

#define ADAPTS(of) .adapts = true, .adapt_rule = SD_ADAPT_##of
#define ADAPTED ARG(D0, 1e-6), ARG(GROWTH_RATE, INFINITY)
#define DADAPT_PREPRINT \
    ADAPTS(preprint), ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ADAPTED, ARG(DECOUPLE, 0))
#define DADAPT_ADAN                                                                             \
    ARGS(BETAS(0.98, 0.92), ARG(BETA3, 0.99), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0.02), ADAPTED, \
         ARG(NO_PROX, 0))

/* Paged ones are the plain ones: their states lie where the others' lie. */
static const struct sd_optim_kind kinds[] = {
    {"AdamW", "torch.optim.adamw.AdamW", .rule = SD_RULE_adam, .choose = adam_choose, .hyper = adam, ADAMW},
    {"AdamW8bit", "bitsandbytes.optim.adamw.AdamW8bit", .rule = SD_RULE_adam, .codes = true,
     .hyper = adam_bnb, ADAMW_BNB},
    {"PagedAdamW", "bitsandbytes.optim.adamw.PagedAdamW", .rule = SD_RULE_adam, .hyper = adam_bnb, ADAMW_BNB},
    {"PagedAdamW32bit", "bitsandbytes.optim.adamw.PagedAdamW32bit", .rule = SD_RULE_adam, .hyper = adam_bnb,
     ADAMW_BNB},
    {"PagedAdamW8bit", "bitsandbytes.optim.adamw.PagedAdamW8bit", .rule = SD_RULE_adam, .codes = true,
     .hyper = adam_bnb, ADAMW_BNB},
    {"Lion", "lion_pytorch.lion_pytorch.Lion", .rule = SD_RULE_lion, .hyper = lion, LION},
    {"Lion8bit", "bitsandbytes.optim.lion.Lion8bit", .rule = SD_RULE_lion, .codes = true, .hyper = lion,
     LION},
    {"PagedLion8bit", "bitsandbytes.optim.lion.PagedLion8bit", .rule = SD_RULE_lion, .codes = true,
     .hyper = lion, LION},
    {"SGDNesterov", "torch.optim.sgd.SGD", .given = "momentum=0.9", .rule = SD_RULE_sgd, .hyper = sgd,
     SGD(0.9, FIXED(NESTEROV, 1))},
    /* bitsandbytes' takes the words nesterov and dampening and has neither */
    {"SGDNesterov8bit", "bitsandbytes.optim.sgd.SGD8bit", .given = "momentum=0.9", .rule = SD_RULE_sgd,
     .codes = true, .hyper = sgd, ARGS(ARG(MOMENTUM, 0.9), ARG(WEIGHT_DECAY, 0))},
    {"AdaFactor", "transformers.optimization.Adafactor", .given = "relative_step=True", .factored = true,
     .hyper = adafactor,
     ARGS(ARG(EPS, 1e-30), ARG(EPS_SCALE, 1e-3), ARG(CLIP_THRESHOLD, 1), ARG(DECAY_RATE, -0.8),
          ARG(FIRST, NAN), ARG(WEIGHT_DECAY, 0), ARG(SCALE_PARAMETER, 1), ARG(RELATIVE_STEP, 1),
          ARG(WARMUP_INIT, 0))},
    {"DAdaptation", "dadaptation.experimental.dadapt_adam_preprint.DAdaptAdamPreprint", DADAPT_PREPRINT},
    {"DAdaptAdamPreprint", "dadaptation.experimental.dadapt_adam_preprint.DAdaptAdamPreprint",
     DADAPT_PREPRINT},
    {"DAdaptAdaGrad", "dadaptation.dadapt_adagrad.DAdaptAdaGrad", ADAPTS(adagrad),
     ARGS(ARG(MOMENTUM, 0), ARG(EPS, 1e-6), ARG(WEIGHT_DECAY, 0), ADAPTED)},
    {"DAdaptAdam", "dadaptation.dadapt_adam.DAdaptAdam", ADAPTS(adam),
     ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ADAPTED, ARG(DECOUPLE, 0),
          ARG(BIAS_CORRECTION, 0))},
    {"DAdaptAdan", "dadaptation.dadapt_adan.DAdaptAdan", ADAPTS(adan), DADAPT_ADAN},
    {"DAdaptAdanIP", "dadaptation.experimental.dadapt_adan_ip.DAdaptAdanIP", ADAPTS(adan_ip), DADAPT_ADAN},
    {"DAdaptLion", "dadaptation.dadapt_lion.DAdaptLion", ADAPTS(lion),
     ARGS(BETAS(0.9, 0.99), ARG(WEIGHT_DECAY, 0), ARG(D0, 1e-6), FIXED(GROWTH_RATE, INFINITY),
          FIXED(DECOUPLE, 1))},
    {"DAdaptSGD", "dadaptation.dadapt_sgd.DAdaptSGD", ADAPTS(sgd),
     ARGS(ARG(MOMENTUM, 0), ARG(WEIGHT_DECAY, 0), ADAPTED)},
    {"Prodigy", "prodigyopt.prodigy.Prodigy", ADAPTS(prodigy),
     ARGS(BETAS(0.9, 0.999), ARG(PRODIGY_BETA3, NAN), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ARG(DECOUPLE, 1),
          ARG(BIAS_CORRECTION, 0), ARG(SAFEGUARD, 0), ADAPTED, ARG(D_COEF, 1))},
    {"Adam", "torch.optim.adam.Adam", .rule = SD_RULE_adam, .choose = adam_choose, .hyper = adam,
     ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ARG(AMSGRAD, 0), ARG(DECOUPLED, 0))},
    {"NAdam", "torch.optim.nadam.NAdam", .rule = SD_RULE_adam, .hyper = nadam, .carry = nadam_carry,
     ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ARG(MOMENTUM_DECAY, 4e-3),
          ARG(DECOUPLED, 0))},
    {"RAdam", "torch.optim.radam.RAdam", .rule = SD_RULE_adam, .hyper = radam,
     ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ARG(DECOUPLED, 0))},
    {"Adamax", "torch.optim.adamax.Adamax", .rule = SD_RULE_adamax, .hyper = adamax,
     ARGS(BETAS(0.9, 0.999), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0))},
    {"SGD", "torch.optim.sgd.SGD", .rule = SD_RULE_sgd, .hyper = sgd, SGD(0, ARG(NESTEROV, 0))},
    {"ASGD", "torch.optim.asgd.ASGD", .rule = SD_RULE_sgd, .hyper = asgd, .carry = asgd_carry,
     ARGS(ARG(LAMBD, 1e-4), ARG(ALPHA, 0.75), ARG(T0, 1e6), ARG(WEIGHT_DECAY, 0))},
    {"RMSprop", "torch.optim.rmsprop.RMSprop", .rule = SD_RULE_rmsprop, .choose = rmsprop_choose,
     .hyper = rmsprop,
     ARGS(ARG(ALPHA, 0.99), ARG(EPS, 1e-8), ARG(WEIGHT_DECAY, 0), ARG(MOMENTUM, 0), ARG(CENTERED, 0))},
    {"Adagrad", "torch.optim.adagrad.Adagrad", .rule = SD_RULE_rmsprop, .hyper = adagrad,
     .start = adagrad_start, ARGS(ARG(LR_DECAY, 0), ARG(WEIGHT_DECAY, 0), ARG(INITIAL, 0), ARG(EPS, 1e-10))},
    {"Adadelta", "torch.optim.adadelta.Adadelta", .rule = SD_RULE_adadelta, .hyper = adadelta,
     ARGS(ARG(RHO, 0.9), ARG(EPS, 1e-6), ARG(WEIGHT_DECAY, 0))},
    {"Rprop", "torch.optim.rprop.Rprop", .rule = SD_RULE_rprop, .hyper = rprop, .start = rprop_start,
     ARGS(ARG(ETA_MINUS, 0.5), ARG(ETA_PLUS, 1.2), ARG(STEP_LEAST, 1e-6), ARG(STEP_MOST, 50))},
};

const struct sd_optim_kind *sd_optim_kind(int i)
{
    return i >= 0 && i < (int)(sizeof kinds / sizeof *kinds) ? &kinds[i] : NULL;
}

enum sd_rule sd_optim_rule(const struct sd_optim_config *c)
{
    return c->kind->choose ? c->kind->choose(c->arg) : c->kind->rule;
}

int sd_optim_moments(const struct sd_optim_config *c)
{
    return c->kind->adapts ? sd_adapt_rules[c->kind->adapt_rule].moments : sd_rules[sd_optim_rule(c)].moments;
}
