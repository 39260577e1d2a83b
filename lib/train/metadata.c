#include "train/metadata.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/path.h"
#include "base/pyfloat.h"
#include "model/modelspec.h"
#include "record/scan.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void sd_train_hash_model(const char *path, struct sd_train_progress *progress)
{
    enum { FROM = 0x100000, BYTES = 0x10000 };
    char *whole = progress->model_hash, *old = progress->old_model_hash;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    whole[0] = old[0] = 0;
    if (fd >= 0 && !fstat(fd, &st) && S_ISDIR(st.st_mode)) {
        snprintf(whole, sizeof progress->model_hash, "IsADirectory");
        snprintf(old, sizeof progress->old_model_hash, "IsADirectory");
    } else if (fd >= 0) {
        char *part = malloc(BYTES);
        ssize_t n = part ? pread(fd, part, BYTES, FROM) : -1;
        if (n >= 0 && !sd_sha256_fd(fd, whole, NULL)) {
            sd_sha256(part, (size_t)n, old);
            old[8] = 0;
        }
        free(part);
    }
    if (fd >= 0)
        close(fd);
}

static void put_float(struct sd_meta *m, const char *key, double v)
{
    if (isnan(v))
        sd_meta_set(m, key, "None");
    else
        sd_meta_set_float(m, key, v);
}

static void put_bool(struct sd_meta *m, const char *key, bool v)
{
    sd_meta_set(m, key, v ? "True" : "False");
}

static void put_text(struct sd_meta *m, const char *key, const char *v)
{
    sd_meta_set(m, key, v ? v : "None");
}

static void put_output_name(struct sd_meta *m, const char *path)
{
    const char *base = sd_path_base(path);
    char *stem = sd_arena_strndup(&m->arena, base, sd_path_stem_len(base));
    m->failed |= !stem;
    sd_meta_set(m, "ss_output_name", stem);
}

static void put_buf(struct sd_meta *m, const char *key, struct sd_buf *b, int rc)
{
    if (rc)
        m->failed = true;
    else
        sd_meta_set(m, key, b->data);
    sd_buf_free(b);
}

/* {"buckets": {"0": {"resolution": [w, h], "count": n}, ...}} */
static void put_buckets(struct sd_meta *m, const struct sd_dataset *d)
{
    struct sd_buf b = SD_BUF_INIT;
    int rc = sd_buf_adds(&b, "{\"buckets\": {");
    for (size_t i = 0; i < d->n_buckets; i++)
        rc |= sd_buf_addf(&b, "%s\"%zu\": {\"resolution\": [%lld, %lld], \"count\": %zu}", i ? ", " : "", i,
                          (long long)d->buckets[i].size.w, (long long)d->buckets[i].size.h,
                          d->buckets[i].count);
    put_buf(m, "ss_bucket_info", &b, rc | sd_buf_adds(&b, "}}"));
}

/* --- tag counts, as sd-scripts takes them from captions
 * ------------------------------------------------------------ */

struct tag {
    const char *text;
    int64_t count;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct tag *)a)->text, ((const struct tag *)b)->text);
}

/* Adds the comma-separated parts of a caption, stripped and in lower case (ASCII). */
static int gather_tags(const char *caption, struct sd_arena *arena, struct tag **tags, size_t *n, size_t *cap)
{
    while (*caption) {
        size_t len = strcspn(caption, ",");
        const char *from = caption, *to = caption + len;
        caption = *to ? to + 1 : to;
        while (from < to && strchr(" \t\n\r", *from))
            from++;
        while (to > from && strchr(" \t\n\r", to[-1]))
            to--;
        if (from == to)
            continue;
        if (*n == *cap) {
            size_t more = *cap ? *cap * 2 : 256;
            struct tag *t = realloc(*tags, more * sizeof *t);
            if (!t)
                return -1;
            *tags = t;
            *cap = more;
        }
        char *text = sd_arena_strndup(arena, from, (size_t)(to - from));
        if (!text)
            return -1;
        for (char *c = text; *c; c++)
            if (*c >= 'A' && *c <= 'Z')
                *c += 'a' - 'A';
        (*tags)[(*n)++] = (struct tag){text, 1};
    }
    return 0;
}

static int add_json_string(struct sd_buf *b, const char *s)
{
    return sd_scan_quote(b, s, strlen(s));
}

