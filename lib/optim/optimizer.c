#include "optim/optimizer.h"

#include "tensor/frozen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct sd_var state_var(const struct sd_var *like, const char *name, float *memory)
{
    struct sd_var v = *like;
    v.name = name;
    v.data = v.state = memory;
    v.trainable = v.mapped = false;
    return v;
}

static int copy_params(struct sd_optimizer *o, struct sd_var *const *vars, const int *group_of, int n,
                       struct sd_err *err)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += (size_t)sd_var_count(vars[i]);
    o->params = calloc((size_t)n + 1, sizeof *o->params);
    o->memory = calloc(3 * total + 1, sizeof *o->memory);
    if (!o->params || !o->memory)
        return sd_err_memory(err, 3 * total * sizeof *o->memory);
    float *at = o->memory;
    for (int i = 0; i < n; i++) {
        struct sd_optim_param *p = &o->params[i];
        size_t count = (size_t)sd_var_count(vars[i]);
        if (!vars[i]->trainable || vars[i]->dtype != SD_F32)
            return sd_err_set(err, SD_ERR_DATA, "%s is not trained in f32", vars[i]->name);
        *p = (struct sd_optim_param){.var = vars[i], .group = group_of[i]};
        p->grad = state_var(vars[i], "grad", at);
        p->m = state_var(vars[i], "m", at + count);
        p->v = state_var(vars[i], "v", at + 2 * count);
        at += 3 * count;
    }
    o->n_params = n;
    return 0;
}

static int make_scale(struct sd_optimizer *o, struct sd_err *err)
{
    static const struct sd_var one = {.dtype = SD_F32, .ndim = 1, .dim = {1}};
    if (o->config.scaling.initial == 0)
        return 0;
    struct sd_optim_scale *s = o->scale = calloc(1, sizeof *s);
    if (!s)
        return sd_err_memory(err, sizeof *s);
    s->memory[0] = o->config.scaling.initial;
    s->scale = state_var(&one, "loss scale", &s->memory[0]);
    s->streak = state_var(&one, "updates without overflow", &s->memory[1]);
    return 0;
}

static int build(struct sd_optimizer *o, struct sd_backend *backend, struct sd_err *err)
{
    struct sd_graph *g = o->graph = sd_graph_new();
    if (!g)
        return sd_err_memory(err, sizeof *g);
    size_t n = (size_t)o->n_params;
    struct sd_tensor **grads = sd_graph_alloc(g, n, sizeof *grads);
    struct sd_adamw_tensors *t = sd_graph_alloc(g, n, sizeof *t);
    for (int i = 0; i < o->n_params && grads && t; i++) {
        struct sd_optim_param *p = &o->params[i];
        t[i] = (struct sd_adamw_tensors){sd_graph_var(g, p->var, SD_F32), sd_graph_var(g, &p->grad, SD_F32),
                                         sd_graph_var(g, &p->m, SD_F32), sd_graph_var(g, &p->v, SD_F32)};
        grads[i] = t[i].grad;
    }
    if (o->n_params) /* a row of numbers a parameter: groups differ in rate, and parameters may be idle */
        o->hyper = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){o->n_params, SD_ADAMW_HYPER});
    struct sd_tensor *scale = o->scale ? sd_graph_var(g, &o->scale->scale, SD_F32) : NULL;
    o->clip = sd_graph_clip(g, grads, o->n_params, (float)o->config.max_grad_norm, scale);
    sd_graph_output(g, o->clip);
    sd_graph_adamw(g, o->n_params, t, o->clip, o->hyper);
    if (o->scale)
        sd_graph_loss_scale(g, scale, sd_graph_var(g, &o->scale->streak, SD_F32), o->clip,
                            &o->config.scaling);
    return (o->plan = sd_plan_new(g, backend, err)) ? 0 : -1;
}

