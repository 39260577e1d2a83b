#include "train/metadata.h"

#include "base/buf.h"
#include "base/hash.h"
#include "base/pyfloat.h"
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
        if (n < 0 || sd_sha256(part, (size_t)n, old, NULL) || sd_sha256_fd(fd, whole, NULL))
            whole[0] = old[0] = 0;
        else
            old[8] = 0;
        free(part);
    }
    if (fd >= 0)
        close(fd);
}

/* Pairs being collected; the first failure sticks. */
struct pairs {
    struct sd_arena *arena;
    struct sd_store_meta *v;
    size_t n;
    bool failed;
};

enum { MAX_PAIRS = 128 };

static void put(struct pairs *p, const char *key, const char *value)
{
    char *copy = value ? sd_arena_strdup(p->arena, value) : NULL;
    if (!copy || p->n == MAX_PAIRS)
        p->failed = true;
    else
        p->v[p->n++] = (struct sd_store_meta){key, copy};
}

static void put_int(struct pairs *p, const char *key, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    put(p, key, text);
}

static void put_float(struct pairs *p, const char *key, double v)
{
    char text[32];
    sd_python_float(v, text);
    put(p, key, isnan(v) ? "None" : text);
}

static void put_bool(struct pairs *p, const char *key, bool v)
{
    put(p, key, v ? "True" : "False");
}

static void put_text(struct pairs *p, const char *key, const char *v)
{
    put(p, key, v ? v : "None");
}