/* {"FOLDER": {"tag": count, ...}}: one entry for the whole stream, named after the first picture's folder. */
static void put_tags(struct sd_meta *m, const struct sd_dataset *d, const char *folder)
{
    struct tag *tags = NULL;
    size_t n = 0, cap = 0, kept = 0;
    struct sd_buf b = SD_BUF_INIT;
    int rc = 0;
    for (size_t i = 0; i < d->n_items && !rc; i++)
        rc = gather_tags(d->items[i].caption, &m->arena, &tags, &n, &cap);
    if (n)
        qsort(tags, n, sizeof *tags, by_text);
    for (size_t i = 0; i < n; i++)
        if (kept && !strcmp(tags[kept - 1].text, tags[i].text))
            tags[kept - 1].count++;
        else
            tags[kept++] = tags[i];
    rc |= sd_buf_addc(&b, '{') | add_json_string(&b, folder) | sd_buf_adds(&b, ": {");
    for (size_t i = 0; i < kept && !rc; i++)
        rc = (i ? sd_buf_adds(&b, ", ") : 0) | add_json_string(&b, tags[i].text) |
             sd_buf_addf(&b, ": %lld", (long long)tags[i].count);
    free(tags);
    put_buf(m, "ss_tag_frequency", &b, rc | sd_buf_adds(&b, "}}"));
}

static const char *folder_of(const struct sd_dataset *d, struct sd_arena *arena)
{
    const char *path = d->items[0].path, *slash = strrchr(path, '/');
    char *folder = slash ? sd_arena_strndup(arena, path, (size_t)(slash - path)) : NULL;
    return folder ? sd_path_base(folder) : ".";
}

static void put_dirs(struct sd_meta *m, const struct sd_dataset *d, const char *folder)
{
    struct sd_buf b = SD_BUF_INIT;
    int rc = sd_buf_addc(&b, '{') | add_json_string(&b, folder) |
             sd_buf_addf(&b, ": {\"n_repeats\": %lld, \"img_count\": %zu}}", (long long)d->items[0].repeats,
                         d->n_items);
    put_buf(m, "ss_dataset_dirs", &b, rc);
}

/* --- the groups of keys
 * -------------------------------------------------------------------------------------------- */

/* What sd-scripts can do and this does not yet: its defaults, which say so. */
static const struct sd_store_meta unused[] = {
    {"ss_num_validation_images", "0"},
    {"ss_lowram", "False"},
    {"ss_reg_dataset_dirs", "{}"},
    {"ss_fp8_base", "False"},
};

static void put_unused(struct sd_meta *m)
{
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        sd_meta_set(m, unused[i].key, unused[i].value);
}

/* Where 0 stands for none. */
static void put_strength(struct sd_meta *m, const char *key, double v)
{
    put_float(m, key, v != 0 ? v : NAN);
}

static void put_noise(struct sd_meta *m, const struct sd_noise_options *o)
{
    put_strength(m, "ss_noise_offset", o->offset);
    put_bool(m, "ss_noise_offset_random_strength", o->offset_random);
    put_float(m, "ss_adaptive_noise_scale", o->offset_latent);
    if (o->multires)
        sd_meta_set_int(m, "ss_multires_noise_iterations", o->multires);
    else
        sd_meta_set(m, "ss_multires_noise_iterations", "None");
    put_float(m, "ss_multires_noise_discount", o->multires_discount);
    put_strength(m, "ss_ip_noise_gamma", o->input);
    put_bool(m, "ss_ip_noise_gamma_random_strength", o->input_random);
}

static void put_loss(struct sd_meta *m, const struct sd_trainer_options *o)
{
    static const char *const losses[] = {[SD_LOSS_L2] = "l2",
                                         [SD_LOSS_L1] = "l1",
                                         [SD_LOSS_SMOOTH_L1] = "smooth_l1",
                                         [SD_LOSS_HUBER] = "huber"};
    static const char *const schedules[] = {
        [SD_HUBER_SNR] = "snr", [SD_HUBER_EXPONENTIAL] = "exponential", [SD_HUBER_CONSTANT] = "constant"};
    put_bool(m, "ss_zero_terminal_snr", o->zero_terminal);
    put_strength(m, "ss_min_snr_gamma", o->weighting.min_snr_gamma);
    put_bool(m, "ss_debiased_estimation", o->weighting.debiased);
    sd_meta_set(m, "ss_loss_type", losses[o->loss]);
    sd_meta_set(m, "ss_huber_schedule", schedules[o->huber.schedule]);
    put_float(m, "ss_huber_c", o->huber.c);
    put_float(m, "ss_huber_scale", o->huber.scale);
}

