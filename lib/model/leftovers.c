/* What a model file holds beside its model. */
#include "model/convert.h"

#include <stdlib.h>
#include <string.h>

#include "model/layout.h"

struct search {
    struct sd_model_file *mf;
    const bool *taken;
    const char **params[SD_PARTS]; /* the parameters of parts that are taken, sorted */
    size_t counts[SD_PARTS];
    struct sd_arena *arena;
    struct sd_leftover *found;
    size_t n;
    struct sd_buf name;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int list_params(struct search *s, enum sd_part p, struct sd_err *err)
{
    static const struct sd_part_names ours = {"", SD_NAMING_DIFFUSERS};
    struct sd_layout_tensor *list;
    size_t n;
    if (sd_layout_part(sd_model_file_config(s->mf), p, &ours, s->arena, &list, &n, err))
        return -1;
    if (!(s->params[p] = sd_arena_array(s->arena, n + 1, sizeof *s->params[p])))
        return sd_err_memory(err, n * sizeof *s->params[p]);
    for (size_t i = 0; i < n; i++)
        s->params[p][i] = list[i].param[0];
    qsort(s->params[p], n, sizeof *s->params[p], by_text);
    s->counts[p] = n;
    return 0;
}

/* What a key with the prefix of a part is: 1 nothing to tell, 0 a leftover of *kind, -1 no memory. */
static int look(struct search *s, enum sd_part p, const struct sd_part_names *names, const char *key,
                enum sd_leftover_kind *kind)
{
    const struct sd_model_config *c = sd_model_file_config(s->mf);
    if (!s->taken[p])
        return 1;
    if (sd_name_is_surplus(c, p, names, key)) {
        *kind = p == SD_PART_TEXT ? SD_LEFTOVER_TEXT : SD_LEFTOVER_KNOWN;
        return 0;
    }
    int got = sd_name_from_file(c, p, names, key, 0, &s->name);
    if (got < 0)
        return -1;
    const char *name = s->name.data;
    *kind = SD_LEFTOVER_UNKNOWN;
    return got && bsearch(&name, s->params[p], s->counts[p], sizeof name, by_text) ? 1 : 0;
}

/* One key of a file that holds these parts. A prefix may be empty, so every part must say no. */
static int sort_key(struct search *s, const struct sd_tensor_file *tf, const bool in[SD_PARTS],
                    const struct sd_store_entry *e, struct sd_err *err)
{
    enum sd_leftover_kind kind = SD_LEFTOVER_UNKNOWN, k;
    bool stray = sd_name_is_stray(e->name), matched = false;
    for (int p = 0; p < SD_PARTS; p++) {
        const struct sd_part_names *names = in[p] ? sd_model_file_names(s->mf, (enum sd_part)p) : NULL;
        if (!names || strncmp(e->name, names->prefix, strlen(names->prefix)) || (stray && !*names->prefix))
            continue;
        int rc = look(s, (enum sd_part)p, names, e->name, &k);
        if (rc)
            return rc < 0 ? sd_err_memory(err, s->name.len) : 0;
        kind = !matched || k < kind ? k : kind;
        matched = true;
    }
    /* averages without plain weights are a U-Net that would be lost */
    if (!in[SD_PART_UNET] && !strncmp(e->name, SD_EMA_PREFIX, strlen(SD_EMA_PREFIX)))
        stray = false;
    if (!matched && stray)
        kind = SD_LEFTOVER_KNOWN;
    s->found[s->n++] = (struct sd_leftover){kind, e->name, e, tf};
    return 0;
}

static int search_file(struct search *s, const struct sd_tensor_file *tf, const bool in[SD_PARTS],
                       struct sd_err *err)
{
    for (size_t i = 0; i < sd_tensor_file_count(tf); i++)
        if (sort_key(s, tf, in, sd_tensor_file_entry(tf, i), err))
            return -1;
    return 0;
}

/* A part of a folder spells its leftovers without its name. */
static int name_after_part(struct search *s, size_t from, enum sd_part p, struct sd_err *err)
{
    for (size_t i = from; i < s->n; i++)
        if (!(s->found[i].key = sd_arena_printf(s->arena, "%s.%s", sd_part_name(p), s->found[i].from->name)))
            return sd_err_memory(err, strlen(s->found[i].from->name));
    return 0;
}

int sd_model_leftovers(struct sd_model_file *mf, const bool taken[SD_PARTS], struct sd_arena *arena,
                       struct sd_leftover **out, size_t *count, struct sd_err *err)
{
    struct search s = {.mf = mf, .taken = taken, .arena = arena};
    const struct sd_tensor_file *files[SD_PARTS] = {NULL};
    size_t total = 0;
    int rc = 0;
    for (int p = 0; p < SD_PARTS && !rc; p++) {
        if (!sd_model_file_has(mf, (enum sd_part)p) || (sd_model_file_is_folder(mf) && !taken[p]))
            continue;
        rc = sd_model_file_need(mf, (enum sd_part)p, err) ||
             (taken[p] && list_params(&s, (enum sd_part)p, err));
        files[p] = rc ? NULL : sd_model_file_tensors(mf, (enum sd_part)p);
        total += files[p] ? sd_tensor_file_count(files[p]) : 0;
    }
    if (!rc && !(s.found = sd_arena_array(arena, total + 1, sizeof *s.found)))
        rc = sd_err_memory(err, total * sizeof *s.found);
    if (!rc && !sd_model_file_is_folder(mf)) {
        bool in[SD_PARTS];
        const struct sd_tensor_file *tf = NULL;
        for (int p = 0; p < SD_PARTS; p++) {
            in[p] = files[p] != NULL;
            tf = in[p] ? files[p] : tf;
        }
        rc = tf ? search_file(&s, tf, in, err) : 0;
    }
    for (int p = 0; p < SD_PARTS && !rc && sd_model_file_is_folder(mf); p++) {
        bool in[SD_PARTS] = {false};
        size_t from = s.n;
        in[p] = true;
        if (files[p])
            rc = search_file(&s, files[p], in, err) || name_after_part(&s, from, (enum sd_part)p, err);
    }
    sd_buf_free(&s.name);
    *out = s.found;
    *count = s.n;
    return rc ? -1 : 0;
}