int sd_optimizer_init(struct sd_optimizer *o, const struct sd_adamw *config,
                      const struct sd_optim_group *groups, int n_groups, struct sd_var *const *vars,
                      const int *group_of, int n, struct sd_backend *backend, struct sd_err *err)
{
    *o = (struct sd_optimizer){.config = *config, .n_groups = n_groups, .backend = backend};
    o->groups = malloc(((size_t)n_groups + 1) * sizeof *o->groups);
    if (!o->groups)
        return sd_err_memory(err, (size_t)n_groups * sizeof *o->groups);
    memcpy(o->groups, groups, (size_t)n_groups * sizeof *groups);
    if (copy_params(o, vars, group_of, n, err) || make_scale(o, err) || build(o, backend, err)) {
        sd_optimizer_free(o);
        return -1;
    }
    return 0;
}

void sd_optimizer_free(struct sd_optimizer *o)
{
    sd_plan_free(o->plan);
    sd_graph_free(o->graph);
    free(o->groups);
    free(o->params);
    free(o->scale);
    free(o->memory);
    *o = (struct sd_optimizer){0};
}

struct sd_var *sd_optimizer_grad(struct sd_optimizer *o, const struct sd_var *var)
{
    for (int i = 0; i < o->n_params; i++)
        if (o->params[i].var == var)
            return &o->params[i].grad;
    return NULL;
}

/* The numbers of update number t at a rate; t 0: of none. */
static void fill_hyper(const struct sd_adamw *c, double lr, double t, float *h)
{
    bool idle = t == 0;
    h[SD_ADAMW_KEEP] = idle ? 1 : (float)(1 - lr * c->weight_decay);
    h[SD_ADAMW_BETA1] = idle ? 1 : (float)c->beta1;
    h[SD_ADAMW_NEW1] = idle ? 0 : (float)(1 - c->beta1);
    h[SD_ADAMW_BETA2] = idle ? 1 : (float)c->beta2;
    h[SD_ADAMW_NEW2] = idle ? 0 : (float)(1 - c->beta2);
    h[SD_ADAMW_EPS] = (float)c->eps;
    h[SD_ADAMW_RATE] = idle ? 0 : (float)(lr / (1 - pow(c->beta1, t)));
    h[SD_ADAMW_ROOT] = idle ? 1 : (float)(1 / sqrt(1 - pow(c->beta2, t)));
}

void sd_optimizer_prepare(struct sd_optimizer *o, double factor)
{
    const struct sd_adamw *c = &o->config;
    float *hyper = o->n_params ? sd_plan_data(o->plan, o->hyper) : NULL;
    for (int i = 0; i < o->n_params; i++) {
        struct sd_optim_param *p = &o->params[i];
        fill_hyper(c, o->groups[p->group].lr * factor, p->idle ? 0 : (double)(p->updates + 1),
                   hyper + (size_t)i * SD_ADAMW_HYPER);
    }
}

int sd_optimizer_finish(struct sd_optimizer *o, struct sd_optim_update *did, struct sd_err *err)
{
    const float *clip = sd_plan_data(o->plan, o->clip);
    *did = (struct sd_optim_update){clip[SD_CLIP_NORM], clip[SD_CLIP_SKIP] != 0, 1};
    for (int i = 0; i < o->n_params; i++)
        o->params[i].updates += !o->params[i].idle && !did->skipped;
    o->updates += !did->skipped;
    if (!o->scale)
        return 0;
    if (sd_var_pull(o->backend, &(struct sd_var *){&o->scale->scale}, 1, err))
        return -1;
    did->scale = o->scale->memory[0];
    return 0;
}

int sd_optimizer_update(struct sd_optimizer *o, double factor, struct sd_optim_update *did,
                        struct sd_err *err)
{
    sd_optimizer_prepare(o, factor);
    return sd_plan_run(o->plan, err) || sd_optimizer_finish(o, did, err) ? -1 : 0;
}

int sd_optimizer_pull(struct sd_optimizer *o, struct sd_err *err)
{
    struct sd_var *vars[256];
    for (int i = 0, n = 0; i < o->n_params; i++) {
        vars[n++] = o->params[i].var;
        if (n < 256 && i + 1 < o->n_params)
            continue;
        if (sd_var_pull(o->backend, vars, n, err))
            return -1;
        n = 0;
    }
    return 0;
}

int sd_optimizer_push(struct sd_optimizer *o, struct sd_err *err)
{
    for (int i = 0; i < o->n_params; i++)
        if (sd_var_push(o->backend, o->params[i].var, err))
            return -1;
    return 0;
}
