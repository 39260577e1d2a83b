#include "data/bucket_dataset.h"

#include "base/arena.h"
#include "text/strmap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DATASETS = 1000, /* a hostile stream must not fill memory with lists of buckets */
    MAX_TEXTS = 4096,    /* others are parsed each time */
    MAX_BATCH = 1 << 20,
};

struct sd_bucket_datasets {
    struct sd_bucket_settings base;
    bool variants;
    pthread_mutex_t lock; /* for all that follows */
    struct sd_bucket_dataset *all[MAX_DATASETS];
    size_t n;
    struct sd_strmap texts; /* of members: which data set */
    struct sd_arena keys;
    struct sd_record parsed; /* scratch */
};

/* ---- what could be instead ---- */

static void add_variant(struct sd_bucket_dataset *d, const char *what, struct sd_bucket_config config)
{
    struct sd_bucket_variant *v = &d->variants[d->n_variants];
    if (d->n_variants < SD_BUCKET_VARIANTS && !sd_buckets_init(&v->buckets, &config, NULL)) {
        v->what = what;
        d->n_variants++;
    }
}

static void add_variants(struct sd_bucket_dataset *d)
{
    static const struct {
        int64_t steps;
        const char *what;
    } steps[] = {{8, "steps of 8"}, {32, "steps of 32"}, {64, "steps of 64"}};
    const struct sd_bucket_config now = d->settings.config;
    struct sd_bucket_config c = now;
    if (now.single) {
        c.single = false;
        add_variant(d, "with buckets", c);
        return;
    }
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        c.steps = steps[i].steps;
        if (c.steps != now.steps)
            add_variant(d, steps[i].what, c);
    }
    c = now;
    c.no_upscale = !now.no_upscale;
    add_variant(d, c.no_upscale ? "never enlarging" : "enlarging", c);
    if (now.no_upscale)
        return;
    c = now;
    c.min_reso /= 2;
    c.max_reso *= 2;
    add_variant(d, "sides half to double", c);
    c = now;
    c.min_reso = now.min_reso * 3 / 2;
    c.max_reso = now.max_reso * 3 / 4;
    add_variant(d, "sides 3/2 to 3/4", c);
}

/* ---- the table ---- */

static bool equal(const struct sd_bucket_settings *a, const struct sd_bucket_settings *b)
{
    const struct sd_bucket_config *x = &a->config, *y = &b->config;
    return a->index == b->index && a->batch_size == b->batch_size && x->resolution.w == y->resolution.w &&
           x->resolution.h == y->resolution.h && x->min_reso == y->min_reso && x->max_reso == y->max_reso &&
           x->steps == y->steps && x->no_upscale == y->no_upscale && x->single == y->single;
}

static void free_dataset(struct sd_bucket_dataset *s)
{
    for (size_t i = 0; s && i < s->n_variants; i++)
        sd_buckets_free(&s->variants[i].buckets);
    free(s);
}

/* The data set with these settings, made where there is none yet. With the lock held. */
static struct sd_bucket_dataset *enter(struct sd_bucket_datasets *d, const struct sd_bucket_settings *s,
                                       struct sd_err *err)
{
    for (size_t i = 0; i < d->n; i++)
        if (equal(&d->all[i]->settings, s))
            return d->all[i];
    if (d->n == MAX_DATASETS) {
        sd_err_set(err, SD_ERR_DATA, "more than %d data sets", MAX_DATASETS);
        return NULL;
    }
    struct sd_bucket_dataset *new = calloc(1, sizeof *new);
    if (!new) {
        sd_err_memory(err, sizeof *new);
        return NULL;
    }
    *new = (struct sd_bucket_dataset){.settings = *s, .number = d->n, .n_variants = 1};
    if (sd_buckets_init(&new->variants[0].buckets, &s->config, err) ||
        sd_bucket_check_latents(&s->config, err)) {
        free_dataset(new);
        return NULL;
    }
    if (d->variants)
        add_variants(new);
    return d->all[d->n++] = new;
}

struct sd_bucket_datasets *sd_bucket_datasets_new(const struct sd_bucket_settings *base, bool variants,
                                                  struct sd_err *err)
{
    struct sd_bucket_datasets *d = calloc(1, sizeof *d);
    if (!d) {
        sd_err_memory(err, sizeof *d);
        return NULL;
    }
    d->base = *base;
    d->variants = variants;
    pthread_mutex_init(&d->lock, NULL);
    if (!enter(d, base, err)) {
        sd_bucket_datasets_free(d);
        return NULL;
    }
    return d;
}

void sd_bucket_datasets_free(struct sd_bucket_datasets *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n; i++)
        free_dataset(d->all[i]);
    sd_strmap_free(&d->texts);
    sd_arena_free(&d->keys);
    sd_record_free(&d->parsed);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* ---- the member ---- */

