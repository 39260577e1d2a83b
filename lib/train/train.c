#include "train/train.h"

#include "base/atomic.h"
#include "base/progress.h"
#include "data/view.h"
#include "model/declare.h"
#include "tensor/frozen.h"
#include "text/clip_bpe.h"
#include "train/metadata.h"
#include "train/picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One run, from start to end. */
struct run {
    const struct sd_train_config *config;
    const struct sd_train_hooks *hooks;
    struct sd_dataset *data;
    const struct sd_model_config *model;
    struct sd_train_plan plan;
    struct sd_train_progress progress;
    struct sd_lr lr;
    struct sd_lora *lora;
    struct sd_train_groups groups;
    struct sd_weights *weights;
    struct sd_trainer *trainer;
    struct sd_optimizer optimizer;
    struct sd_clip_bpe *bpe;
    struct sd_rng rng;         /* initial weights, noise, timesteps, the order of batches */
    struct sd_pyrandom random; /* captions, augmentation */
    struct sd_train_pictures pictures;
    float *latents, *noise, *mixed, *weight;
    struct sd_philox philox;     /* the device's generator, for noise as on one */
    struct sd_noise_parts parts; /* of the loaded batch's noise, then */
    int64_t *timesteps;
    int32_t *ids;
    bool drawn;       /* the loaded batch has its noise */
    int fetched, due; /* halves of the optimizer's block: of the update at hand, of one that the host has not
                         yet; -1: none */
    float *good;      /* the weights before the last update: the last that are known to give a finite loss */
    int64_t good_step, host_step, due_step; /* updates in these, in the host's, in those that are due */
    double factor;                          /* of the rates in the update at hand */
    float *losses;                          /* by batch of an epoch: those of the running average */
    size_t n_losses;
    int64_t started_ns, shown_ns;
};

/* --- setting up --- */

/* Whether a part learns: by its own rate, or by the common one where that is not given. */
static bool learns(double own, double common)
{
    return !isnan(own) ? own != 0 : common != 0;
}

static int make_optimizer(struct run *r, struct sd_backend *backend, struct sd_err *err)
{
    const struct sd_train_config *c = r->config;
    struct sd_train_groups *g = &r->groups;
    if (sd_train_groups_make(g, r->lora, &c->network_args,
                             isnan(c->text_encoder_lr) ? c->lr : c->text_encoder_lr,
                             isnan(c->unet_lr) ? c->lr : c->unet_lr, err))
        return -1;
    if (!g->n_vars)
        return sd_err_set(err, SD_ERR_USAGE, "nothing to train: no layer is left that would learn");
    for (int i = 0; i < g->n_vars; i++)
        r->plan.parameters += (size_t)sd_var_count(g->vars[i]);
    r->plan.group = g->group;
    r->plan.n_groups = g->n;
    r->plan.optimizer = &c->optimizer;
    r->plan.modules = r->lora->count;
    struct sd_optim_config optimizer = c->optimizer;
    if (c->trainer.dtype == SD_F16)
        optimizer.scaling = SD_LOSS_SCALING_DEFAULT;
    return sd_optimizer_init(&r->optimizer, &optimizer, g->group, g->n, g->vars, g->group_of, g->n_vars,
                             backend, err);
}

static int make_network(struct run *r, struct sd_err *err)
{
    struct sd_lora_options o = r->config->lora;
    /* A part whose rate is 0 is not trained (sd-scripts drops its group). */
    o.text_encoder = o.text_encoder && learns(r->config->text_encoder_lr, r->config->lr);
    o.unet = o.unet && learns(r->config->unet_lr, r->config->lr);
    if (!o.text_encoder && !o.unet)
        return sd_err_set(err, SD_ERR_USAGE,
                          "nothing to train: the learning rates are 0 or both parts are excluded");
    struct sd_lora_report report = {.modules = 1};
    const char *weights = r->config->network_weights;
    int rc;
    if (r->config->dim_from_weights)
        rc = sd_lora_resume(&r->lora, r->model, weights, &o, &r->rng, &report, err);
    else if (!(rc = sd_lora_new(&r->lora, r->model, &o, &r->rng, err)) && weights)
        rc = sd_lora_assign(r->lora, weights, &report, err);
    if (rc || report.modules)
        return rc;
    return sd_err_set(err, SD_ERR_DATA, "%s: no LoRA of this model (%zu keys that belong to no layer: %s)",
                      weights, report.unmatched, report.first);
}

