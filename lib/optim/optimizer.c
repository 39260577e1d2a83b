#include "optim/optimizer.h"

#include "optim/adapt.h"
#include "tensor/adafactor.h"
#include "tensor/frozen.h"
#include "tensor/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct sd_var state_var(const char *name, enum sd_dtype dtype, const struct sd_var *like, void *memory)
{
    struct sd_var v = *like;
    v.name = name;
    v.dtype = dtype;
    v.data = v.state = memory;
    v.trainable = v.mapped = false;
    return v;
}

/* Where the next of so many bytes lie in a block of memory that begins at base; NULL while its size is being
 * found. */
static void *carve(char *base, size_t *used, size_t bytes)
{
    void *at = base ? base + *used : NULL;
    *used += (bytes + 63) & ~(size_t)63;
    return at;
}

/* AdaFactor's moment: of the parameter's shape, or without one of its dimensions. */
static struct sd_var factor_var(const struct sd_var *param, int without, char *base, size_t *used)
{
    struct sd_var like = {0};
    for (int i = 0; i < param->ndim; i++)
        if (i != without)
            like.dim[like.ndim++] = param->dim[i];
    return state_var("moment", SD_F32, &like, carve(base, used, (size_t)sd_var_count(&like) * sizeof(float)));
}

/* The moments of sd_adafactor_tensors: rows, columns, m. */
static void lay_out_factors(struct sd_optimizer *o, struct sd_optim_param *p, char *base, size_t *used)
{
    int n = p->var->ndim;
    const int64_t *last = p->var->dim + n - 1;
    /* A matrix of one element is the mean of its row and of its column. */
    bool factored = n > 1 && !p->var->pointwise && !(last[0] == 1 && last[-1] == 1);
    p->moment[0] = factor_var(p->var, factored ? n - 1 : -1, base, used);
    if (factored)
        p->moment[1] = factor_var(p->var, n - 2, base, used);
    if (!isnan(o->config.arg[SD_OPTIM_FIRST]))
        p->moment[2] = factor_var(p->var, -1, base, used);
}

/* Gives a parameter its gradient and moments. */
static void lay_out(struct sd_optimizer *o, struct sd_optim_param *p, char *base, size_t *used)
{
    static const struct sd_var row = {.ndim = 1};
    int64_t n = sd_var_count(p->var), blocks = (n + SD_QUANT_BLOCK - 1) / SD_QUANT_BLOCK;
    int moments = sd_optim_moments(&o->config);
    p->codes = o->config.kind->codes && n >= SD_OPTIM_CODES_FROM;
    p->grad = state_var("grad", SD_F32, p->var, carve(base, used, (size_t)n * sizeof(float)));
    if (o->config.kind->factored) {
        lay_out_factors(o, p, base, used);
        return;
    }
    for (int j = 0; j < moments && !p->codes; j++)
        p->moment[j] = state_var("moment", SD_F32, p->var, carve(base, used, (size_t)n * sizeof(float)));
    for (int j = 0; j < moments && p->codes; j++) {
        p->moment[j] = state_var("moment", SD_U8, p->var, carve(base, used, (size_t)n));
        p->max[j] = state_var("magnitudes", SD_F32, &row, carve(base, used, (size_t)blocks * sizeof(float)));
        p->max[j].dim[0] = blocks;
    }
}

/* Moments that do not start at zero. */
static void start_moments(struct sd_optimizer *o, struct sd_optim_param *p)
{
    const struct sd_optim_config *c = &o->config;
    for (int j = 0; c->kind->start && j < sd_optim_moments(c); j++) {
        float *m = p->moment[j].state, v = (float)c->kind->start(c->arg, j, o->groups[p->group].lr);
        for (int64_t i = 0; i < sd_var_count(p->var); i++)
            m[i] = v;
    }
}

