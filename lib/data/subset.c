#include "data/subset.h"

#include <stdlib.h>
#include <string.h>

struct sd_subset_known {
    const char *subset, *dataset; /* their JSON texts, in the arena; NULL: absent */
    size_t subset_len, dataset_len;
    struct sd_subset *value;
};

void sd_subsets_init(struct sd_subsets *s, const struct sd_subset *base)
{
    *s = (struct sd_subsets){.base = *base};
}

void sd_subsets_free(struct sd_subsets *s)
{
    free(s->known);
    sd_arena_free(&s->arena);
    *s = (struct sd_subsets){0};
}

/* --- reading
 * ------------------------------------------------------------------------------------------------------ */

static int read_text(struct sd_subsets *s, struct sd_record *r, const char *name, const char **to,
                     struct sd_err *err)
{
    const char *text;
    int found = sd_record_string(r, name, &text, NULL, err);
    if (found > 0 && !(*to = sd_arena_strdup(&s->arena, text)))
        return sd_err_memory(err, strlen(text));
    return found < 0 ? -1 : 0;
}

static int read_count(struct sd_record *r, const char *name, int64_t least, int64_t *to, struct sd_err *err)
{
    if (sd_record_int(r, name, to, err) < 0)
        return -1;
    if (*to < least || *to > 1000000000)
        return sd_err_set(err, SD_ERR_DATA, "%s is %lld, not %lld to 1000000000", name, (long long)*to,
                          (long long)least);
    return 0;
}

/* A share of 0 to 1. */
static int read_rate(struct sd_record *r, const char *name, double *to, struct sd_err *err)
{
    if (sd_record_double(r, name, to, err) < 0)
        return -1;
    if (!(*to >= 0 && *to <= 1))
        return sd_err_set(err, SD_ERR_DATA, "%s is %g, not 0 to 1", name, *to);
    return 0;
}

static int read_caption(struct sd_subsets *s, struct sd_record *r, struct sd_caption_options *c,
                        struct sd_err *err)
{
    bool shuffle = c->shuffle, wildcard = c->enable_wildcard;
    if (read_text(s, r, "caption_prefix", &c->prefix, err) ||
        read_text(s, r, "caption_suffix", &c->suffix, err) ||
        read_text(s, r, "caption_separator", &c->separator, err) ||
        read_text(s, r, "secondary_separator", &c->secondary_separator, err) ||
        read_text(s, r, "keep_tokens_separator", &c->keep_tokens_separator, err) ||
        read_count(r, "keep_tokens", 0, &c->keep_tokens, err) ||
        read_rate(r, "caption_dropout_rate", &c->dropout_rate, err) ||
        read_rate(r, "caption_tag_dropout_rate", &c->tag_dropout_rate, err) ||
        read_count(r, "caption_dropout_every_n_epochs", 0, &c->dropout_every_n_epochs, err) ||
        read_count(r, "token_warmup_min", 0, &c->token_warmup_min, err) ||
        sd_record_double(r, "token_warmup_step", &c->token_warmup_step, err) < 0 ||
        sd_record_bool(r, "shuffle_caption", &shuffle, err) < 0 ||
        sd_record_bool(r, "enable_wildcard", &wildcard, err) < 0)
        return -1;
    if (!(c->token_warmup_step >= 0 && c->token_warmup_step <= 1e9))
        return sd_err_set(err, SD_ERR_DATA, "token_warmup_step is %g, not 0 to 1000000000",
                          c->token_warmup_step);
    if (c->separator && !*c->separator)
        return sd_err_set(err, SD_ERR_DATA, "caption_separator is empty");
    c->shuffle = shuffle;
    c->enable_wildcard = wildcard;
    return 0;
}

/* An array of two numbers, 0 < smallest <= largest. */
static int read_range(struct sd_record *r, const char *name, struct sd_augment *a, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    char *end, text[128];
    if (m->value_len >= sizeof text)
        return sd_err_set(err, SD_ERR_DATA, "%s is not [smallest, largest]", name);
    memcpy(text, m->value, m->value_len);
    text[m->value_len] = 0;
    int used = -1;
    if (*text == '[') {
        a->face_range[0] = strtod(text + 1, &end);
        end += strspn(end, " \t");
        if (end != text + 1 && *end == ',') {
            a->face_range[1] = strtod(end + 1, &end);
            used = (int)strspn(end, " \t");
            used = end[used] == ']' ? used : -1;
        }
    }
    if (used < 0 ||
        !(a->face_range[0] > 0 && a->face_range[0] <= a->face_range[1] && a->face_range[1] <= 1e6))
        return sd_err_set(err, SD_ERR_DATA, "%s is %s, not [smallest, largest] of the training size", name,
                          text);
    a->face_crop = true;
    return 0;
}