static int make_buffers(struct run *r, struct sd_err *err)
{
    size_t n = r->data->largest_batch, area = 0, levels = 0;
    int64_t channels = r->model->unet.in_channels;
    for (size_t i = 0; i < r->data->n_buckets; i++) {
        struct sd_size s = r->data->buckets[i].size;
        size_t a = (size_t)(s.w / 8 * (s.h / 8));
        size_t l = (size_t)sd_noise_level_count(&r->config->noise, (int64_t)n, channels, s.h / 8, s.w / 8);
        area = a > area ? a : area;
        levels = l > levels ? l : levels;
    }
    size_t each = area * (size_t)channels, drawn = r->config->noise.cuda ? 0 : n * each;
    size_t chunks = sd_clip_bpe_chunk_count(r->config->max_token_length + 2);
    r->latents = malloc(n * each * sizeof(float));
    r->noise = malloc((drawn + 1) * sizeof(float));
    r->mixed = malloc((drawn + 1) * sizeof(float));
    r->parts.levels = calloc(levels + 1, sizeof(float));
    r->weight = malloc(n * sizeof(float));
    r->timesteps = malloc(n * sizeof *r->timesteps);
    r->ids = malloc(n * chunks * SD_CLIP_CONTEXT * sizeof *r->ids);
    r->losses = malloc(r->data->n_batches * sizeof(float));
    r->good = malloc(r->plan.parameters * sizeof(float));
    if (!r->latents || !r->noise || !r->mixed || !r->parts.levels || !r->weight || !r->timesteps || !r->ids ||
        !r->losses || !r->good)
        return sd_err_memory(err, (n * each + levels + r->plan.parameters) * sizeof(float));
    return 0;
}

static void count_steps(struct run *r)
{
    const struct sd_train_config *c = r->config;
    int64_t g = c->trainer.accumulation, batches = (int64_t)r->data->n_batches,
            updates = (batches + g - 1) / g;
    r->plan.pictures = sd_dataset_pictures(r->data, false) - sd_dataset_pictures(r->data, true);
    r->plan.reg_pictures = sd_dataset_pictures(r->data, true);
    r->plan.batches_per_epoch = batches;
    r->plan.steps = c->max_train_epochs > 0 ? c->max_train_epochs * updates : c->max_train_steps;
    r->plan.epochs = (r->plan.steps + updates - 1) / updates;
    r->plan.model = *r->model;
}

/* Found out before the work, not after it. */
static int can_write(const char *path, struct sd_err *err)
{
    struct sd_atomic *a;
    int rc = sd_atomic_open(&a, path, err);
    sd_atomic_discard(&a);
    return rc;
}

static int set_up(struct run *r, struct sd_model_file *model, struct sd_backend *backend, struct sd_err *err)
{
    const struct sd_train_config *c = r->config;
    r->model = sd_model_file_config(model);
    r->progress.started = time(NULL);
    r->started_ns = r->shown_ns = sd_clock_ns();
    sd_rng_seed(&r->rng, c->seed);
    r->philox.seed = c->seed;
    sd_pyrandom_seed(&r->random, (int64_t)c->seed);
    r->progress.session = sd_pyrandom_getrandbits(&r->random, 32);
    count_steps(r);
    if (can_write(c->output, err) ||
        sd_lr_init(&r->lr, c->lr_scheduler, c->lr_warmup_steps, r->plan.steps, err) ||
        sd_model_check(model, SD_PART_UNET, err) || sd_model_check(model, SD_PART_TEXT, err) ||
        sd_clip_bpe_new(c->v2 ? SD_CLIP_SD2 : SD_CLIP_SD1, &r->bpe, err) || make_network(r, err) ||
        make_optimizer(r, backend, err) || make_buffers(r, err) ||
        !(r->weights =
              sd_weights_new(c->find ? c->find : sd_model_file_find, c->find ? c->find_ctx : model, err)))
        return -1;
    if (c->model_path && !c->no_metadata)
        sd_train_hash_model(c->model_path, &r->progress);
    return 0;
}

static void tear_down(struct run *r)
{
    sd_train_pictures_free(&r->pictures);
    sd_trainer_free(r->trainer);
    sd_optimizer_free(&r->optimizer);
    sd_train_groups_free(&r->groups);
    sd_lora_free(r->lora);
    sd_weights_free(r->weights);
    sd_clip_bpe_free(r->bpe);
    free(r->latents);
    free(r->noise);
    free(r->parts.levels);
    free(r->mixed);
    free(r->weight);
    free(r->timesteps);
    free(r->ids);
    free(r->losses);
    free(r->good);
}

