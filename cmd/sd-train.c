/* sd-train: records with cached latents in, a trained network in a file, events on standard output. */
#include "subset_options.h"
#include "compute.h"
#include "networks.h"
#include "objective_options.h"

#include "base/path.h"
#include "data/cache.h"
#include "store/archive.h"
#include "train/picture.h"
#include "train/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct options {
    struct sd_train_config t;
    const char *model, *precision, *save_precision, *output_dir, *output_name, *module, *save_as, *optimizer;
    double alpha, max_grad_norm;
    bool adam8, lion;
    struct sd_strings optimizer_words;
    struct cmd_subset subset;
    struct cmd_objective objective;
    const char *vae;
    bool any_vae, unet_only, text_encoder_only, v2, v_prediction, tf32;
    double network_dropout;
    struct sd_strings base_weights, base_multipliers;
    int64_t batch_size, dim, accumulation, clip_skip, max_token_length, seed;
    struct sd_buf path;
};

static struct options defaults(void)
{
    struct options o = {.precision = "no",
                        .save_precision = "float",
                        .module = "networks.lora",
                        .save_as = "safetensors",
                        .optimizer = "",
                        .alpha = 1,
                        .max_grad_norm = 1,
                        .network_dropout = NAN,
                        .subset = CMD_SUBSET_DEFAULTS,
                        .objective = CMD_OBJECTIVE_DEFAULTS,
                        .batch_size = 1,
                        .dim = 4,
                        .accumulation = 1,
                        .max_token_length = 75,
                        .seed = -1};
    o.t = (struct sd_train_config){.lr = 2e-6,
                                   .text_encoder_lr = NAN,
                                   .unet_lr = NAN,
                                   .lr_scheduler = "constant",
                                   .max_train_steps = 1600};
    return o;
}

/* --- records
 * ------------------------------------------------------------------------------------------------------ */

struct intake {
    struct sd_dataset *data;
    const struct sd_model_config *model;
    struct sd_model_file *vae;   /* that caches must come from; NULL: from any */
    char vae_hash[65];           /* made when the first cache tells where it comes from */
    struct sd_archives archives; /* of pictures and caches */
    struct sd_buf scratch;
    struct sd_arena arena;
};

/* Latents of one VAE mean nothing to a U-Net that learned those of another. Caches that do not tell, like
 * those of sd-scripts, pass. */
static int check_vae(struct intake *in, const char *cache, struct sd_err *err)
{
    struct sd_latents_info info;
    char told[65];
    if (!in->vae)
        return 0;
    if (sd_latents_inspect(&info, &in->archives, cache, &in->arena, err))
        return -1;
    if (!info.source || !sd_cache_source_vae(info.source, told))
        return 0;
    if (!*in->vae_hash && sd_model_file_hash(in->vae, SD_PART_VAE, in->vae_hash, err))
        return -1;
    if (!strcmp(told, in->vae_hash))
        return 0;
    return sd_err_set(err, SD_ERR_DATA,
                      "%s: encoded by another VAE than that of %s (--vae names it, --allow-other-vae trains "
                      "on it all the same)",
                      cache, sd_model_file_path(in->vae));
}

/* What could not be used later is refused now. */
static int check_item(struct intake *in, const struct sd_item *item, struct sd_err *err)
{
    const struct sd_augment *a = &item->subset->augment;
    if (item->subset->alpha_mask)
        return sd_err_set(err, SD_ERR_DATA, "alpha_mask: masked loss cannot be done yet");
    if (!item->latents)
        return 0;
    if (sd_augment_varies(a))
        return sd_err_set(err, SD_ERR_DATA,
                          "%s makes another picture at each use: train it without cached latents",
                          a->color ? "color_aug" : "random_crop");
    size_t bytes =
        (size_t)(item->bucket.w / 8 * (item->bucket.h / 8) * in->model->unet.in_channels) * sizeof(float);
    sd_buf_clear(&in->scratch);
    if (sd_buf_reserve(&in->scratch, bytes))
        return sd_err_memory(err, bytes);
    float *to = (float *)in->scratch.data;
    return sd_train_latents(item, &in->archives, in->model, false, to, err) ||
                   (a->flip && sd_train_latents(item, &in->archives, in->model, true, to, err)) ||
                   check_vae(in, item->latents, err)
               ? -1
               : 0;
}