static int read_settings(struct sd_record *r, struct sd_bucket_settings *s, struct sd_err *err)
{
    struct sd_bucket_config *c = &s->config;
    bool enable = !c->single;
    int64_t resolution[2] = {c->resolution.w, c->resolution.h};
    if (sd_record_need_int(r, "index", &s->index, err) ||
        sd_record_ints(r, "resolution", resolution, 2, err) < 0 ||
        sd_record_int(r, "batch_size", &s->batch_size, err) < 0 ||
        sd_record_bool(r, "enable_bucket", &enable, err) < 0 ||
        sd_record_int(r, "min_bucket_reso", &c->min_reso, err) < 0 ||
        sd_record_int(r, "max_bucket_reso", &c->max_reso, err) < 0 ||
        sd_record_int(r, "bucket_reso_steps", &c->steps, err) < 0 ||
        sd_record_bool(r, "bucket_no_upscale", &c->no_upscale, err) < 0)
        return -1;
    c->resolution = (struct sd_size){resolution[0], resolution[1]};
    c->single = !enable;
    if (s->index < 0 || s->index > INT32_MAX)
        return sd_err_set(err, SD_ERR_DATA, "index is %lld, not 0 to %d", (long long)s->index, INT32_MAX);
    if (s->batch_size < 1 || s->batch_size > MAX_BATCH)
        return sd_err_set(err, SD_ERR_DATA, "batch_size is %lld, not 1 to %d", (long long)s->batch_size,
                          MAX_BATCH);
    return 0;
}

/* The data set of the member's text; a text is only remembered when it is good. With the lock held. */
static struct sd_bucket_dataset *find(struct sd_bucket_datasets *d, struct sd_str text, struct sd_err *err)
{
    size_t known = sd_strmap_get(&d->texts, text);
    if (known != SD_STRMAP_NONE)
        return d->all[known];
    struct sd_bucket_settings s = d->base;
    if (sd_record_parse(&d->parsed, text.data, text.len, err) || read_settings(&d->parsed, &s, err))
        return NULL;
    struct sd_bucket_dataset *set = enter(d, &s, err);
    if (!set || d->texts.n >= MAX_TEXTS)
        return set;
    struct sd_str key = {sd_arena_strndup(&d->keys, text.data, text.len), text.len};
    if (!key.data || sd_strmap_put(&d->texts, key, set->number, NULL)) {
        sd_err_memory(err, text.len);
        return NULL;
    }
    return set;
}

const struct sd_bucket_dataset *sd_bucket_dataset_of(struct sd_bucket_datasets *d,
                                                     struct sd_bucket_last *last, const struct sd_record *r,
                                                     struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, "dataset");
    if (!m)
        return d->all[0];
    if (last->dataset && last->text.len == m->value_len && !memcmp(last->text.data, m->value, m->value_len))
        return last->dataset;
    pthread_mutex_lock(&d->lock);
    last->dataset = find(d, (struct sd_str){m->value, m->value_len}, err);
    pthread_mutex_unlock(&d->lock);
    if (!last->dataset) {
        if (err->code == SD_ERR_USAGE) /* what was wrong on the command line is wrong here in the data */
            err->code = SD_ERR_DATA;
        sd_err_prefix(err, "member \"dataset\"");
        return NULL;
    }
    sd_buf_clear(&last->text);
    if (sd_buf_add(&last->text, m->value, m->value_len)) {
        const struct sd_bucket_dataset *found = last->dataset;
        last->dataset = NULL; /* found again next time */
        return found;
    }
    return last->dataset;
}

/* ---- in order ---- */

static int order(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_settings(const void *pa, const void *pb)
{
    const struct sd_bucket_settings *a = &(*(const struct sd_bucket_dataset *const *)pa)->settings;
    const struct sd_bucket_settings *b = &(*(const struct sd_bucket_dataset *const *)pb)->settings;
    const struct sd_bucket_config *x = &a->config, *y = &b->config;
    const int64_t keys[][2] = {{a->index, b->index},
                               {x->resolution.w, y->resolution.w},
                               {x->resolution.h, y->resolution.h},
                               {x->steps, y->steps},
                               {x->min_reso, y->min_reso},
                               {x->max_reso, y->max_reso},
                               {x->no_upscale, y->no_upscale},
                               {x->single, y->single},
                               {a->batch_size, b->batch_size}};
    int o = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !o; i++)
        o = order(keys[i][0], keys[i][1]);
    return o;
}

const struct sd_bucket_dataset **sd_bucket_datasets_sorted(const struct sd_bucket_datasets *d, size_t *n)
{
    const struct sd_bucket_dataset **all = malloc(d->n * sizeof *all);
    if (!all)
        return NULL;
    memcpy(all, d->all, d->n * sizeof *all);
    qsort(all, d->n, sizeof *all, by_settings);
    *n = d->n;
    return all;
}
