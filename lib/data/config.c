#include "data/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/config_private.h"
#include "text/strmap.h"

enum { LATENT_PIXELS = 8 }; /* a side; sizes of training are whole latents */

void sd_config_free(struct sd_config *c)
{
    sd_arena_free(&c->arena);
    *c = SD_CONFIG_INIT;
}

void sd_config_warn(const struct sd_config *c, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (c->warn)
        c->warn(c->ctx, text);
}

/* ---- lists ---- */

struct sd_config_value *sd_config_add_value(struct sd_config *c, struct sd_config_value **list,
                                            enum sd_config_id id, struct sd_err *err)
{
    struct sd_config_value *v = sd_arena_alloc(&c->arena, sizeof *v);
    if (!v) {
        sd_err_memory(err, sizeof *v);
        return NULL;
    }
    v->id = id;
    v->next = *list;
    *list = v;
    return v;
}

struct sd_config_dataset *sd_config_add_dataset(struct sd_config *c, struct sd_err *err)
{
    struct sd_config_dataset *d = sd_arena_alloc(&c->arena, sizeof *d);
    if (!d) {
        sd_err_memory(err, sizeof *d);
        return NULL;
    }
    d->index = c->last ? c->last->index + 1 : 0;
    *(c->last ? &c->last->next : &c->datasets) = d;
    return c->last = d;
}

struct sd_config_subset *sd_config_add_subset(struct sd_config *c, struct sd_config_dataset *d,
                                              struct sd_config_subset *last, struct sd_err *err)
{
    struct sd_config_subset *s = sd_arena_alloc(&c->arena, sizeof *s);
    if (!s) {
        sd_err_memory(err, sizeof *s);
        return NULL;
    }
    *(last ? &last->next : &d->subsets) = s;
    return s;
}

const struct sd_config_value *sd_config_find(const struct sd_config_value *list, enum sd_config_id id)
{
    while (list && list->id != id)
        list = list->next;
    return list;
}

/* ---- the command line ---- */

int sd_config_set_option(struct sd_config *c, const struct sd_config_value *v, struct sd_err *err)
{
    const struct sd_config_key *k = sd_config_key(v->id);
    int bad = 0;
    if (k->type == SD_CONFIG_INT)
        bad = sd_config_check_number(k, (double)v->i, err);
    else if (k->type == SD_CONFIG_FLOAT || k->type == SD_CONFIG_NUMBER)
        bad = sd_config_check_number(k, v->d, err);
    else if (k->type == SD_CONFIG_SIZE)
        bad = sd_config_check_number(k, (double)v->size.w, err) ||
              sd_config_check_number(k, (double)v->size.h, err);
    struct sd_config_value *copy = bad ? NULL : sd_config_add_value(c, &c->options, v->id, err);
    if (!copy)
        return -1;
    struct sd_config_value *next = copy->next;
    *copy = *v;
    copy->next = next;
    return 0;
}

int sd_config_parse_range(const char *text, double range[2], struct sd_err *err)
{
    char *end;
    range[0] = strtod(text, &end);
    const char *second = end + 1;
    bool good = end != text && *end == ',';
    range[1] = good ? strtod(second, &end) : 0;
    if (!good || end == second || *end || !(range[0] > 0 && range[0] <= range[1] && range[1] <= 1e9))
        return sd_err_set(err, SD_ERR_USAGE, "'%s' is not LOW,HIGH with 0 < LOW <= HIGH", text);
    return 0;
}

/* ---- what holds ---- */

const struct sd_config_value *sd_config_get(const struct sd_config *c, const struct sd_config_dataset *d,
                                            const struct sd_config_subset *s, enum sd_config_id id)
{
    const struct sd_config_value *v = NULL;
    if (!(sd_config_key(id)->kinds >> d->kind & 1))
        return NULL;
    if (s)
        v = sd_config_find(s->values, id);
    if (!v)
        v = sd_config_find(d->values, id);
    if (!v)
        v = sd_config_find(c->general, id);
    return v ? v : sd_config_find(c->options, id);
}

bool sd_config_bool(const struct sd_config *c, const struct sd_config_dataset *d,
                    const struct sd_config_subset *s, enum sd_config_id id)
{
    const struct sd_config_value *v = sd_config_get(c, d, s, id);
    return v && v->b;
}

int64_t sd_config_int(const struct sd_config *c, const struct sd_config_dataset *d,
                      const struct sd_config_subset *s, enum sd_config_id id)
{
    const struct sd_config_value *v = sd_config_get(c, d, s, id);
    return v ? v->i : sd_config_key(id)->otherwise;
}

const char *sd_config_string(const struct sd_config *c, const struct sd_config_dataset *d,
                             const struct sd_config_subset *s, enum sd_config_id id)
{
    const struct sd_config_value *v = sd_config_get(c, d, s, id);
    return v ? v->s : NULL;
}

/* ---- the whole ---- */