static int add(struct intake *in, struct sd_record *r, struct sd_err *err)
{
    if (sd_dataset_add(in->data, r, err))
        return -1;
    if (!check_item(in, &in->data->items[in->data->n_items - 1], err))
        return 0;
    in->data->n_items--;
    return -1;
}

static void read_records(struct sd_cmd *c, struct intake *in)
{
    struct sd_record r = SD_RECORD_INIT;
    uint64_t ticket;
    int64_t failed = 0, held_out = 0;
    while (cmd_next(c, &r, &ticket)) {
        struct sd_err err = {0};
        bool validation = false;
        if (sd_record_failed(&r))
            failed++;
        else if (sd_record_bool(&r, "validation", &validation, &err) > 0 && validation)
            held_out++;
        else if (add(in, &r, &err))
            cmd_fail(c, &r, &err);
        cmd_drop(c, ticket);
        sd_arena_reset(&in->arena);
    }
    sd_record_free(&r);
    sd_buf_free(&in->scratch);
    sd_arena_free(&in->arena);
    if (held_out)
        cmd_say(c, "left out %lld records for validation", (long long)held_out);
    if (failed) {
        cmd_warn(c, "left out %lld records that carry an error", (long long)failed);
        cmd_status(c, SD_ERR_DATA);
    }
}

/* --- events
 * ------------------------------------------------------------------------------------------------------- */

static void start_members(struct sd_record *r, const struct sd_train_plan *p)
{
    sd_record_set_int(r, "images", p->pictures);
    sd_record_set_int(r, "reg_images", p->reg_pictures);
    sd_record_set_int(r, "batches_per_epoch", p->batches_per_epoch);
    sd_record_set_int(r, "epochs", p->epochs);
    sd_record_set_int(r, "steps", p->steps);
    sd_record_set_int(r, "modules", (int64_t)p->modules);
    sd_record_set_int(r, "parameters", (int64_t)p->parameters);
    sd_record_set_string(r, "model", p->model.name);
}

static void step_members(struct sd_record *r, const struct sd_train_event *e, const struct sd_train_plan *p)
{
    sd_record_set_int(r, "step", e->step);
    sd_record_set_int(r, "epoch", e->epoch);
    sd_record_set_double(r, "loss", e->loss);
    sd_record_set_double(r, "avr_loss", e->average);
    for (int i = 0; i < p->n_groups; i++) {
        char name[40];
        snprintf(name, sizeof name, "d_lr_%s", p->group[i].name);
        if (strchr(name, ' '))
            *strchr(name, ' ') = '_';
        sd_record_set_double(r, name + 2, e->lr[i]);
        if (e->d > 0)
            sd_record_set_double(r, name, e->d * e->lr[i]);
    }
    sd_record_set_double(r, "grad_norm", e->grad_norm);
    if (e->loss_scale > 0)
        sd_record_set_double(r, "loss_scale", e->loss_scale);
    if (e->skipped)
        sd_record_set_bool(r, "skipped", true);
    if (e->norms) {
        sd_record_set_int(r, "keys_scaled", (int64_t)e->norms->scaled);
        sd_record_set_double(r, "avg_key_norm", e->norms->average);
        sd_record_set_double(r, "max_key_norm", e->norms->most);
    }
    sd_record_set_double(r, "seconds", e->seconds);
}

/* Rates that mean little to an optimizer that adapts its step size. */
static void advise(const struct sd_cmd *c, const struct sd_train_plan *p)
{
    bool differ = false;
    if (!p->optimizer->kind->adapts || !p->n_groups)
        return;
    for (int i = 1; i < p->n_groups; i++)
        differ |= p->group[i].lr != p->group[0].lr;
    if (p->group[0].lr <= 0.1)
        cmd_warn(c, "learning rate %g is too low: D-Adaptation and Prodigy should have one around 1.0",
                 p->group[0].lr);
    if (differ)
        cmd_warn(c, "of several learning rates only the first takes effect with %s: %g",
                 p->optimizer->kind->name, p->group[0].lr);
}