/* The words as a dictionary in JSON: the last value of a key at its first place, as Python keeps them. */
static void put_network_args(struct sd_meta *m, const struct sd_train_config *c)
{
    const struct sd_strings *w = &c->network_words;
    struct sd_buf b = SD_BUF_INIT;
    char dropout[32];
    int rc = sd_buf_addc(&b, '{');
    for (size_t i = 0; i < w->n; i++) {
        size_t len = strcspn(w->v[i], "="), first = 0, last = i;
        while (strncmp(w->v[first], w->v[i], len + 1))
            first++;
        if (first < i)
            continue;
        for (size_t k = i + 1; k < w->n; k++)
            if (!strncmp(w->v[k], w->v[i], len + 1))
                last = k;
        const char *value = w->v[last] + len + 1;
        rc |= (i ? sd_buf_adds(&b, ", ") : 0) | sd_scan_quote(&b, w->v[i], len) | sd_buf_adds(&b, ": ") |
              sd_scan_quote(&b, value, strlen(value));
    }
    if (!c->dim_from_weights) { /* which sd-scripts adds for other networks' sake */
        sd_python_float(c->network_dropout, dropout);
        rc |= sd_buf_addf(&b, "%s\"dropout\": %s", w->n ? ", " : "",
                          isnan(c->network_dropout) ? "null" : dropout);
    }
    put_buf(m, "ss_network_args", &b, rc | sd_buf_addc(&b, '}'));
}

static void put_network(struct sd_meta *m, const struct sd_train_config *c)
{
    if (c->network_words.n)
        put_network_args(m, c);
    put_bool(m, "ss_v2", c->v2);
    sd_meta_set(m, "ss_base_model_version",
                c->v2                     ? c->trainer.v_prediction ? "sd_v2_v" : "sd_v2"
                : c->trainer.v_prediction ? "sd_v1_v"
                                          : "sd_v1");
    sd_meta_set(m, "ss_network_module", "networks.lora");
    sd_meta_set_int(m, "ss_network_dim", c->lora.rank);
    put_float(m, "ss_network_alpha", c->lora.alpha != 0 ? (double)c->lora.alpha : (double)c->lora.rank);
}

static void put_run(struct sd_meta *m, const struct sd_train_config *c, const struct sd_train_plan *plan,
                    const struct sd_train_progress *progress)
{
    char optimizer[400], schedule[64], rate[32];
    bool relative = sd_optim_relative(&c->optimizer); /* sd-scripts forgets the rates then */
    sd_meta_set_int(m, "ss_session_id", (int64_t)progress->session);
    put_float(m, "ss_training_started_at", (double)progress->started);
    put_float(m, "ss_training_finished_at", (double)progress->finished);
    put_float(m, "ss_learning_rate", relative ? NAN : c->lr);
    put_float(m, "ss_text_encoder_lr", relative ? NAN : c->text_encoder_lr);
    put_float(m, "ss_unet_lr", relative ? NAN : c->unet_lr);
    put_float(m, "ss_network_dropout", c->network_dropout);
    put_float(m, "ss_scale_weight_norms", c->scale_weight_norms != 0 ? c->scale_weight_norms : NAN);
    sd_meta_set_int(m, "ss_num_train_images", plan->pictures);
    sd_meta_set_int(m, "ss_num_reg_images", plan->reg_pictures);
    sd_meta_set_int(m, "ss_num_batches_per_epoch", plan->batches_per_epoch);
    sd_meta_set_int(m, "ss_num_epochs", plan->epochs);
    put_bool(m, "ss_gradient_checkpointing", c->trainer.checkpointing);
    sd_meta_set_int(m, "ss_gradient_accumulation_steps", c->trainer.accumulation);
    sd_meta_set_int(m, "ss_max_train_steps", plan->steps);
    if (c->lr_warmup_steps ==
        floor(c->lr_warmup_steps)) /* Python's int, or a float for a share of the steps */
        sd_meta_set_int(m, "ss_lr_warmup_steps", (int64_t)c->lr_warmup_steps);
    else
        put_float(m, "ss_lr_warmup_steps", c->lr_warmup_steps);
    sd_python_float(c->lr, rate);
    snprintf(schedule, sizeof schedule, "adafactor:%s", rate);
    sd_meta_set(m, "ss_lr_scheduler", relative ? schedule : c->lr_scheduler);
    sd_meta_set(m, "ss_mixed_precision",
                c->trainer.dtype == SD_BF16  ? "bf16"
                : c->trainer.dtype == SD_F16 ? "fp16"
                                             : "no");
    put_bool(m, "ss_full_fp16", false);
    if (c->trainer.clip_skip)
        sd_meta_set_int(m, "ss_clip_skip", c->trainer.clip_skip);
    else
        sd_meta_set(m, "ss_clip_skip", "None");
    sd_meta_set_int(m, "ss_max_token_length", c->max_token_length);
    sd_meta_set_int(m, "ss_seed", (int64_t)c->seed);
    put_text(m, "ss_training_comment", c->training_comment);
    snprintf(optimizer, sizeof optimizer, *c->optimizer.text ? "%s(%s)" : "%s", c->optimizer.kind->python,
             c->optimizer.text);
    sd_meta_set(m, "ss_optimizer", optimizer);
    put_float(m, "ss_max_grad_norm", c->optimizer.max_grad_norm);
    put_float(m, "ss_prior_loss_weight", c->prior_loss_weight);
    sd_meta_set_int(m, "ss_steps", progress->step);
    sd_meta_set_int(m, "ss_epoch", progress->epoch);
    put_text(m, "ss_sd_model_name", c->model_path ? sd_path_base(c->model_path) : NULL);
    if (progress->model_hash[0]) {
        sd_meta_set(m, "ss_sd_model_hash", progress->old_model_hash);
        sd_meta_set(m, "ss_new_sd_model_hash", progress->model_hash);
    }
}