/* --- weights --- */

/* Copies the trained weights of the host to r->good, or back. */
static void copy_weights(struct run *r, bool back)
{
    float *good = r->good;
    for (int i = 0; i < r->optimizer.n_params; i++) {
        struct sd_var *v = r->optimizer.params[i].var;
        size_t n = (size_t)sd_var_count(v);
        memcpy(back ? v->state : good, back ? good : v->state, n * sizeof *good);
        good += n;
    }
}

static void keep_weights(struct run *r, int64_t step)
{
    copy_weights(r, false);
    r->good_step = step;
}

/* Gives the host the weights of the last update, where a device still had them to itself. */
static void take_weights(struct run *r)
{
    if (r->due < 0)
        return;
    keep_weights(r, r->host_step);
    sd_block_take(r->optimizer.block, r->due);
    r->host_step = r->due_step;
    r->due = -1;
}

/* Back to the weights before the last update; nothing is computed with them any more. */
static void restore_weights(struct run *r)
{
    copy_weights(r, true);
    r->progress.step = r->good_step;
}

/* --- telling and saving --- */

static double average_loss(const struct run *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n_losses; i++)
        sum += (double)r->losses[i];
    return r->n_losses ? sum / (double)r->n_losses : 0;
}

static void tell(struct run *r, struct sd_train_event e)
{
    int64_t now = sd_clock_ns();
    e.step = r->progress.step;
    e.epoch = r->progress.epoch;
    e.average = average_loss(r);
    e.seconds = 1e-9 * (double)(now - (e.kind == SD_TRAIN_STEP ? r->shown_ns : r->started_ns));
    if (e.kind == SD_TRAIN_STEP)
        r->shown_ns = now;
    if (r->hooks->event)
        r->hooks->event(r->hooks->ctx, &e, &r->plan);
}

/* epoch as sd-scripts records it, which depends on the kind of save. */
static int save(struct run *r, const char *path, int64_t epoch, struct sd_err *err)
{
    struct sd_meta meta = {0};
    struct sd_train_progress p = r->progress;
    take_weights(r);
    p.finished = time(NULL);
    p.epoch = epoch;
    int rc = sd_train_metadata(r->config, &r->plan, r->data, &p, &meta, err) ||
                     sd_lora_save(r->lora, path, r->config->save_dtype, meta.v, meta.n, err)
                 ? -1
                 : 0;
    sd_meta_free(&meta);
    if (!rc)
        tell(r, (struct sd_train_event){.kind = SD_TRAIN_SAVE, .path = path});
    return rc;
}

/* OUTPUT.safetensors becomes OUTPUT-step00000500.safetensors or OUTPUT-000003.safetensors. */
static int save_between(struct run *r, const char *fmt, int64_t number, int64_t epoch, struct sd_err *err)
{
    struct sd_buf path = SD_BUF_INIT;
    const char *out = r->config->output, *slash = strrchr(out, '/'), *dot = strrchr(out, '.');
    size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - out) : strlen(out);
    char tail[32];
    snprintf(tail, sizeof tail, fmt, (int)number);
    int rc = sd_buf_add(&path, out, stem) || sd_buf_adds(&path, tail) || sd_buf_adds(&path, out + stem)
                 ? sd_err_memory(err, stem)
                 : save(r, path.data, epoch, err);
    sd_buf_free(&path);
    return rc;
}

/* --- one batch --- */

/* The VAE, where a picture has no latents. */
static int make_pictures(struct run *r, struct sd_model_file *model, struct sd_backend *backend,
                         struct sd_err *err)
{
    for (size_t i = 0; i < r->data->n_items; i++)
        if (!r->data->items[i].latents)
            return sd_train_pictures_init(&r->pictures, r->config->vae ? r->config->vae : model, r->data,
                                          backend, r->config->trainer.dtype, sd_trainer_workspace(r->trainer),
                                          err);
    return 0;
}