static void on_event(void *ctx, const struct sd_train_event *e, const struct sd_train_plan *p)
{
    static const char *const names[] = {"start", "step", "epoch", "save", "end"};
    struct sd_cmd *c = ctx;
    struct sd_record r = SD_RECORD_INIT;
    char extra[48];
    sd_record_reset(&r);
    sd_record_set_string(&r, "event", names[e->kind]);
    if (e->kind == SD_TRAIN_START) {
        advise(c, p);
        start_members(&r, p);
        c->total = (uint64_t)p->steps;
    } else if (e->kind == SD_TRAIN_STEP) {
        step_members(&r, e, p);
        snprintf(extra, sizeof extra, "avr_loss=%.4g", e->average);
        cmd_progress(c, (uint64_t)e->step, extra);
    } else {
        sd_record_set_int(&r, "step", e->step);
        sd_record_set_int(&r, "epoch", e->epoch);
        if (e->kind == SD_TRAIN_SAVE)
            sd_record_set_string(&r, "path", e->path);
        else
            sd_record_set_double(&r, "avr_loss", e->average);
        if (e->kind == SD_TRAIN_END)
            sd_record_set_double(&r, "seconds", e->seconds);
        if (e->stopped)
            sd_record_set_bool(&r, "stopped", true);
    }
    struct sd_buf line = SD_BUF_INIT;
    if (!sd_record_write(&r, &line) && !sd_buf_addc(&line, '\n'))
        sd_stream_write(c->stream, line.data, line.len, 0);
    sd_stream_flush(c->stream);
    sd_buf_free(&line);
    sd_record_free(&r);
}

static bool on_stop(void *ctx)
{
    return cmd_stopped(ctx);
}

/* --- options
 * ------------------------------------------------------------------------------------------------------ */

static void settle_network(struct sd_cmd *c, struct options *o)
{
    struct sd_train_config *t = &o->t;
    struct sd_err err = {0};
    t->lora = (struct sd_lora_options){.rank = o->dim,
                                       .alpha = (float)o->alpha,
                                       .text_encoder = !o->unet_only,
                                       .unet = !o->text_encoder_only};
    if (sd_network_args_parse(&t->network_args, &t->network_words, o->dim, (float)o->alpha, &err))
        cmd_usage(c, "%s", err.msg);
    if (*t->network_args.remark)
        cmd_warn(c, "network_args: %s", t->network_args.remark);
    if (t->dim_from_weights && !t->network_weights)
        cmd_usage(c, "--dim-from-weights takes them from --network-weights FILE");
    if (t->dim_from_weights && (t->network_args.shapes || !isnan(o->network_dropout)))
        cmd_usage(c, "--dim-from-weights: of the network's arguments only *_lr_weight go with it");
    sd_network_args_apply(&t->network_args, &t->lora);
    t->network_dropout = o->network_dropout;
    t->lora.dropout.hidden = isnan(o->network_dropout) ? 0 : o->network_dropout;
}

/* --base-weights: networks that the model to be trained has in it already. */
static struct sd_merged *merge_base(struct sd_cmd *c, const struct options *o, struct sd_model_file *model)
{
    struct sd_merge_part *parts = calloc(o->base_weights.n + 1, sizeof *parts);
    struct sd_err err = {0};
    if (!parts) {
        sd_err_memory(&err, o->base_weights.n * sizeof *parts);
        cmd_die(c, &err);
    }
    if (o->base_multipliers.n > o->base_weights.n)
        cmd_usage(c, "--base-weights-multiplier has more numbers than --base-weights files");
    for (size_t i = 0; i < o->base_weights.n; i++) {
        const char *text = i < o->base_multipliers.n ? o->base_multipliers.v[i] : "1";
        char *end;
        double multiplier = strtod(text, &end);
        if (end == text || *end || !isfinite(multiplier))
            cmd_usage(c, "--base-weights-multiplier: \"%s\" is no number", text);
        parts[i].multiplier = (float)multiplier;
        cmd_network(c, o->base_weights.v[i], sd_model_file_config(model), false, &parts[i].network);
    }
    struct sd_merged *m = cmd_merged(c, model, parts, o->base_weights.n);
    free(parts);
    return m;
}