static int read_augment(struct sd_record *r, struct sd_augment *a, struct sd_err *err)
{
    const char *filter = NULL;
    if (sd_record_bool(r, "flip_aug", &a->flip, err) < 0 ||
        sd_record_bool(r, "color_aug", &a->color, err) < 0 ||
        sd_record_bool(r, "random_crop", &a->random_crop, err) < 0 ||
        read_range(r, "face_crop_aug_range", a, err) ||
        sd_record_string(r, "resize_interpolation", &filter, NULL, err) < 0)
        return -1;
    if (filter && sd_resize_filter_parse(filter, &a->filter, NULL))
        return sd_err_set(err, SD_ERR_DATA, "resize_interpolation is \"%s\", none of %s", filter,
                          SD_RESIZE_NAMES);
    return 0;
}

static int read_subset(struct sd_subsets *s, const struct sd_member *m, struct sd_subset *out,
                       struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    if (!m)
        return 0;
    int rc = sd_record_parse(&r, m->value, m->value_len, err) || read_caption(s, &r, &out->caption, err) ||
                     read_augment(&r, &out->augment, err) ||
                     sd_record_bool(&r, "alpha_mask", &out->alpha_mask, err) < 0
                 ? -1
                 : 0;
    sd_record_free(&r);
    return rc ? sd_err_prefix(err, "subset") : 0;
}

static int read_dataset(const struct sd_member *m, struct sd_subset *out, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    double multiplier = 1;
    if (!m)
        return 0;
    int64_t batch_size = out->batch_size;
    int rc = sd_record_parse(&r, m->value, m->value_len, err) ||
                     read_count(&r, "index", 0, &out->dataset, err) ||
                     sd_record_int(&r, "batch_size", &batch_size, err) < 0 ||
                     sd_record_bool(&r, "enable_bucket", &out->bucketed, err) < 0 ||
                     sd_record_double(&r, "network_multiplier", &multiplier, err) < 0
                 ? -1
                 : 0;
    sd_record_free(&r);
    if (!rc && (batch_size < 0 || batch_size > 4096))
        rc = sd_err_set(err, SD_ERR_DATA, "batch_size is %lld, not 1 to 4096", (long long)batch_size);
    if (!rc && multiplier != 1)
        rc = sd_err_set(err, SD_ERR_DATA, "network_multiplier is %g; only 1 can be done", multiplier);
    out->batch_size = batch_size;
    return rc ? sd_err_prefix(err, "dataset") : 0;
}

/* --- finding
 * ------------------------------------------------------------------------------------------------------ */

static bool same(const char *text, size_t len, const struct sd_member *m)
{
    return m ? text && len == m->value_len && !memcmp(text, m->value, len) : !text;
}

static int keep(struct sd_subsets *s, const struct sd_member *m, const char **text, size_t *len,
                struct sd_err *err)
{
    if (m && !(*text = sd_arena_strndup(&s->arena, m->value, m->value_len)))
        return sd_err_memory(err, m->value_len);
    *len = m ? m->value_len : 0;
    return 0;
}

int sd_subsets_of(struct sd_subsets *s, const struct sd_record *r, struct sd_subset **out, struct sd_err *err)
{
    const struct sd_member *subset = sd_record_find(r, "subset"), *dataset = sd_record_find(r, "dataset");
    for (size_t i = 0; i < s->n; i++) {
        struct sd_subset_known *k = &s->known[(s->last + i) % s->n];
        if (same(k->subset, k->subset_len, subset) && same(k->dataset, k->dataset_len, dataset)) {
            s->last = (size_t)(k - s->known);
            *out = k->value;
            return 0;
        }
    }
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        struct sd_subset_known *more = realloc(s->known, cap * sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        s->known = more;
        s->cap = cap;
    }
    struct sd_subset_known k = {.value = sd_arena_alloc(&s->arena, sizeof *k.value)};
    if (!k.value)
        return sd_err_memory(err, sizeof *k.value);
    *k.value = s->base;
    if (read_subset(s, subset, k.value, err) || read_dataset(dataset, k.value, err) ||
        keep(s, subset, &k.subset, &k.subset_len, err) || keep(s, dataset, &k.dataset, &k.dataset_len, err))
        return -1;
    s->last = s->n;
    s->known[s->n++] = k;
    *out = k.value;
    return 0;
}
