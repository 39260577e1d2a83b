#include "train/trainer.h"

#include "diffusion/schedule.h"
#include "model/text_context.h"
#include "model/unet.h"
#include "tensor/pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The compiled step of one batch shape. */
struct step {
    struct step *next;
    int64_t n, h, w;
    struct sd_graph *graph;
    struct sd_plan *plan;
    struct sd_tensor *latents, *timesteps, *ids, *weight, *delta, *loss;
    struct sd_train_noise noise;
};

struct sd_trainer {
    struct sd_model_config config;
    struct sd_trainer_options options;
    struct sd_weights *weights;
    sd_nn_adapt *adapt;
    void *adapt_ctx;
    struct sd_optimizer *optimizer;
    struct sd_backend *backend;
    float noisy[SD_TIMESTEPS][2], velocity[SD_TIMESTEPS][2];
    float weight[SD_TIMESTEPS], delta[SD_TIMESTEPS];
    struct sd_var noisy_var, velocity_var;
    struct sd_workspace workspace;
    struct step *steps, *started;
    bool profile;
};

static struct sd_var table_var(const char *name, const void *data)
{
    return (struct sd_var){.name = name, .dtype = SD_F32, .ndim = 2, .dim = {SD_TIMESTEPS, 2}, .data = data};
}

static void make_tables(struct sd_trainer *t)
{
    const struct sd_trainer_options *o = &t->options;
    struct sd_schedule s;
    if (o->zero_terminal)
        sd_schedule_init_zero_terminal(&s);
    else
        sd_schedule_init(&s);
    sd_schedule_noisy(&s, t->noisy);
    sd_schedule_velocity(&s, t->velocity);
    sd_huber_table(&o->huber, &s, t->delta);
    sd_weighting_table(&o->weighting, o->v_prediction, t->weight);
    t->noisy_var = table_var("sqrt(alpha_bar)", t->noisy);
    t->velocity_var = table_var("velocity", t->velocity);
}

struct sd_trainer *sd_trainer_new(const struct sd_model_config *config,
                                  const struct sd_trainer_options *options, struct sd_weights *weights,
                                  sd_nn_adapt *adapt, void *adapt_ctx, struct sd_optimizer *optimizer,
                                  struct sd_backend *backend, struct sd_err *err)
{
    struct sd_trainer *t = calloc(1, sizeof *t);
    if (!t) {
        sd_err_memory(err, sizeof *t);
        return NULL;
    }
    t->config = *config;
    t->options = *options;
    t->weights = weights;
    t->adapt = adapt;
    t->adapt_ctx = adapt_ctx;
    t->optimizer = optimizer;
    t->backend = backend;
    make_tables(t);
    return t;
}

static void step_free(struct step *s)
{
    sd_plan_free(s->plan);
    sd_graph_free(s->graph);
    free(s);
}

void sd_trainer_free(struct sd_trainer *t)
{
    if (!t)
        return;
    for (struct step *s = t->steps, *next; s; s = next) {
        next = s->next;
        step_free(s);
    }
    sd_workspace_free(&t->workspace);
    free(t);
}

struct sd_workspace *sd_trainer_workspace(struct sd_trainer *t)
{
    return &t->workspace;
}

static bool bends(enum sd_loss loss)
{
    return loss == SD_LOSS_SMOOTH_L1 || loss == SD_LOSS_HUBER;
}

/* The loss of a batch, from its latents to one number. */
static struct sd_tensor *build_loss(struct sd_trainer *t, struct sd_nn *b, struct step *s)
{
    struct sd_graph *g = b->g;
    int chunks = t->options.text_chunks;
    int64_t latent[] = {s->n, s->h, s->w, t->config.unet.in_channels};
    s->latents = sd_graph_input(g, "latents", SD_F32, 4, latent);
    s->timesteps = sd_graph_input(g, "timesteps", SD_F32, 1, &s->n);
    s->ids = sd_graph_input(g, "ids", SD_I32, 2, (int64_t[]){s->n * chunks, t->config.text.positions});
    s->weight = sd_graph_input(g, "weight", SD_F32, 1, &s->n);
    s->delta = bends(t->options.loss) ? sd_graph_input(g, "delta", SD_F32, 1, &s->n) : NULL;

