#include "optim/adapt.h"

#include <math.h>
#include <stdlib.h>

/* Prodigy's third beta. */
static double prodigy_beta3(const double *a)
{
    return isnan(a[SD_OPTIM_PRODIGY_BETA3]) ? sqrt(a[SD_OPTIM_BETA2]) : a[SD_OPTIM_PRODIGY_BETA3];
}

/* A running mean of the sum. */
static void mean(struct sd_adaptation *how, double beta)
{
    how->keep = (float)beta;
    how->fresh = how->of_size = (float)(1 - beta);
}

void sd_optim_adaptation(const struct sd_optim_config *c, struct sd_adaptation *how)
{
    const double *a = c->arg;
    *how = (struct sd_adaptation){.keep = 1, .fresh = 1, .of_top = 1, .of_size = 1};
    how->d0 = (float)a[SD_OPTIM_D0];
    how->growth = a[SD_OPTIM_GROWTH_RATE];
    switch (c->kind->adapt_rule) {
    case SD_ADAPT_preprint:
    case SD_ADAPT_adan:
        mean(how, a[c->kind->adapt_rule == SD_ADAPT_adan ? SD_OPTIM_BETA3 : SD_OPTIM_BETA2]);
        how->of_top = -how->fresh;
        how->of_squares = 1;
        how->squared = true;
        break;
    case SD_ADAPT_adagrad:
        how->of_top = -1;
        how->of_squares = 1;
        how->squared = how->tracked = true;
        break;
    case SD_ADAPT_adam:
    case SD_ADAPT_lion:
        mean(how, sqrt(a[SD_OPTIM_BETA2]));
        break;
    case SD_ADAPT_adan_ip:
        mean(how, a[SD_OPTIM_BETA3]);
        how->of_top = 2 * how->keep;
        break;
    case SD_ADAPT_sgd:
        how->of_top = 2;
        how->rooted = true;
        break;
    case SD_ADAPT_prodigy:
        how->keep = (float)prodigy_beta3(a);
        how->fresh = (float)(1 / a[SD_OPTIM_D0]);
        how->of_top = (float)a[SD_OPTIM_D_COEF];
        how->prodigy = true;
        break;
    case SD_ADAPT_prodigy_move:
    case SD_ADAPT_RULES:
        break;
    }
}

static void put_betas(float *h, double beta1, double beta2, double beta3)
{
    h[SD_ADAPT_BETA1] = (float)beta1;
    h[SD_ADAPT_NEW1] = (float)(1 - beta1);
    h[SD_ADAPT_BETA2] = (float)beta2;
    h[SD_ADAPT_NEW2] = (float)(1 - beta2);
    h[SD_ADAPT_BETA3] = (float)beta3;
    h[SD_ADAPT_NEW3] = (float)(1 - beta3);
}

/* A row but for whether the parameter is live and new; k updates were done. */
static void put_row(const struct sd_optim_config *c, double lr, double k, float *h)
{
    const double *a = c->arg;
    double beta1 = a[SD_OPTIM_BETA1], beta2 = a[SD_OPTIM_BETA2], decay = a[SD_OPTIM_WEIGHT_DECAY];
    bool decoupled = a[SD_OPTIM_DECOUPLE] != 0, no_prox = a[SD_OPTIM_NO_PROX] != 0;
    double rate =
        a[SD_OPTIM_BIAS_CORRECTION] != 0 ? lr * sqrt(1 - pow(beta2, k + 1)) / (1 - pow(beta1, k + 1)) : lr;
    for (int i = 0; i < SD_ADAPT_HYPER; i++)
        h[i] = 0;
    h[SD_ADAPT_RATE] = (float)rate;
    h[SD_ADAPT_EPS] = (float)a[SD_OPTIM_EPS];
    h[SD_ADAPT_MAX_NORM] = (float)c->max_grad_norm;
    h[decoupled ? SD_ADAPT_LOSE : SD_ADAPT_DECAY] = (float)decay;
    switch (c->kind->adapt_rule) {
    case SD_ADAPT_preprint:
        put_betas(h, beta1, beta2, beta2);
        break;
    case SD_ADAPT_adam:
    case SD_ADAPT_lion:
        put_betas(h, beta1, beta2, sqrt(beta2));
        break;
    case SD_ADAPT_adagrad:
    case SD_ADAPT_sgd:
        put_betas(h, a[SD_OPTIM_MOMENTUM], 0, 0);
        break;
    case SD_ADAPT_adan:
    case SD_ADAPT_adan_ip:
        put_betas(h, beta1, beta2, a[SD_OPTIM_BETA3]);
        h[SD_ADAPT_DECAY] = 0;
        h[no_prox ? SD_ADAPT_LOSE : SD_ADAPT_PROX] = (float)decay;
        break;
    case SD_ADAPT_prodigy:
        put_betas(h, beta1, beta2, prodigy_beta3(a));
        h[SD_ADAPT_NEW3] = (float)((a[SD_OPTIM_SAFEGUARD] != 0 ? 1 : rate) / a[SD_OPTIM_D0]);
        break;
    case SD_ADAPT_prodigy_move:
    case SD_ADAPT_RULES:
        break;
    }
}