static int copy_params(struct sd_optimizer *o, struct sd_var *const *vars, const int *group_of, int n,
                       struct sd_err *err)
{
    size_t total = 0, used = 0;
    o->params = calloc((size_t)n + 1, sizeof *o->params);
    if (!o->params)
        return sd_err_memory(err, (size_t)n * sizeof *o->params);
    for (int i = 0; i < n; i++) {
        if (!vars[i]->trainable || vars[i]->dtype != SD_F32)
            return sd_err_set(err, SD_ERR_DATA, "%s is not trained in f32", vars[i]->name);
        o->params[i] = (struct sd_optim_param){.var = vars[i], .group = group_of[i], .carry = 1};
        lay_out(o, &o->params[i], NULL, &total);
    }
    if (!(o->memory = calloc(total + 1, 1)))
        return sd_err_memory(err, total);
    for (int i = 0; i < n; i++) {
        lay_out(o, &o->params[i], o->memory, &used);
        start_moments(o, &o->params[i]);
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
    s->scale = state_var("loss scale", SD_F32, &one, &s->memory[0]);
    s->streak = state_var("updates without overflow", SD_F32, &one, &s->memory[1]);
    return 0;
}

/* The maps of codes: moments have signs, squares have none. */
static struct sd_tensor *make_maps(struct sd_optimizer *o)
{
    int moments = sd_optim_moments(&o->config);
    for (int j = 0; j < moments; j++)
        sd_dynamic_map(j == 0, o->maps[j]);
    o->maps_var = (struct sd_var){
        .name = "maps", .dtype = SD_F32, .ndim = 2, .dim = {moments, SD_QUANT_CODES}, .data = o->maps};
    return sd_graph_var(o->graph, &o->maps_var, SD_F32);
}

/* The step of all parameters whose moments are codes, or of all the others. */
static void add_step(struct sd_optimizer *o, bool codes)
{
    struct sd_graph *g = o->graph;
    enum sd_rule rule = sd_optim_rule(&o->config);
    int moments = sd_rules[rule].moments, n = 0, at = 0;
    struct sd_tensor **vars =
        sd_graph_alloc(g, (size_t)o->n_params * (2 + 2 * SD_STEP_MOMENTS) + 1, sizeof *vars);
    for (int i = 0; i < o->n_params && vars; i++) {
        struct sd_optim_param *p = &o->params[i];
        if (p->codes != codes)
            continue;
        n++;
        vars[at++] = sd_graph_var(g, p->var, SD_F32);
        vars[at++] = sd_graph_var(g, &p->grad, SD_F32);
        for (int j = 0; j < moments; j++)
            vars[at++] = sd_graph_var(g, &p->moment[j], p->moment[j].dtype);
        for (int j = 0; j < moments && codes; j++)
            vars[at++] = sd_graph_var(g, &p->max[j], SD_F32);
    }
    if (!n)
        return;
    /* a row of numbers a parameter: groups differ in rate, and parameters may be idle */
    o->hyper[codes] = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){n, SD_STEP_HYPER});
    sd_graph_step(g, rule, n, vars, o->clip, o->hyper[codes], codes ? make_maps(o) : NULL);
}

static struct sd_tensor *moment_tensor(struct sd_optimizer *o, struct sd_optim_param *p, int j)
{
    return p->moment[j].state ? sd_graph_var(o->graph, &p->moment[j], SD_F32) : NULL;
}

static void add_adafactor(struct sd_optimizer *o)
{
    struct sd_graph *g = o->graph;
    struct sd_adafactor_tensors *t = sd_graph_alloc(g, (size_t)o->n_params + 1, sizeof *t);
    for (int i = 0; i < o->n_params && t; i++) {
        struct sd_optim_param *p = &o->params[i];
        t[i] = (struct sd_adafactor_tensors){
            .param = sd_graph_var(g, p->var, SD_F32),
            .grad = sd_graph_var(g, &p->grad, SD_F32),
            .rows = moment_tensor(o, p, 0),
            .columns = moment_tensor(o, p, 1),
            .m = moment_tensor(o, p, 2),
        };
    }
    if (!o->n_params)
        return;
    o->hyper[0] = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){o->n_params, SD_STEP_HYPER});
    o->rms = sd_graph_adafactor(g, o->n_params, t, o->clip, o->hyper[0]);
    if (o->rms)
        sd_graph_output(g, o->rms);
}

static int build(struct sd_optimizer *o, struct sd_backend *backend, struct sd_err *err)
{
    struct sd_graph *g = o->graph = sd_graph_new();
    if (!g)
        return sd_err_memory(err, sizeof *g);
    struct sd_tensor **grads = sd_graph_alloc(g, (size_t)o->n_params + 1, sizeof *grads);
    for (int i = 0; i < o->n_params && grads; i++)
        grads[i] = sd_graph_var(g, &o->params[i].grad, SD_F32);
    struct sd_tensor *scale = o->scale ? sd_graph_var(g, &o->scale->scale, SD_F32) : NULL;
    o->clip = sd_graph_clip(g, grads, o->n_params, (float)o->config.max_grad_norm, scale);
    sd_graph_output(g, o->clip);
    if (o->config.kind->factored) {
        add_adafactor(o);
    } else if (o->adapted) {
        sd_optim_adapt_build(o);
    } else {
        add_step(o, false);
        add_step(o, true);
    }
    if (o->scale)
        sd_graph_loss_scale(g, scale, sd_graph_var(g, &o->scale->streak, SD_F32), o->clip,
                            &o->config.scaling);
    return (o->plan = sd_plan_new(g, backend, err)) ? 0 : -1;
}