static void put_time(struct pairs *p, const char *key, time_t t)
{
    put_float(p, key, (double)t);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void put_buf(struct pairs *p, const char *key, struct sd_buf *b, int rc)
{
    if (rc)
        p->failed = true;
    else
        put(p, key, b->data);
    sd_buf_free(b);
}

/* {"buckets": {"0": {"resolution": [w, h], "count": n}, ...}} */
static void put_buckets(struct pairs *p, const struct sd_dataset *d)
{
    struct sd_buf b = SD_BUF_INIT;
    int rc = sd_buf_adds(&b, "{\"buckets\": {");
    for (size_t i = 0; i < d->n_buckets; i++)
        rc |= sd_buf_addf(&b, "%s\"%zu\": {\"resolution\": [%lld, %lld], \"count\": %zu}", i ? ", " : "", i,
                          (long long)d->buckets[i].size.w, (long long)d->buckets[i].size.h,
                          d->buckets[i].count);
    put_buf(p, "ss_bucket_info", &b, rc | sd_buf_adds(&b, "}}"));
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
static void put_tags(struct pairs *p, const struct sd_dataset *d, const char *folder)
{
    struct tag *tags = NULL;
    size_t n = 0, cap = 0, kept = 0;
    struct sd_buf b = SD_BUF_INIT;
    int rc = 0;
    for (size_t i = 0; i < d->n_items && !rc; i++)
        rc = gather_tags(d->items[i].caption, p->arena, &tags, &n, &cap);
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
    put_buf(p, "ss_tag_frequency", &b, rc | sd_buf_adds(&b, "}}"));
}

static const char *folder_of(const struct sd_dataset *d, struct sd_arena *arena)
{
    const char *path = d->items[0].path, *slash = strrchr(path, '/');
    char *folder = slash ? sd_arena_strndup(arena, path, (size_t)(slash - path)) : NULL;
    return folder ? base_name(folder) : ".";
}

static void put_dirs(struct pairs *p, const struct sd_dataset *d, const char *folder)
{
    struct sd_buf b = SD_BUF_INIT;
    int rc = sd_buf_addc(&b, '{') | add_json_string(&b, folder) |
             sd_buf_addf(&b, ": {\"n_repeats\": %lld, \"img_count\": %zu}}", (long long)d->items[0].repeats,
                         d->n_items);
    put_buf(p, "ss_dataset_dirs", &b, rc);
}

/* --- the groups of keys
 * -------------------------------------------------------------------------------------------- */

/* What sd-scripts can do and this does not yet: its defaults, which say so. */
static const struct sd_store_meta unused[] = {
    {"ss_num_validation_images", "0"},
    {"ss_lowram", "False"},
    {"ss_noise_offset", "None"},
    {"ss_noise_offset_random_strength", "False"},
    {"ss_adaptive_noise_scale", "None"},
    {"ss_multires_noise_iterations", "None"},
    {"ss_multires_noise_discount", "0.3"},
    {"ss_ip_noise_gamma", "None"},
    {"ss_ip_noise_gamma_random_strength", "False"},
    {"ss_zero_terminal_snr", "False"},
    {"ss_min_snr_gamma", "None"},
    {"ss_debiased_estimation", "False"},
    {"ss_face_crop_aug_range", "None"},
    {"ss_color_aug", "False"},
    {"ss_random_crop", "False"},
    {"ss_reg_dataset_dirs", "{}"},
    {"ss_huber_schedule", "snr"},
    {"ss_huber_scale", "1.0"},
    {"ss_huber_c", "0.1"},
    {"ss_fp8_base", "False"},
};

static void put_unused(struct pairs *p)
{
    for (size_t i = 0; i < sizeof unused / sizeof *unused; i++)
        put(p, unused[i].key, unused[i].value);
}

/* The words as a dictionary in JSON: the last value of a key at its first place, as Python keeps them. */
static void put_network_args(struct pairs *p, const struct sd_train_config *c)
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
    put_buf(p, "ss_network_args", &b, rc | sd_buf_addc(&b, '}'));
}

static void put_network(struct pairs *p, const struct sd_train_config *c)
{
    if (c->network_words.n)
        put_network_args(p, c);
    put_bool(p, "ss_v2", c->v2);
    put(p, "ss_base_model_version",
        c->v2                     ? c->trainer.v_prediction ? "sd_v2_v" : "sd_v2"
        : c->trainer.v_prediction ? "sd_v1_v"
                                  : "sd_v1");
    put(p, "ss_network_module", "networks.lora");
    put_int(p, "ss_network_dim", c->lora.rank);
    put_float(p, "ss_network_alpha", c->lora.alpha != 0 ? (double)c->lora.alpha : (double)c->lora.rank);
}

static void put_run(struct pairs *p, const struct sd_train_config *c, const struct sd_train_plan *plan,
                    const struct sd_train_progress *progress)
{
    char optimizer[128], wd[32];
    put_int(p, "ss_session_id", (int64_t)progress->session);
    put_time(p, "ss_training_started_at", progress->started);
    put_time(p, "ss_training_finished_at", progress->finished);
    put_float(p, "ss_learning_rate", c->lr);
    put_float(p, "ss_text_encoder_lr", c->text_encoder_lr);
    put_float(p, "ss_unet_lr", c->unet_lr);
    put_float(p, "ss_network_dropout", c->network_dropout);
    put_float(p, "ss_scale_weight_norms", c->scale_weight_norms != 0 ? c->scale_weight_norms : NAN);
    put_int(p, "ss_num_train_images", plan->pictures);
    put_int(p, "ss_num_reg_images", plan->reg_pictures);
    put_int(p, "ss_num_batches_per_epoch", plan->batches_per_epoch);
    put_int(p, "ss_num_epochs", plan->epochs);
    put_bool(p, "ss_gradient_checkpointing", c->trainer.checkpointing);
    put_int(p, "ss_gradient_accumulation_steps", c->trainer.accumulation);
    put_int(p, "ss_max_train_steps", plan->steps);
    if (c->lr_warmup_steps ==
        floor(c->lr_warmup_steps)) /* Python's int, or a float for a share of the steps */
        put_int(p, "ss_lr_warmup_steps", (int64_t)c->lr_warmup_steps);
    else
        put_float(p, "ss_lr_warmup_steps", c->lr_warmup_steps);
    put(p, "ss_lr_scheduler", c->lr_scheduler);
    put(p, "ss_mixed_precision", c->trainer.dtype == SD_BF16 ? "bf16" : "no");
    put_bool(p, "ss_full_fp16", false);
    if (c->trainer.clip_skip)
        put_int(p, "ss_clip_skip", c->trainer.clip_skip);
    else
        put(p, "ss_clip_skip", "None");
    put_int(p, "ss_max_token_length", c->max_token_length);
    put_int(p, "ss_seed", (int64_t)c->seed);
    put_text(p, "ss_training_comment", c->training_comment);
    sd_python_float(c->optimizer.weight_decay, wd);
    snprintf(optimizer, sizeof optimizer, "torch.optim.adamw.AdamW(weight_decay=%s)", wd);
    put(p, "ss_optimizer",
        c->optimizer.weight_decay == SD_ADAMW_DEFAULT.weight_decay ? "torch.optim.adamw.AdamW" : optimizer);
    put_float(p, "ss_max_grad_norm", c->optimizer.max_grad_norm);
    put_float(p, "ss_prior_loss_weight", c->prior_loss_weight);
    put(p, "ss_loss_type", "l2");
    put_int(p, "ss_steps", progress->step);
    put_int(p, "ss_epoch", progress->epoch);
    put_text(p, "ss_sd_model_name", c->model_path ? base_name(c->model_path) : NULL);
    if (progress->model_hash[0]) {
        put(p, "ss_sd_model_hash", progress->old_model_hash);
        put(p, "ss_new_sd_model_hash", progress->model_hash);
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
static void put_data(struct pairs *p, const struct sd_dataset *d)
{
    const char *folder = folder_of(d, p->arena);
    const struct sd_subset *how = d->items[0].subset;
    const struct sd_augment *a = &how->augment;
    put_int(p, "ss_batch_size_per_device", (int64_t)d->buckets[0].batch_size);
    put_int(p, "ss_total_batch_size", (int64_t)d->buckets[0].batch_size);
    put_bool(p, "ss_cache_latents", all_cached(d));
    put_bool(p, "ss_flip_aug", a->flip);
    put_bool(p, "ss_color_aug", a->color);
    put_bool(p, "ss_random_crop", a->random_crop);
    if (a->face_crop)
        put(p, "ss_face_crop_aug_range",
            sd_arena_printf(p->arena, "%g,%g", a->face_range[0], a->face_range[1]));
    put_bool(p, "ss_shuffle_caption", how->caption.shuffle);
    put_bool(p, "ss_enable_bucket", how->bucketed);
    put_int(p, "ss_keep_tokens", how->caption.keep_tokens);
    put_float(p, "ss_caption_dropout_rate", how->caption.dropout_rate);
    put_int(p, "ss_caption_dropout_every_n_epochs", how->caption.dropout_every_n_epochs);
    put_float(p, "ss_caption_tag_dropout_rate", how->caption.tag_dropout_rate);
    put_dirs(p, d, folder);
    put_tags(p, d, folder);
    put_buckets(p, d);
}

/* https://github.com/Stability-AI/ModelSpec */
static void put_modelspec(struct pairs *p, const struct sd_train_config *c, const struct sd_train_plan *plan,
                          const char *title, time_t now)
{
    char text[64];
    struct tm tm;
    bool v = c->trainer.v_prediction;
    put(p, "modelspec.sai_model_spec", "1.0.1");
    put(p, "modelspec.architecture",
        c->v2 ? v ? "stable-diffusion-v2-768-v/lora" : "stable-diffusion-v2-512/lora"
              : "stable-diffusion-v1/lora");
    put(p, "modelspec.implementation", "diffusers");
    put(p, "modelspec.title", title);
    int side = (int)plan->model.unet.sample_size * 8;
    snprintf(text, sizeof text, "%dx%d", side, side);
    put(p, "modelspec.resolution", text);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", localtime_r(&now, &tm));
    put(p, "modelspec.date", text);
    put(p, "modelspec.prediction_type", v ? "v" : "epsilon");
    if (c->trainer.clip_skip)
        put_int(p, "modelspec.encoder_layer", c->trainer.clip_skip);
}

int sd_train_metadata(const struct sd_train_config *config, const struct sd_train_plan *plan,
                      const struct sd_dataset *data, const struct sd_train_progress *progress,
                      struct sd_arena *arena, struct sd_store_meta **meta, size_t *count, struct sd_err *err)
{
    struct pairs p = {.arena = arena, .v = sd_arena_array(arena, MAX_PAIRS, sizeof *p.v)};
    const char *name = base_name(config->output), *dot = strrchr(name, '.');
    char *stem = sd_arena_strndup(arena, name, dot ? (size_t)(dot - name) : strlen(name));
    if (!p.v || !stem)
        return sd_err_memory(err, MAX_PAIRS * sizeof *p.v);
    if (!config->no_metadata) {
        put_run(&p, config, plan, progress);
        put(&p, "ss_output_name", stem);
        put_data(&p, data);
        put_unused(&p);
    }
    put_network(&p, config);
    put_modelspec(&p, config, plan, stem, progress->finished);
    if (p.failed)
        return sd_err_memory(err, 64);
    *meta = p.v;
    *count = p.n;
    return 0;
}