    struct sd_tensor *context = sd_text_context(b, &t->config.text, s->ids, chunks, t->options.clip_skip);
    struct sd_tensor *x = sd_graph_scale(g, s->latents, t->config.vae.scale);
    sd_train_noise_build(&s->noise, g, &t->options.noise, t->backend->threads, x);
    struct sd_tensor *noisy =
        sd_graph_mix(g, x, s->noise.mixed, s->timesteps, sd_graph_var(g, &t->noisy_var, SD_F32));
    struct sd_tensor *target = s->noise.target;
    if (t->options.v_prediction) /* -sqrt(1 - alpha_bar) x + sqrt(alpha_bar) noise */
        target = sd_graph_mix(g, x, target, s->timesteps, sd_graph_var(g, &t->velocity_var, SD_F32));
    struct sd_tensor *pred = sd_unet(b, &t->config.unet, noisy, s->timesteps, context);
    return sd_graph_loss(g, t->options.loss, pred, target, s->weight, s->delta);
}

/* What the loss's gradient starts from. The scale is read where the graph runs: it changes with no one's
 * help. */
static struct sd_tensor *seed_of(struct sd_trainer *t, struct sd_graph *g)
{
    float share = 1.0f / (float)t->options.accumulation;
    struct sd_optim_scale *s = t->optimizer->scale;
    if (!s)
        return sd_graph_fill(g, SD_F32, 1, (int64_t[]){1}, share);
    return sd_graph_scale(g, sd_graph_var(g, &s->scale, SD_F32), share);
}

static int add_backward(struct sd_trainer *t, struct step *s)
{
    struct sd_graph *g = s->graph;
    size_t n_params = (size_t)t->optimizer->n_params;
    struct sd_tensor **grads, **sum = sd_graph_alloc(g, n_params, sizeof *sum);
    struct sd_tensor **grad = sd_graph_alloc(g, n_params, sizeof *grad);
    int n = 0;
    if (sd_graph_grad(g, s->loss, seed_of(t, g), &grads))
        return -1;
    for (int i = 0; i < t->optimizer->n_params; i++) {
        struct sd_optim_param *p = &t->optimizer->params[i];
        struct sd_tensor *value = sd_graph_var(g, p->var, SD_F32);
        /* The model never reads it: a layer the walk did not visit. grads only covers what existed before. */
        if (!value || value->id > s->loss->id || !grads[value->id])
            continue;
        sum[n] = sd_graph_var(g, &p->grad, SD_F32);
        grad[n++] = grads[value->id];
    }
    sd_graph_accumulate(g, n, sum, grad);
    /* Fused first, so that what is recomputed is what was computed: a fused sum may round otherwise. */
    return sd_graph_fuse(g) || (t->options.checkpointing && sd_graph_checkpoint(g)) || sd_graph_prune(g) ? -1
                                                                                                         : 0;
}

/* A step without its plan. */
static struct step *step_graph(struct sd_trainer *t, int64_t n, int64_t h, int64_t w, struct sd_err *err)
{
    struct step *s = calloc(1, sizeof *s);
    struct sd_nn b;
    if (!s || !(s->graph = sd_graph_new())) {
        free(s);
        sd_err_memory(err, sizeof *s);
        return NULL;
    }
    s->n = n;
    s->h = h;
    s->w = w;
    sd_nn_init(&b, s->graph, t->options.dtype, sd_weights_param, t->weights);
    b.adapt = t->adapt;
    b.adapt_ctx = t->adapt_ctx;
    s->loss = build_loss(t, &b, s);
    sd_nn_free(&b);
    sd_graph_output(s->graph, s->loss);
    if (!sd_graph_error(s->graph, err) && !sd_weights_check(t->weights, "the model", err) &&
        !add_backward(t, s))
        return s;
    sd_graph_error(s->graph, err);
    step_free(s);
    return NULL;
}

/* MiB of activations of a step of n samples; 0 when that cannot be told. */
static size_t activations(struct sd_trainer *t, int64_t n, int64_t h, int64_t w, bool checkpointing)
{
    bool before = t->options.checkpointing;
    size_t bytes = 0;
    t->options.checkpointing = checkpointing;
    struct step *s = step_graph(t, n, h, w, NULL);
    t->options.checkpointing = before;
    if (s && sd_plan_arena_bytes(s->graph, &bytes, NULL))
        bytes = 0;
    if (s)
        step_free(s);
    return bytes >> 20;
}