static int load_item(struct run *r, const struct sd_item *item, size_t k, size_t each, int64_t step,
                     struct sd_err *err)
{
    const struct sd_train_config *c = r->config;
    size_t chunks = sd_clip_bpe_chunk_count(c->max_token_length + 2);
    struct sd_view use = {.archives = c->archives};
    struct sd_caption_context now = {
        .epoch = r->progress.epoch, .step = step, .max_train_steps = r->plan.steps};
    int rc = sd_view_draw(&use, item, &now, &r->random, err);
    if (!rc && item->latents)
        rc = sd_train_latents(item, c->archives, r->model, use.mirrored, r->latents + k * each, err);
    else if (!rc && !(rc = sd_view_picture(&use, err)))
        sd_train_pictures_take(&r->pictures, k, &use.cut.picture);
    const char *caption = use.caption.data ? use.caption.data : "";
    rc = rc || sd_clip_bpe_chunks(r->bpe, caption, use.caption.len, c->max_token_length + 2,
                                  r->ids + k * chunks * SD_CLIP_CONTEXT, err)
             ? -1
             : 0;
    sd_view_free(&use);
    r->weight[k] = item->reg ? (float)c->prior_loss_weight : 1;
    return rc;
}

/* Tells the optimizer what no gradient reached since the last update: modules that were dropped, layers that
 * --clip_skip leaves out. */
static void rest_dropped(struct run *r)
{
    struct sd_lora_module *m = r->lora->modules;
    bool drops = r->lora->dropout.module > 0;
    for (int i = 0; i < r->optimizer.n_params; i++) {
        struct sd_optim_param *p = &r->optimizer.params[i];
        while (p->var != &m->down && p->var != &m->up) /* both go over the modules in the same order */
            m++;
        p->idle = !m->used || (drops && !m->live);
    }
    for (size_t i = 0; i < r->lora->count; i++)
        r->lora->modules[i].live = false;
}

/* Says what the coming update shall do. */
static void prepare_update(struct run *r)
{
    r->factor = sd_lr_factor(&r->lr, r->optimizer.updates);
    rest_dropped(r);
    sd_optimizer_prepare(&r->optimizer, r->factor);
}

/* Batches and updates are run in one go where one follows the other. */
static bool joint(const struct run *r)
{
    return r->optimizer.backend->device != NULL;
}

static int64_t latents_of(const struct run *r, const struct sd_batch_ref *ref)
{
    struct sd_size size = r->data->buckets[ref->bucket].size;
    return (size.h / 8) * (size.w / 8) * r->model->unet.in_channels;
}

/* Reads what the batch needs; step is how many updates there will have been. */
static int load_batch(struct run *r, const struct sd_batch_ref *ref, int64_t step, struct sd_err *err)
{
    for (size_t k = 0; k < ref->count; k++)
        if (load_item(r, sd_dataset_item(r->data, ref, k), k, (size_t)latents_of(r, ref), step, err))
            return -1;
    return 0;
}

/* Whether a batch draws nothing but its noise and timesteps. */
static bool draws_noise_alone(const struct run *r)
{
    const struct sd_lora_dropout *d = &r->lora->dropout;
    return !r->pictures.vae && d->hidden == 0 && d->rank == 0 && d->module == 0;
}

static void draw_noise(struct run *r, const struct sd_batch_ref *ref)
{
    struct sd_size size = r->data->buckets[ref->bucket].size;
    if (r->config->noise.cuda) {
        sd_noise_draw_parts(&r->config->noise, &r->philox, r->optimizer.backend->threads, &r->rng, &r->random,
                            (int64_t)ref->count, r->model->unet.in_channels, size.h / 8, size.w / 8,
                            &r->parts, r->timesteps);
        return;
    }
    const struct sd_noise noise = {.n = (int64_t)ref->count,
                                   .c = r->model->unet.in_channels,
                                   .h = size.h / 8,
                                   .w = size.w / 8,
                                   .latents = r->latents,
                                   .scale = r->model->vae.scale,
                                   .target = r->noise,
                                   .mixed = r->mixed,
                                   .timesteps = r->timesteps};
    sd_noise_draw(&r->config->noise, &r->rng, &r->random, &noise);
}

/* Draws in the order of sd-scripts' step: the latents, the text encoder's pass, the noise, the U-Net's. */
static int draw(struct run *r, const struct sd_batch_ref *ref, struct sd_err *err)
{
    struct sd_size size = r->data->buckets[ref->bucket].size;
    const struct sd_graph *graph;
    struct sd_plan *plan;
    if (sd_train_pictures_encode(&r->pictures, ref->count, (size_t)latents_of(r, ref), &r->rng, r->latents,
                                 err) ||
        sd_trainer_step(r->trainer, (int64_t)ref->count, size.h / 8, size.w / 8, &graph, &plan, err))
        return -1;
    sd_lora_draw_masks(r->lora, graph, plan, false, &r->rng);
    draw_noise(r, ref);
    sd_lora_draw_masks(r->lora, graph, plan, true, &r->rng);
    return 0;
}