int sd_optimizer_init(struct sd_optimizer *o, const struct sd_optim_config *config,
                      const struct sd_optim_group *groups, int n_groups, struct sd_var *const *vars,
                      const int *group_of, int n, struct sd_backend *backend, struct sd_err *err)
{
    *o = (struct sd_optimizer){.config = *config, .n_groups = n_groups, .backend = backend};
    o->groups = malloc(((size_t)n_groups + 1) * sizeof *o->groups);
    if (!o->groups)
        return sd_err_memory(err, (size_t)n_groups * sizeof *o->groups);
    memcpy(o->groups, groups, (size_t)n_groups * sizeof *groups);
    for (int i = 0; i < n_groups; i++)
        o->groups[i].last = groups[i].lr;
    if (copy_params(o, vars, group_of, n, err) || make_scale(o, err) ||
        (config->kind->adapts && sd_optim_adapt_init(o, err)) ||
        !(o->block = sd_block_new(backend, vars, n, err)) || build(o, backend, err)) {
        sd_optimizer_free(o);
        return -1;
    }
    return 0;
}

void sd_optimizer_free(struct sd_optimizer *o)
{
    sd_plan_free(o->plan);
    sd_graph_free(o->graph);
    sd_block_free(o->block);
    free(o->groups);
    free(o->params);
    free(o->scale);
    free(o->adapted);
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

void sd_optimizer_prepare(struct sd_optimizer *o, double factor)
{
    const struct sd_optim_config *c = &o->config;
    float *row[2];
    if (o->adapted) {
        sd_optim_adapt_prepare(o, factor);
        return;
    }
    for (int codes = 0; codes < 2; codes++)
        row[codes] = o->hyper[codes] ? sd_plan_data(o->plan, o->hyper[codes]) : NULL;
    for (int i = 0; i < o->n_params; i++) {
        struct sd_optim_param *p = &o->params[i];
        float *h = row[p->codes];
        p->lr = o->groups[p->group].lr * factor;
        c->kind->hyper(c->arg, p->lr, (double)(p->updates + 1), p->carry, h);
        h[SD_STEP_LIVE] = !p->idle;
        row[p->codes] += SD_STEP_HYPER;
    }
}

/* The rate of a group's first parameter in the update that was done, which is what sd-scripts logs. */
static double rate_of(struct sd_optimizer *o, int param)
{
    if (!sd_optim_relative(&o->config))
        return o->params[param].lr;
    const float *rms = sd_plan_data(o->plan, o->rms),
                *h = (const float *)sd_plan_data(o->plan, o->hyper[0]) + (size_t)param * SD_STEP_HYPER;
    double size = fmax((double)h[SD_ADAFACTOR_LEAST], (double)rms[param]);
    return (double)h[SD_ADAFACTOR_RATE] * (h[SD_ADAFACTOR_SCALED] != 0 ? size : 1);
}

static void note_rates(struct sd_optimizer *o, bool skipped)
{
    for (int k = 0; k < o->n_groups; k++) {
        int i = 0;
        while (i < o->n_params && o->params[i].group != k)
            i++;
        bool stays = i < o->n_params && (skipped || o->params[i].idle) && sd_optim_relative(&o->config);
        if (i < o->n_params && !stays)
            o->groups[k].last = rate_of(o, i);
    }
}

/* One more update of a parameter is done. */
static void count(struct sd_optimizer *o, struct sd_optim_param *p)
{
    const struct sd_optim_config *c = &o->config;
    p->updates++;
    if (c->kind->carry)
        p->carry = c->kind->carry(c->arg, p->lr, (double)p->updates, p->carry);
}

int sd_optimizer_finish(struct sd_optimizer *o, struct sd_optim_update *did, struct sd_err *err)
{
    const float *clip = sd_plan_data(o->plan, o->clip);
    *did = (struct sd_optim_update){clip[SD_CLIP_NORM], clip[SD_CLIP_SKIP] != 0, 1, 1};
    if (o->adapted)
        sd_optim_adapt_finish(o, did);
    for (int i = 0; i < o->n_params && !o->adapted; i++)
        if (!o->params[i].idle && !did->skipped)
            count(o, &o->params[i]);
    o->updates += !did->skipped;
    note_rates(o, did->skipped);
    if (!o->scale)
        return 0;
    if (sd_var_pull(o->backend, &o->scale->scale, err))
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