static bool all_cached(const struct sd_dataset *d)
{
    for (size_t i = 0; i < d->n_items; i++)
        if (!d->items[i].latents)
            return false;
    return true;
}

/* Of several subsets the first speaks for all: loaders know one value. */
static void put_data(struct sd_meta *m, const struct sd_dataset *d)
{
    const char *folder = folder_of(d, &m->arena);
    const struct sd_subset *how = d->items[0].subset;
    const struct sd_augment *a = &how->augment;
    char range[64];
    sd_meta_set_int(m, "ss_batch_size_per_device", (int64_t)d->buckets[0].batch_size);
    sd_meta_set_int(m, "ss_total_batch_size", (int64_t)d->buckets[0].batch_size);
    put_bool(m, "ss_cache_latents", all_cached(d));
    put_bool(m, "ss_flip_aug", a->flip);
    put_bool(m, "ss_color_aug", a->color);
    put_bool(m, "ss_random_crop", a->random_crop);
    snprintf(range, sizeof range, "%g,%g", a->face_range[0], a->face_range[1]);
    put_text(m, "ss_face_crop_aug_range", a->face_crop ? range : NULL);
    put_bool(m, "ss_shuffle_caption", how->caption.shuffle);
    put_bool(m, "ss_enable_bucket", how->bucketed);
    sd_meta_set_int(m, "ss_keep_tokens", how->caption.keep_tokens);
    put_float(m, "ss_caption_dropout_rate", how->caption.dropout_rate);
    sd_meta_set_int(m, "ss_caption_dropout_every_n_epochs", how->caption.dropout_every_n_epochs);
    put_float(m, "ss_caption_tag_dropout_rate", how->caption.tag_dropout_rate);
    put_dirs(m, d, folder);
    put_tags(m, d, folder);
    put_buckets(m, d);
}

int sd_train_metadata(const struct sd_train_config *config, const struct sd_train_plan *plan,
                      const struct sd_dataset *data, const struct sd_train_progress *progress,
                      struct sd_meta *m, struct sd_err *err)
{
    char range[48];
    if (!config->no_metadata) {
        put_run(m, config, plan, progress);
        put_noise(m, &config->noise);
        put_loss(m, &config->trainer);
        put_output_name(m, config->output);
        put_data(m, data);
        put_unused(m);
    }
    put_network(m, config);
    if (config->timestep_range)
        snprintf(range, sizeof range, "%lld,%lld", (long long)config->noise.min_timestep,
                 (long long)config->noise.max_timestep);
    sd_modelspec_set(m, &(struct sd_modelspec){.v2 = config->v2,
                                               .v_prediction = config->trainer.v_prediction,
                                               .lora = true,
                                               .path = config->output,
                                               .side = (int)plan->model.unet.sample_size * 8,
                                               .date = progress->finished,
                                               .timestep_range = config->timestep_range ? range : NULL,
                                               .clip_skip = config->trainer.clip_skip});
    return m->failed ? sd_err_memory(err, 64) : 0;
}