/* Adds to the message of a plan that got no memory what would take less. */
static void tell_what_is_less(struct sd_trainer *t, const struct step *s, struct sd_err *err)
{
    char less[160] = "";
    int at = 0;
    if (!t->options.checkpointing)
        at = snprintf(less, sizeof less, "; with checkpointing it would be %zu MiB of activations",
                      activations(t, s->n, s->h, s->w, true));
    if (s->n > 1)
        snprintf(less + at, sizeof less - (size_t)at, "; with a batch of 1 and checkpointing %zu MiB",
                 activations(t, 1, s->h, s->w, true));
    snprintf(err->msg + strlen(err->msg), sizeof err->msg - strlen(err->msg), "%s", less);
}

static struct step *step_new(struct sd_trainer *t, int64_t n, int64_t h, int64_t w, struct sd_err *err)
{
    struct step *s = step_graph(t, n, h, w, err);
    if (!s)
        return NULL;
    if (!(s->plan = sd_plan_new_in(s->graph, t->backend, &t->workspace, err))) {
        if (err && sd_workspace_lost(&t->workspace))
            tell_what_is_less(t, s, err);
        step_free(s);
        return NULL;
    }
    sd_plan_profile(s->plan, t->profile);
    s->next = t->steps;
    t->steps = s;
    return s;
}

static struct step *step_of(struct sd_trainer *t, int64_t n, int64_t h, int64_t w, struct sd_err *err)
{
    struct step *s = t->steps;
    while (s && (s->n != n || s->h != h || s->w != w))
        s = s->next;
    return s ? s : step_new(t, n, h, w, err);
}

int sd_trainer_step(struct sd_trainer *t, int64_t n, int64_t h, int64_t w, const struct sd_graph **graph,
                    struct sd_plan **plan, struct sd_err *err)
{
    struct step *s = step_of(t, n, h, w, err);
    if (!s)
        return -1;
    *graph = s->graph;
    *plan = s->plan;
    return 0;
}

int sd_trainer_start(struct sd_trainer *t, const struct sd_train_batch *b, bool update, struct sd_err *err)
{
    struct step *s = step_of(t, b->n, b->h, b->w, err);
    if (!s)
        return -1;
    int64_t c = t->config.unet.in_channels;
    sd_train_to_nhwc(sd_plan_data(s->plan, s->latents), b->latents, b->n, c, b->h * b->w);
    sd_train_noise_feed(&s->noise, s->plan, &t->options.noise, &b->noise);
    memcpy(sd_plan_data(s->plan, s->ids), b->ids, sd_tensor_bytes(s->ids));
    float *timesteps = sd_plan_data(s->plan, s->timesteps), *weight = sd_plan_data(s->plan, s->weight);
    float *delta = s->delta ? sd_plan_data(s->plan, s->delta) : NULL;
    for (int64_t i = 0; i < b->n; i++) {
        timesteps[i] = (float)b->timesteps[i];
        weight[i] = (b->weight ? b->weight[i] : 1) * t->weight[b->timesteps[i]];
        if (delta)
            delta[i] = t->delta[b->timesteps[i]];
    }
    t->started = s;
    return update ? sd_plan_start_with(s->plan, t->optimizer->plan, err) : sd_plan_start(s->plan, err);
}

int sd_trainer_finish(struct sd_trainer *t, float *loss, struct sd_err *err)
{
    if (sd_plan_wait(t->started->plan, err))
        return -1;
    *loss = *(const float *)sd_plan_data(t->started->plan, t->started->loss);
    return 0;
}

int sd_trainer_batch(struct sd_trainer *t, const struct sd_train_batch *b, bool update, float *loss,
                     struct sd_err *err)
{
    return sd_trainer_start(t, b, update, err) || sd_trainer_finish(t, loss, err) ? -1 : 0;
}

struct sd_plan_memory sd_trainer_memory(const struct sd_trainer *t)
{
    struct sd_plan_memory most = {0};
    for (const struct step *s = t->steps; s; s = s->next) {
        struct sd_plan_memory m = sd_plan_memory(s->plan);
        if (m.arena + m.scratch > most.arena + most.scratch)
            most = m;
    }
    return most;
}

void sd_trainer_profile(struct sd_trainer *t, bool on)
{
    t->profile = on;
    for (struct step *s = t->steps; s; s = s->next)
        sd_plan_profile(s->plan, on);
}

double sd_trainer_seconds(const struct sd_trainer *t, enum sd_op op)
{
    double sum = 0;
    for (const struct step *s = t->steps; s; s = s->next)
        sum += sd_plan_seconds(s->plan, op);
    return sum;
}