/* AdaFactor's rates are its own, or it warns of what sd-scripts warns of. */
static void settle_adafactor(struct sd_cmd *c, struct options *o)
{
    struct sd_train_config *t = &o->t;
    bool named = !strcmp(t->lr_scheduler, "adafactor");
    if (!sd_optim_relative(&t->optimizer)) {
        if (named)
            cmd_usage(c,
                      "--lr-scheduler adafactor is for --optimizer-type AdaFactor with relative_step=True");
        if (!t->optimizer.kind->factored)
            return;
        if (o->max_grad_norm != 0)
            cmd_warn(c, "AdaFactor: gradients are clipped to norm %g; --max-grad-norm 0 leaves that to it",
                     o->max_grad_norm);
        if (strcmp(t->lr_scheduler, "constant_with_warmup"))
            cmd_warn(c, "AdaFactor: --lr-scheduler constant_with_warmup suits rates of your own");
        if (t->optimizer.arg[SD_OPTIM_CLIP_THRESHOLD] != 1)
            cmd_warn(c, "AdaFactor: clip_threshold=1.0 is what suits rates of your own");
        return;
    }
    if (t->lr_warmup_steps != 0)
        cmd_usage(c,
                  "--lr-warmup-steps: AdaFactor with relative_step=True has a schedule of its own, without");
    if (t->lr != 0)
        cmd_warn(c,
                 "AdaFactor: the learning rate is only the first one told: relative_step=True makes its own");
    if (!isnan(t->unet_lr) || !isnan(t->text_encoder_lr))
        cmd_warn(c, "AdaFactor: --unet-lr and --text-encoder-lr are ignored");
    t->lr_scheduler = "constant";
}

static void settle_optimizer(struct sd_cmd *c, struct options *o)
{
    struct sd_err err = {0};
    const char *name = o->adam8 ? "AdamW8bit" : o->lion ? "Lion" : o->optimizer;
    if ((o->adam8 || o->lion) && (*o->optimizer || (o->adam8 && o->lion)))
        cmd_usage(c, "--use-8bit-adam, --use-lion-optimizer and --optimizer-type exclude each other");
    if (sd_optim_config_init(&o->t.optimizer, name, &o->optimizer_words, &err))
        cmd_usage(c, "%s", err.msg);
    o->t.optimizer.max_grad_norm = o->max_grad_norm;
    settle_adafactor(c, o);
}

/* What the options say together. */
static void settle(struct sd_cmd *c, struct options *o, const struct sd_model_config *model)
{
    struct sd_train_config *t = &o->t;
    if (strcmp(o->module, "networks.lora"))
        cmd_usage(c, "--network-module %s: only networks.lora is built in", o->module);
    if (strcmp(o->save_as, "safetensors"))
        cmd_usage(c, "--save-model-as %s: networks are written as safetensors", o->save_as);
    if (o->unet_only && o->text_encoder_only)
        cmd_usage(c, "--network-train-unet-only and --network-train-text-encoder-only exclude each other");
    if (o->max_token_length != 75 && o->max_token_length != 150 && o->max_token_length != 225)
        cmd_usage(c, "--max-token-length is 75, 150 or 225");
    settle_network(c, o);
    settle_optimizer(c, o);
    t->v2 = o->v2 || model->text.pad == 0;
    t->lora.conv_projection = t->v2;
    t->trainer.dtype = cmd_precision(c, o->precision);
    t->trainer.v_prediction = o->v_prediction || model->prediction == SD_PREDICT_V;
    t->trainer.clip_skip = (int)o->clip_skip;
    t->trainer.accumulation = (int)o->accumulation;
    cmd_objective_settle(c, &o->objective, t);
    t->max_token_length = (int)o->max_token_length;
    cmd_subset_settle(c, &o->subset);
    t->prior_loss_weight = o->subset.prior_loss_weight;
    t->save_dtype = !strcmp(o->save_precision, "fp16")   ? SD_STORE_F16
                    : !strcmp(o->save_precision, "bf16") ? SD_STORE_BF16
                                                         : SD_STORE_F32;
    t->model_path = o->model;
    t->seed = o->seed < 0 ? (uint64_t)(sd_clock_ns() & 0x7fffffff) : (uint64_t)o->seed;
    if (!t->output) { /* sd-scripts' way: a folder and a name */
        if (!o->output_dir)
            cmd_usage(c, "no output: -o FILE, or --output-dir and --output-name");
        cmd_folder(c, o->output_dir);
        if (sd_buf_addf(&o->path, "%s%s%s.safetensors", o->output_dir, sd_path_slash(o->output_dir),
                        o->output_name ? o->output_name : "last"))
            cmd_usage(c, "out of memory");
        t->output = o->path.data;
    }
}