/* "line 5: ", "data set 0: " without a file. Returns -1. */
static int at_dataset(const struct sd_config *c, const struct sd_config_dataset *d, struct sd_err *err)
{
    if (c->file && d->line)
        return sd_err_prefix(err, "%s: the data set of line %u", c->file, d->line);
    return -1;
}

static int check_buckets(const struct sd_config *c, const struct sd_config_dataset *d, struct sd_size r,
                         struct sd_err *err)
{
    int64_t steps = sd_config_int(c, d, NULL, SD_CONFIG_BUCKET_RESO_STEPS),
            low = sd_config_int(c, d, NULL, SD_CONFIG_MIN_BUCKET_RESO),
            high = sd_config_int(c, d, NULL, SD_CONFIG_MAX_BUCKET_RESO);
    if (steps % LATENT_PIXELS)
        return sd_err_set(err, SD_ERR_USAGE,
                          "bucket_reso_steps %lld is no multiple of %d, the pixels of a latent",
                          (long long)steps, LATENT_PIXELS);
    low = low / steps * steps;
    high = (high + steps - 1) / steps * steps;
    if ((r.w < r.h ? r.w : r.h) < low || (r.w > r.h ? r.w : r.h) > high)
        return sd_err_set(
            err, SD_ERR_USAGE,
            "the resolution %lldx%lld lies outside the bucket sides %lld to %lld (min_bucket_reso, "
            "max_bucket_reso)",
            (long long)r.w, (long long)r.h, (long long)low, (long long)high);
    return 0;
}

static int check_sizes(const struct sd_config *c, const struct sd_config_dataset *d, struct sd_err *err)
{
    const struct sd_config_value *v = sd_config_get(c, d, NULL, SD_CONFIG_RESOLUTION);
    if (!v)
        return sd_err_set(err, SD_ERR_USAGE,
                          "no resolution; expected in the data set, in [general] or as "
                          "--resolution");
    if (sd_config_bool(c, d, NULL, SD_CONFIG_ENABLE_BUCKET))
        return check_buckets(c, d, v->size, err);
    if (v->size.w % LATENT_PIXELS || v->size.h % LATENT_PIXELS)
        return sd_err_set(err, SD_ERR_USAGE,
                          "without buckets the resolution's sides must be multiples of %d, the pixels of a "
                          "latent; %lldx%lld are not",
                          LATENT_PIXELS, (long long)v->size.w, (long long)v->size.h);
    return 0;
}

/* What makes a subset the same as another one. */
static const char *subset_name(const struct sd_config_dataset *d, const struct sd_config_subset *s)
{
    return sd_config_find(s->values,
                          d->kind == SD_CONFIG_FINE_TUNING ? SD_CONFIG_METADATA_FILE : SD_CONFIG_IMAGE_DIR)
        ->s;
}

static int check_subset(struct sd_config *c, const struct sd_config_dataset *d, struct sd_config_subset *s,
                        struct sd_strmap *names, struct sd_err *err)
{
    const char *name = subset_name(d, s);
    size_t old;
    int64_t repeats = sd_config_int(c, d, s, SD_CONFIG_NUM_REPEATS);
    if (d->kind == SD_CONFIG_CONTROLNET && sd_config_bool(c, d, s, SD_CONFIG_RANDOM_CROP))
        return sd_err_set(err, SD_ERR_USAGE, "random_crop cannot go with conditioning_data_dir");
    if (repeats < 1) {
        s->dropped = true;
        sd_config_warn(c, "%s: this subset is left out: num_repeats is %lld, less than 1", name,
                       (long long)repeats);
        return 0;
    }
    if (sd_strmap_put(names, sd_str_of(name), 0, &old))
        return sd_err_memory(err, sizeof old);
    if (old != SD_STRMAP_NONE) {
        s->dropped = true;
        sd_config_warn(c, "%s: this subset is left out: the data set has it already", name);
    }
    return 0;
}

static int check_dataset(struct sd_config *c, const struct sd_config_dataset *d, struct sd_err *err)
{
    struct sd_strmap names = {0};
    const struct sd_config_value *split = sd_config_get(c, d, NULL, SD_CONFIG_VALIDATION_SPLIT);
    int bad = check_sizes(c, d, err);
    for (struct sd_config_subset *s = d->subsets; s && !bad; s = s->next)
        bad = check_subset(c, d, s, &names, err);
    if (!bad && d->kind != SD_CONFIG_DREAMBOOTH && split && split->d > 0)
        sd_config_warn(c, "validation_split works for DreamBooth data sets only; data set %lld is not split",
                       (long long)d->index);
    sd_strmap_free(&names);
    return bad ? at_dataset(c, d, err) : 0;
}

int sd_config_check(struct sd_config *c, struct sd_err *err)
{
    for (const struct sd_config_dataset *d = c->datasets; d; d = d->next)
        if (check_dataset(c, d, err))
            return -1;
    return 0;
}