/* Starts a batch that is loaded. With update, also the update in one go: on devices, where the weights of the
 * host are the older ones until they are pulled, so that nothing is lost if the loss turns out not to be
 * finite. */
static int start_batch(struct run *r, const struct sd_batch_ref *ref, bool update, struct sd_err *err)
{
    struct sd_size size = r->data->buckets[ref->bucket].size;
    if (!r->drawn && draw(r, ref, err))
        return -1;
    r->drawn = false;
    r->fetched = -1;
    if (update)
        prepare_update(r);
    if (sd_trainer_start(r->trainer,
                         &(struct sd_train_batch){.n = (int64_t)ref->count,
                                                  .h = size.h / 8,
                                                  .w = size.w / 8,
                                                  .latents = r->latents,
                                                  .noise = {r->noise, r->mixed, &r->parts},
                                                  .timesteps = r->timesteps,
                                                  .ids = r->ids,
                                                  .weight = r->weight},
                         update, err))
        return -1;
    return update && (r->fetched = sd_block_fetch(r->optimizer.block, err)) < 0 ? -1 : 0;
}

static void record_loss(struct run *r, size_t index, float loss)
{
    r->losses[index] = loss;
    if (index >= r->n_losses)
        r->n_losses = index + 1;
}

static bool stopping(const struct run *r)
{
    return r->hooks->stop && r->hooks->stop(r->hooks->ctx);
}

/* Ends the run with the error at hand; what was trained is saved, and the message says where. */
static int stop_and_save(struct run *r, struct sd_err *err)
{
    struct sd_err why = *err, not_saved;
    int64_t step = r->progress.step;
    if (!step)
        sd_err_set(err, why.code, "%s; nothing is trained yet, so nothing is saved", why.msg);
    else if (save(r, r->config->output, r->progress.epoch, &not_saved))
        sd_err_set(err, why.code, "%s; and %s", why.msg, not_saved.msg);
    else
        sd_err_set(err, why.code, "%s; the weights after step %lld are in %s", why.msg, (long long)step,
                   r->config->output);
    return -1;
}

static int stop_at_nan(struct run *r, float loss, struct sd_err *err)
{
    sd_err_set(err, SD_ERR_DATA, "the loss became %s at step %lld (learning rate too high?)",
               isnan(loss) ? "NaN" : "infinite", (long long)r->progress.step + 1);
    if (r->progress.step) /* the last update may be what broke the weights */
        restore_weights(r);
    return stop_and_save(r, err);
}

/* Runs the update, where that was not done with the batch. A device's weights are in the block's memory then,
 * which the host takes while the device is at the next batch: a device that is lost takes none along. */
static int update_weights(struct run *r, struct sd_optim_update *did, struct sd_lora_norms *norms,
                          struct sd_err *err)
{
    if (!joint(r)) {
        keep_weights(r, r->progress.step);
        prepare_update(r);
        if (sd_plan_run(r->optimizer.plan, err))
            return -1;
    }
    if (sd_optimizer_finish(&r->optimizer, did, err))
        return -1;
    r->due = r->fetched;
    r->due_step = r->progress.step + 1;
    if (r->config->scale_weight_norms <= 0)
        return 0;
    take_weights(r);
    sd_lora_limit_norms(r->lora, r->config->scale_weight_norms, norms);
    return sd_block_push(r->optimizer.block, err);
}

static int update(struct run *r, double loss, size_t batches, struct sd_err *err)
{
    double lr[SD_TRAIN_GROUPS];
    struct sd_lora_norms norms;
    struct sd_train_event e = {.kind = SD_TRAIN_STEP, .loss = loss / (double)batches, .lr = lr};
    struct sd_optim_update did;
    float scale = r->optimizer.scale ? r->optimizer.scale->memory[0] : 1;
    if (update_weights(r, &did, &norms, err))
        return -1;
    for (int i = 0; i < r->plan.n_groups; i++)
        lr[i] = r->optimizer.groups[i].last;
    e.grad_norm = (double)did.norm;
    e.loss_scale = did.scale != scale ? (double)did.scale : 0;
    e.skipped = did.skipped;
    e.d = r->optimizer.adapted ? (double)did.d : 0;
    e.norms = r->config->scale_weight_norms > 0 ? &norms : NULL;
    r->progress.step++;
    tell(r, e);
    return 0;
}