int main(int argc, char **argv)
{
    struct options o = defaults();
    struct sd_train_config *t = &o.t;
    const struct sd_option options[] = {
        {SD_OPT_HEADING("Model and output")},
        {SD_OPT_STRING("model", 'm', &o.model, "FILE|FOLDER", "base model: a file or diffusers folder"),
         .alias = "pretrained-model-name-or-path"},
        {SD_OPT_STRING("vae", 0, &o.vae, "FILE|FOLDER", "the VAE that made the latents, if not the model's")},
        {SD_OPT_BOOL("allow-other-vae", 0, &o.any_vae, "take latents that another VAE made")},
        {SD_OPT_STRING("output", 'o', &t->output, "FILE", "the trained network")},
        {SD_OPT_STRING("output-dir", 0, &o.output_dir, "FOLDER", "with --output-name, in place of --output")},
        {SD_OPT_STRING("output-name", 0, &o.output_name, "NAME", "file name without its ending")},
        {SD_OPT_CHOICE("save-precision", 0, &o.save_precision, "float|fp16|bf16",
                       "type of the saved tensors")},
        {SD_OPT_STRING("save-model-as", 0, &o.save_as, "FORMAT", "safetensors")},
        {SD_OPT_INT("save-every-n-steps", 0, &t->save_every_n_steps, "N", "save between, every N steps"),
         .max = 1e9},
        {SD_OPT_INT("save-every-n-epochs", 0, &t->save_every_n_epochs, "N", "save between, every N epochs"),
         .max = 1e9},
        {SD_OPT_BOOL("no-metadata", 0, &t->no_metadata, "write only the metadata that loaders need")},
        {SD_OPT_STRING("training-comment", 0, &t->training_comment, "TEXT", "a note for the metadata")},
        {SD_OPT_HEADING("Network")},
        {SD_OPT_STRING("network-module", 0, &o.module, "MODULE", "networks.lora")},
        {SD_OPT_INT("network-dim", 0, &o.dim, "N", "rank"), .min = 1, .max = 4096},
        {SD_OPT_DOUBLE("network-alpha", 0, &o.alpha, "X",
                       "the product is scaled by alpha/rank; 0 means rank")},
        {SD_OPT_WORDS("network-args", 0, &t->network_words, "KEY=VALUE",
                      "conv_dim, block_dims, down_lr_weight, rank_dropout, loraplus_lr_ratio and others")},
        {SD_OPT_DOUBLE("network-dropout", 0, &o.network_dropout, "X",
                       "drop this share of the numbers between a module's matrices"),
         .max = 1},
        {SD_OPT_DOUBLE("scale-weight-norms", 0, &t->scale_weight_norms, "X",
                       "after each update scale modules down to this norm; 0: never"),
         .max = 1e30},
        {SD_OPT_STRING("network-weights", 0, &t->network_weights, "FILE", "start from this network")},
        {SD_OPT_BOOL("dim-from-weights", 0, &t->dim_from_weights,
                     "take layers, ranks and alphas from --network-weights too")},
        {SD_OPT_WORDS("base-weights", 0, &o.base_weights, "FILE",
                      "networks to add to the model before training")},
        {SD_OPT_WORDS("base-weights-multiplier", 0, &o.base_multipliers, "X",
                      "how strongly to add each of them; 1 where none is given")},
        {SD_OPT_BOOL("network-train-unet-only", 0, &o.unet_only, "leave the text encoder as it is")},
        {SD_OPT_BOOL("network-train-text-encoder-only", 0, &o.text_encoder_only, "leave the U-Net as it is")},
        {SD_OPT_HEADING("Steps")},
        {SD_OPT_INT("max-train-steps", 0, &t->max_train_steps, "N", "updates to make"), .min = 1, .max = 1e9},
        {SD_OPT_INT("max-train-epochs", 0, &t->max_train_epochs, "N", "overrides the steps"), .max = 1e9},
        {SD_OPT_INT("train-batch-size", 0, &o.batch_size, "N", "pictures in a batch"), .min = 1, .max = 4096},
        {SD_OPT_INT("gradient-accumulation-steps", 0, &o.accumulation, "N", "batches in an update"), .min = 1,
         .max = 1e6},
        {SD_OPT_INT("seed", 0, &o.seed, "N", "random numbers to use; negative: by the clock"), .min = -1,
         .max = 9e15},
        CMD_OBJECTIVE_OPTIONS(&o.objective),
        {SD_OPT_HEADING("Optimizer")},
        {SD_OPT_STRING("optimizer-type", 0, &o.optimizer, "NAME",
                       "AdamW (if none is given), AdamW8bit, Lion, Prodigy, ... (see OPTIMIZERS)")},
        {SD_OPT_WORDS("optimizer-args", 0, &o.optimizer_words, "KEY=VALUE",
                      "its arguments: weight_decay=0.1, betas=.9,.99 and others")},
        {SD_OPT_BOOL("use-8bit-adam", 0, &o.adam8, "AdamW8bit")},
        {SD_OPT_BOOL("use-lion-optimizer", 0, &o.lion, "Lion")},
        {SD_OPT_DOUBLE("learning-rate", 0, &t->lr, "X", "learning rate")},
        {SD_OPT_DOUBLE("text-encoder-lr", 0, &t->text_encoder_lr, "X",
                       "for the text encoder; 0 leaves it as it is")},
        {SD_OPT_DOUBLE("unet-lr", 0, &t->unet_lr, "X", "for the U-Net; 0 leaves it as it is")},
        {SD_OPT_CHOICE("lr-scheduler", 0, &t->lr_scheduler, "constant|constant_with_warmup|adafactor",
                       "how the rates go")},
        {SD_OPT_DOUBLE("lr-warmup-steps", 0, &t->lr_warmup_steps, "N",
                       "steps, or a share below 1, of rising rates")},
        {SD_OPT_DOUBLE("max-grad-norm", 0, &o.max_grad_norm, "X", "clip gradients to this norm; 0: never"),
         .max = 1e30},
        {SD_OPT_HEADING("Computing")},
        {SD_OPT_CHOICE("mixed-precision", 0, &o.precision, "no|bf16|fp16",
                       "type to compute in: no means f32")},
        CMD_OPT_TF32(&o.tf32),
        {SD_OPT_BOOL("gradient-checkpointing", 0, &t->trainer.checkpointing,
                     "recompute activations to save memory")},
        {SD_OPT_HEADING("Model family")},
        {SD_OPT_BOOL("v2", 0, &o.v2, "Stable Diffusion 2 (found out by itself for whole models)")},
        {SD_OPT_BOOL("v-parameterization", 0, &o.v_prediction, "the model predicts velocity (768-v models)")},
        {SD_OPT_INT("clip-skip", 0, &o.clip_skip, "N", "use the text encoder's N-th layer from the end"),
         .max = 23},
        {SD_OPT_HEADING("Captions and pictures")},
        {SD_OPT_INT("max-token-length", 0, &o.max_token_length, "75|150|225",
                    "tokens of a caption that count")},
        CMD_SUBSET_OPTIONS(&o.subset),
        SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-train",
                                   .args = "lora",
                                   .summary = "train a LoRA on the records of standard input",
                                   .options = options,
                                   .min_args = 1,
                                   .max_args = 1},
                       .own_progress = true};
    cmd_start_computing(&c, &argc, argv);
    if (strcmp(argv[1], "lora"))
        cmd_usage(&c, "\"%s\" is no method: lora", argv[1]);
    if (!o.model)
        cmd_usage(&c, "no model: --model FILE");
    struct sd_err err = {0};
    struct sd_model_file *model;
    if (sd_model_file_open(&model, o.model, &err))
        cmd_die(&c, &err);
    settle(&c, &o, sd_model_file_config(model));
    struct sd_merged *base = merge_base(&c, &o, model);
    t->find = base ? sd_merged_find : NULL;
    t->find_ctx = base;
    struct sd_dataset data;
    sd_dataset_init(&data, &(struct sd_dataset_options){.batch_size = o.batch_size, .subset = o.subset.base});
    if (o.vae && sd_model_file_open(&t->vae, o.vae, &err))
        cmd_die(&c, &err);
    struct sd_model_file *vae = t->vae ? t->vae : sd_model_file_has(model, SD_PART_VAE) ? model : NULL;
    struct intake in = {.data = &data, .model = sd_model_file_config(model), .vae = o.any_vae ? NULL : vae};
    t->archives = &in.archives;
    read_records(&c, &in);
    if (sd_dataset_finish(&data, &err))
        cmd_die(&c, &err);
    struct sd_backend *backend = cmd_backend(&c, o.tf32);
    struct sd_train_hooks hooks = {.event = on_event, .stop = on_stop, .ctx = &c};
    if (sd_train_lora(t, model, &data, backend, &hooks, &err))
        cmd_die(&c, &err);
    sd_backend_free(backend);
    sd_archives_free(&in.archives);
    sd_dataset_free(&data);
    sd_model_file_close(t->vae);
    sd_model_file_close(model);
    sd_merged_free(base);
    sd_strings_free(&t->network_words);
    sd_strings_free(&o.optimizer_words);
    sd_strings_free(&o.base_weights);
    sd_strings_free(&o.base_multipliers);
    sd_buf_free(&o.path);
    return cmd_finish(&c);
}