/* Those by AdaGrad and Adan take the first group's rate for all, the others want one rate. */
static bool takes_first(enum sd_adapt_rule rule)
{
    return rule == SD_ADAPT_adagrad || rule == SD_ADAPT_adan || rule == SD_ADAPT_adan_ip;
}

/* Whether an update at a rate of 0 leaves parameters and moments as they are. */
static bool rests(enum sd_adapt_rule rule)
{
    return !takes_first(rule) && rule != SD_ADAPT_lion;
}

int sd_optim_adapt_init(struct sd_optimizer *o, struct sd_err *err)
{
    const struct sd_optim_kind *kind = o->config.kind;
    for (int i = 1; i < o->n_groups && !takes_first(kind->adapt_rule); i++)
        if (o->groups[i].lr != o->groups[0].lr)
            return sd_err_set(err, SD_ERR_USAGE,
                              "%s learns at one rate: that of %s is %g, that of %s is %g (only 0 may differ)",
                              kind->name, o->groups[0].name, o->groups[0].lr, o->groups[i].name,
                              o->groups[i].lr);
    struct sd_optim_adapted *s = o->adapted = calloc(1, sizeof *s);
    if (!s)
        return sd_err_memory(err, sizeof *s);
    s->memory[SD_ADAPT_D] = s->memory[SD_ADAPT_BEFORE] = s->memory[SD_ADAPT_MOST] =
        (float)o->config.arg[SD_OPTIM_D0];
    s->state = (struct sd_var){.name = "step size",
                               .dtype = SD_F32,
                               .ndim = 1,
                               .dim = {SD_ADAPT_STATE},
                               .data = s->memory,
                               .state = s->memory};
    return 0;
}

/* A step of all parameters by a rule. */
static struct sd_tensor *add_step(struct sd_optimizer *o, enum sd_adapt_rule rule, struct sd_tensor *state)
{
    const struct sd_adapt_info *r = &sd_adapt_rules[rule];
    struct sd_graph *g = o->graph;
    struct sd_tensor **vars =
        sd_graph_alloc(g, (size_t)o->n_params * (size_t)(2 + r->moments) + 1, sizeof *vars);
    for (int i = 0, at = 0; i < o->n_params && vars; i++) {
        struct sd_optim_param *p = &o->params[i];
        vars[at++] = sd_graph_var(g, p->var, SD_F32);
        if (r->sums)
            vars[at++] = sd_graph_var(g, &p->grad, SD_F32);
        for (int j = 0; j < r->moments; j++)
            vars[at++] = sd_graph_var(g, &p->moment[j], SD_F32);
    }
    return vars ? sd_graph_adapt_step(g, rule, o->n_params, vars, o->clip, o->hyper[0], state) : NULL;
}

void sd_optim_adapt_build(struct sd_optimizer *o)
{
    struct sd_graph *g = o->graph;
    enum sd_adapt_rule rule = o->config.kind->adapt_rule;
    struct sd_adaptation how;
    if (!o->n_params)
        return;
    sd_optim_adaptation(&o->config, &how);
    struct sd_tensor *state = sd_graph_var(g, &o->adapted->state, SD_F32);
    o->hyper[0] = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){o->n_params, SD_ADAPT_HYPER});
    struct sd_tensor *sums = add_step(o, rule, state);
    o->adapted->d = sd_graph_adapt(g, state, sums, o->clip, o->hyper[0], &how);
    sd_graph_output(g, o->adapted->d);
    if (rule == SD_ADAPT_prodigy)
        add_step(o, SD_ADAPT_prodigy_move, state);
}

/* Whether the next update does something to a parameter, at o->adapted's rate. */
static bool is_live(const struct sd_optimizer *o, const struct sd_optim_param *p)
{
    return !p->idle && (o->adapted->rate > 0 || !rests(o->config.kind->adapt_rule));
}

void sd_optim_adapt_prepare(struct sd_optimizer *o, double factor)
{
    float *h = o->n_params ? sd_plan_data(o->plan, o->hyper[0]) : NULL;
    o->adapted->rate = o->n_groups ? o->groups[0].lr * factor : 0;
    for (int i = 0; i < o->n_params; i++, h += SD_ADAPT_HYPER) {
        struct sd_optim_param *p = &o->params[i];
        p->lr = o->groups[p->group].lr * factor;
        put_row(&o->config, o->adapted->rate, (double)o->adapted->updates, h);
        h[SD_ADAPT_LIVE] = is_live(o, p);
        h[SD_ADAPT_FIRST] = p->updates == 0;
    }
}

/* An update at a rate of 0 before any other moves nothing. Adan does not remember its gradients, and it is no
 * update to count where biases are corrected. */
void sd_optim_adapt_finish(struct sd_optimizer *o, struct sd_optim_update *did)
{
    struct sd_optim_adapted *s = o->adapted;
    enum sd_adapt_rule rule = o->config.kind->adapt_rule;
    bool first_counts = rule != SD_ADAPT_adan && rule != SD_ADAPT_adan_ip, any = false;
    for (int i = 0; i < o->n_params && !did->skipped; i++) {
        struct sd_optim_param *p = &o->params[i];
        bool counts = is_live(o, p) && (s->rate > 0 || first_counts || p->updates);
        p->updates += counts;
        any |= counts;
    }
    s->updates += any;
    did->d = s->d ? *(const float *)sd_plan_data(o->plan, s->d) : s->memory[SD_ADAPT_D];
}