/* --- the loop --- */

static bool divides(int64_t every, int64_t n)
{
    return every > 0 && n % every == 0;
}

/* Runs the loaded batch number i of the epoch. While a device is at it the host takes the weights of the
 * update before and loads the next batch, whose failure *next is told, for after this one. */
static int train_batch(struct run *r, size_t i, bool updates, float *loss, struct sd_err *next,
                       struct sd_err *err)
{
    const struct sd_batch_ref *batch = &r->data->batches[i];
    int64_t step = r->progress.step + updates;
    if (start_batch(r, batch, updates && joint(r), err))
        return -1;
    take_weights(r);
    if (i + 1 < r->data->n_batches && step < r->plan.steps && !load_batch(r, batch + 1, step, next) &&
        draws_noise_alone(r)) {
        draw_noise(r, batch + 1);
        r->drawn = true;
    }
    return sd_trainer_finish(r->trainer, loss, err);
}

/* 0, or -1; ends early when all steps are done or a signal came. */
static int train_epoch(struct run *r, struct sd_err *err)
{
    const struct sd_train_config *c = r->config;
    double loss_sum = 0;
    size_t gathered = 0, last = r->data->n_batches - 1;
    struct sd_err next = {0};
    load_batch(r, r->data->batches, r->progress.step, &next);
    for (size_t i = 0; i <= last && r->progress.step < r->plan.steps && !stopping(r); i++) {
        float loss;
        bool updates = gathered + 1 >= (size_t)c->trainer.accumulation || i == last;
        if (next.code) {
            *err = next;
            return stop_and_save(r, err);
        }
        if (train_batch(r, i, updates, &loss, &next, err))
            return stop_and_save(r, err);
        if (!isfinite(loss))
            return stop_at_nan(r, loss, err);
        record_loss(r, i, loss);
        loss_sum += (double)loss;
        gathered++;
        if (!updates)
            continue;
        if (update(r, loss_sum, gathered, err))
            return stop_and_save(r, err);
        loss_sum = 0;
        gathered = 0;
        if (divides(c->save_every_n_steps, r->progress.step) &&
            save_between(r, "-step%08d", r->progress.step, r->progress.epoch - 1, err))
            return -1;
    }
    return 0;
}

static int loop(struct run *r, struct sd_err *err)
{
    const struct sd_train_config *c = r->config;
    int64_t seed = sd_pyrandom_randint(&r->random, 0, (int64_t)1 << 31);
    tell(r, (struct sd_train_event){.kind = SD_TRAIN_START});
    while (r->progress.step < r->plan.steps && !stopping(r)) {
        r->progress.epoch++;
        if (sd_dataset_epoch(r->data, seed, r->progress.epoch, &r->rng, err) || train_epoch(r, err))
            return -1;
        tell(r, (struct sd_train_event){.kind = SD_TRAIN_EPOCH, .loss = average_loss(r)});
        if (divides(c->save_every_n_epochs, r->progress.epoch) && r->progress.step < r->plan.steps &&
            save_between(r, "-%06d", r->progress.epoch, r->progress.epoch, err))
            return -1;
    }
    if (save(r, c->output, r->plan.epochs, err))
        return -1;
    tell(r, (struct sd_train_event){.kind = SD_TRAIN_END, .loss = average_loss(r), .stopped = stopping(r)});
    return 0;
}

int sd_train_lora(const struct sd_train_config *config, struct sd_model_file *model, struct sd_dataset *data,
                  struct sd_backend *backend, const struct sd_train_hooks *hooks, struct sd_err *err)
{
    struct run r = {.config = config, .hooks = hooks, .data = data, .fetched = -1, .due = -1};
    int rc = set_up(&r, model, backend, err);
    if (!rc) {
        struct sd_trainer_options t = config->trainer;
        t.noise = config->noise;
        t.text_chunks = (int)sd_clip_bpe_chunk_count(config->max_token_length + 2);
        struct sd_lora_stack stack = {&r.lora, 1};
        r.trainer = sd_trainer_new(r.model, &t, r.weights, sd_lora_adapt, &stack, &r.optimizer, backend, err);
        rc = r.trainer && !make_pictures(&r, model, backend, err) &&
                     sd_block_fetch(r.optimizer.block, err) >= 0 /* makes its memory before the work */
                 ? loop(&r, err)
                 : -1;
    }
    tear_down(&r);
    return rc;
}
