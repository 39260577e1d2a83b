#include "model/mix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model/mix_private.h"

/* One tensor of the result, or the third of one, as the first model (or the VAE's file) has it. */
struct item {
    const char *key; /* in the result */
    int slice;       /* of the key's rows: -1 for all, else 0, 1, 2 */
    const struct sd_store_entry *entry;
    const char *path;
    enum sd_part part; /* SD_PARTS for what is no parameter: entry's name is then its key in the file */
    bool unet;         /* belongs to the U-Net as sd-scripts sees it: not to the VAE or the text encoder */
    bool baked;        /* from the file of the VAE */
    bool conv;         /* a linear layer here that is a 1x1 convolution in the original */
};

struct plan {
    struct sd_mix *m;
    struct sd_model_file *first, *vae;
    struct item *items; /* sorted by key and slice once collected */
    size_t count, cap;
    struct sd_buf name, key;
    struct sd_err *err;
};

/* The block of a key of the original U-Net, without its prefix; -1 for none. */
static int block_of(const char *key)
{
    int i;
    if (!strncmp(key, "time_embed.", 11))
        return 0;
    if (!strncmp(key, "out.", 4))
        return SD_MIX_BLOCKS - 1;
    if (!strncmp(key, "middle_block.", 13))
        return 12;
    if (sscanf(key, "input_blocks.%2d.", &i) == 1 && i >= 0 && i < 12)
        return i;
    if (sscanf(key, "output_blocks.%2d.", &i) == 1 && i >= 0 && i < 12)
        return 13 + i;
    return -1;
}

/* How the result spells a part: as the model does where that is an original spelling, else as original files
 * do. sd-scripts writes text encoders with text_model. too. */
static struct sd_part_names names_out(struct sd_model_file *mf, enum sd_part part)
{
    struct sd_part_names own = *sd_model_file_names(mf, part);
    if (own.naming == SD_NAMING_LDM || own.naming == SD_NAMING_OPENCLIP)
        return own;
    return sd_names_ldm(sd_model_file_config(mf), part);
}

static bool same_spelling(struct sd_part_names a, const struct sd_part_names *b)
{
    return a.naming == b->naming && !strcmp(a.prefix, b->prefix);
}

/* merge_models.py's idea of what its --unet_only is about. */
static bool is_unet_key(const char *key)
{
    return !strstr(key, "first_stage_model") && !strstr(key, "cond_stage_model") &&
           !strstr(key, "conditioner.");
}

static int note(struct plan *p, struct sd_strings *list, const char *name)
{
    const char *kept = sd_arena_strdup(&p->m->arena, name);
    return kept && !sd_strings_add(list, kept) ? 0 : sd_err_memory(p->err, strlen(name));
}

static int add_item(struct plan *p, const char *key, struct item item)
{
    if (p->count == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 2048;
        struct item *grown = realloc(p->items, cap * sizeof *grown);
        if (!grown)
            return sd_err_memory(p->err, cap * sizeof *grown);
        p->items = grown;
        p->cap = cap;
    }
    if (!(item.key = sd_arena_strdup(&p->m->arena, key)))
        return sd_err_memory(p->err, strlen(key));
    p->items[p->count++] = item;
    return 0;
}

/* The parameters of a part under their original names. */
static int add_part(struct plan *p, struct sd_model_file *mf, enum sd_part part)
{
    const struct sd_model_config *c = sd_model_file_config(mf);
    if (sd_model_file_need(mf, part, p->err))
        return -1;
    struct sd_part_names names = names_out(mf, part);
    for (size_t i = 0; i < sd_model_file_count(mf, part); i++) {
        const struct sd_store_entry *e = sd_model_file_entry(mf, part, i);
        int slice, found = sd_name_to_file(c, &names, e->name, &p->key, &slice);
        if (found < 0)
            return sd_err_memory(p->err, p->key.len);
        struct item item = {.slice = slice,
                            .entry = e,
                            .path = sd_model_file_path(mf),
                            .part = part,
                            .unet = part == SD_PART_UNET,
                            .baked = mf == p->vae,
                            .conv = part == SD_PART_VAE && e->ndim == 2 && names.naming == SD_NAMING_LDM};
        if (found ? add_item(p, p->key.data, item) : note(p, &p->m->skipped[0], e->name))
            return -1;
    }
    return 0;
}

/* The file a part lies in when it is tf, else NULL. */
static const struct sd_part_names *names_in(struct sd_model_file *mf, int part,
                                            const struct sd_tensor_file *tf)
{
    return sd_model_file_tensors(mf, (enum sd_part)part) == tf ? sd_model_file_names(mf, (enum sd_part)part)
                                                               : NULL;
}

/* Whether a key of a file is a parameter of some part. -1 when memory is out. */
static int is_parameter(struct plan *p, struct sd_model_file *mf, const struct sd_tensor_file *tf,
                        const char *key)
{
    const struct sd_model_config *c = sd_model_file_config(mf);
    for (int part = 0; part < SD_PARTS; part++) {
        const struct sd_part_names *names = names_in(mf, part, tf);
        if (!names || sd_name_is_surplus(c, (enum sd_part)part, names, key))
            continue;
        int n = sd_name_from_file(c, (enum sd_part)part, names, key, 0, &p->name);
        if (n)
            return n < 0 ? -1 : 1;
    }
    return 0;
}

/* The part whose prefix a key has, SD_PARTS for none. */
static int part_of_key(struct sd_model_file *mf, const struct sd_tensor_file *tf, const char *key)
{
    for (int part = 0; part < SD_PARTS; part++) {
        const struct sd_part_names *names = names_in(mf, part, tf);
        if (names && *names->prefix && !strncmp(key, names->prefix, strlen(names->prefix)))
            return part;
    }
    return SD_PARTS;
}

/* A tensor of the first model that is no parameter: position_ids, noise schedules, EMA weights, what is left
 * of a training. It stays under its key, where the key can stay: in a part that is spelt anew it needs an
 * original name. */
static int add_stray(struct plan *p, const struct sd_tensor_file *tf, const struct sd_store_entry *e)
{
    const struct sd_model_config *c = sd_model_file_config(p->first);
    int part = part_of_key(p->first, tf, e->name), slice, found = 1;
    const char *key = e->name;
    if (part == SD_PART_VAE && p->vae)
        return 0;
    if (part == SD_PARTS && sd_model_file_is_folder(p->first))
        found = 0;
    if (part != SD_PARTS) {
        const struct sd_part_names *names = sd_model_file_names(p->first, (enum sd_part)part);
        struct sd_part_names out = names_out(p->first, (enum sd_part)part);
        if (!same_spelling(out, names)) {
            found = sd_name_from_file(c, (enum sd_part)part, names, key, 0, &p->name);
            if (found > 0)
                found = sd_name_to_file(c, &out, p->name.data, &p->key, &slice);
            key = p->key.data;
        }
    }
    if (found < 0)
        return sd_err_memory(p->err, p->key.len);
    if (!found)
        return note(p, &p->m->skipped[0], e->name);
    return add_item(p, key,
                    (struct item){.slice = -1,
                                  .entry = e,
                                  .path = sd_model_file_path(p->first),
                                  .part = SD_PARTS,
                                  .unet = is_unet_key(key)});
}

/* Calls fn for each tensor, in each of the model's files, that is no parameter (all: for each). */
static int each_tensor(struct plan *p, struct sd_model_file *mf, bool all,
                       int (*fn)(struct plan *, struct sd_model_file *, const struct sd_tensor_file *,
                                 const struct sd_store_entry *))
{
    const struct sd_tensor_file *last = NULL;
    for (int part = 0; part < SD_PARTS; part++) {
        const struct sd_tensor_file *tf = sd_model_file_tensors(mf, (enum sd_part)part);
        if (!tf || tf == last) /* a single file has all parts */
            continue;
        last = tf;
        for (size_t i = 0; i < sd_tensor_file_count(tf); i++) {
            const struct sd_store_entry *e = sd_tensor_file_entry(tf, i);
            int known = all ? 0 : is_parameter(p, mf, tf, e->name);
            if (known < 0)
                return sd_err_memory(p->err, p->name.len);
            if (!known && fn(p, mf, tf, e))
                return -1;
        }
    }
    return 0;
}

static int stray(struct plan *p, struct sd_model_file *mf, const struct sd_tensor_file *tf,
                 const struct sd_store_entry *e)
{
    (void)mf;
    return add_stray(p, tf, e);
}

static int by_key(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    int order = strcmp(a->key, b->key);
    return order ? order : a->slice - b->slice;
}

static int collect(struct plan *p)
{
    for (int part = 0; part < SD_PARTS; part++) {
        struct sd_model_file *mf = part == SD_PART_VAE && p->vae ? p->vae : p->first;
        if (sd_model_file_has(mf, (enum sd_part)part) && add_part(p, mf, (enum sd_part)part))
            return -1;
    }
    if (each_tensor(p, p->first, false, stray))
        return -1;
    qsort(p->items, p->count, sizeof *p->items, by_key);
    return 0;
}

/* The tensor of a model that goes with an item. */
static bool find(struct sd_model_file *mf, const struct item *item, struct sd_store_entry *e)
{
    if (item->part != SD_PARTS)
        return sd_model_file_find(mf, item->entry->name, e);
    if (sd_model_file_is_folder(mf))
        return false;
    for (int part = 0; part < SD_PARTS; part++) {
        const struct sd_tensor_file *tf = sd_model_file_tensors(mf, (enum sd_part)part);
        const struct sd_store_entry *hit = tf ? sd_tensor_file_find(tf, item->entry->name) : NULL;
        if (hit) {
            *e = *hit;
            return true;
        }
    }
    return false;
}

static int significant(const struct sd_store_entry *e)
{
    int n = e->ndim;
    while (n > 0 && e->shape[n - 1] == 1)
        n--;
    return n;
}

static bool same_shape(const struct sd_store_entry *a, const struct sd_store_entry *b)
{
    int n = significant(a);
    return n == significant(b) && (!n || !memcmp(a->shape, b->shape, (size_t)n * sizeof *a->shape));
}

/* Inpainting models see more channels than others: their first convolution is mixed in those that all have.
 */
static bool fewer_channels(const struct item *item, const struct sd_store_entry *e)
{
    const int64_t *wide = item->entry->shape, *s = e->shape;
    return item->part == SD_PART_UNET && !strcmp(item->entry->name, "unet.conv_in.weight") &&
           item->entry->ndim == 4 && e->ndim == 4 && s[0] == wide[0] && s[1] < wide[1] && s[2] == wide[2] &&
           s[3] == wide[3] && s[1] > 0;
}

static size_t row_of(const struct sd_store_entry *e)
{
    return (size_t)(e->shape[1] * e->shape[2] * e->shape[3]);
}

/* Adds e, which comes from the file at path, to the piece's terms. */
static int add_term(struct plan *p, struct mix_piece *piece, const struct item *item,
                    const struct sd_store_entry *e, const char *path, double weight)
{
    char ours[64], theirs[64];
    struct mix_term *t = &piece->terms[piece->count++];
    *t = (struct mix_term){path, e->data, e->dtype, e->mapped, 0, (float)weight};
    if (!e->data && e->bytes)
        return sd_err_set(p->err, SD_ERR_DATA, "%s: tensor \"%.150s\" is compressed in the file", path,
                          item->key);
    if (same_shape(e, item->entry))
        return 0;
    if (!fewer_channels(item, e))
        return sd_err_set(
            p->err, SD_ERR_DATA, "%s: tensor \"%.150s\" is %s, but %s in %s: the models are not of one kind",
            path, item->key, sd_store_shape_text(e->ndim, e->shape, theirs, sizeof theirs),
            sd_store_shape_text(item->entry->ndim, item->entry->shape, ours, sizeof ours), item->path);
    t->row = row_of(e);
    t->mapped = false; /* it is small, and its pages are not where the piece's are */
    piece->row = row_of(item->entry);
    if (!piece->common || piece->common > t->row)
        piece->common = t->row;
    return 0;
}

/* The part of the recipe that holds for a key: weights of all models, or the multiplier. */
static void weights_for(const struct sd_mix *m, const struct item *item, struct sd_part_names unet,
                        double *weights, double *multiplier)
{
    int block = m->blocks && item->part == SD_PART_UNET ? block_of(item->key + strlen(unet.prefix)) : -1;
    memcpy(weights, m->weights, m->model_count * sizeof *weights);
    *multiplier = m->recipe.multiplier;
    if (block < 0)
        return;
    *multiplier = m->blocks[block];
    if (!m->recipe.difference) {
        weights[0] = 1 - m->blocks[block];
        weights[1] = m->blocks[block];
    }
}

static int add_difference(struct plan *p, struct mix_piece *piece, const struct item *item, double multiplier)
{
    struct sd_model_file *const *mf = p->m->models;
    struct sd_store_entry e[2];
    int lacking = 0;
    for (int i = 0; i < 2; i++)
        if (!find(mf[i + 1], item, &e[i])) {
            lacking++;
            if (note(p, &p->m->lacking[i + 1], item->key))
                return -1;
        }
    piece->difference = !lacking;
    return add_term(p, piece, item, item->entry, item->path, 1) ||
                   (!lacking && (add_term(p, piece, item, &e[0], sd_model_file_path(mf[1]), multiplier) ||
                                 add_term(p, piece, item, &e[1], sd_model_file_path(mf[2]), 1)))
               ? -1
               : 0;
}

static int add_sum(struct plan *p, struct mix_piece *piece, const struct item *item, const double *weights)
{
    struct sd_mix *m = p->m;
    double rest = 0;
    bool missed = false;
    if (add_term(p, piece, item, item->entry, item->path, weights[0]))
        return -1;
    for (size_t i = 1; i < m->model_count; i++) {
        struct sd_store_entry e;
        if (find(m->models[i], item, &e)) {
            if (add_term(p, piece, item, &e, sd_model_file_path(m->models[i]), weights[i]))
                return -1;
            continue;
        }
        rest += weights[i];
        missed = true;
        if (note(p, &m->lacking[i], item->key))
            return -1;
    }
    return missed ? add_term(p, piece, item, item->entry, item->path, rest) : 0;
}

static bool is_float(enum sd_store_dtype d)
{
    return d == SD_STORE_F32 || d == SD_STORE_F16 || d == SD_STORE_BF16 || d == SD_STORE_F64 ||
           d == SD_STORE_F8_E4M3 || d == SD_STORE_F8_E5M2;
}

static int plan_piece(struct plan *p, struct mix_piece *piece, const struct item *item, bool whole,
                      struct sd_part_names unet, double *weights)
{
    struct sd_mix *m = p->m;
    double multiplier;
    piece->values = item->entry->bytes / sd_store_dtype_bytes(item->entry->dtype);
    piece->terms = sd_arena_array(&m->arena, m->model_count + 1, sizeof *piece->terms);
    if (!piece->terms)
        return sd_err_memory(p->err, m->model_count * sizeof *piece->terms);
    if (!is_float(item->entry->dtype)) {
        piece->copy = true;
        if (!whole)
            return sd_err_set(p->err, SD_ERR_DATA, "%s: tensor \"%.150s\" is of %s, expected a float type",
                              item->path, item->key, sd_store_dtype_name(item->entry->dtype));
        return add_term(p, piece, item, item->entry, item->path, 1);
    }
    if (item->baked || (m->recipe.unet_only && !item->unet))
        return add_term(p, piece, item, item->entry, item->path, 1);
    weights_for(m, item, unet, weights, &multiplier);
    return m->recipe.difference ? add_difference(p, piece, item, multiplier)
                                : add_sum(p, piece, item, weights);
}

/* The tensor that items [0, n) make up: one, or its three thirds. */
static int plan_tensor(struct plan *p, const struct item *items, size_t n, struct sd_part_names unet,
                       double *weights)
{
    struct sd_mix *m = p->m;
    struct mix_tensor *t = &m->tensors[m->count];
    struct sd_store_tensor *out = &m->out[m->count++];
    const struct sd_store_entry *e = items[0].entry;
    for (size_t i = 0; i < n; i++)
        if (items[i].slice != (n == 1 ? -1 : (int)i) || n == 2 || n > 3 ||
            items[i].entry->bytes != e->bytes || items[i].entry->dtype != e->dtype)
            return sd_err_set(p->err, SD_ERR_DATA,
                              "%s: tensor \"%.150s\" comes about in more than one way, or in part only",
                              items[0].path, items[0].key);
    t->mix = m;
    t->out = out;
    t->pieces = (int)n;
    for (size_t i = 0; i < n; i++)
        if (plan_piece(p, &t->piece[i], &items[i], n == 1, unet, weights))
            return -1;
    int ndim = items[0].conv ? 4 : e->ndim;
    int64_t *shape = sd_arena_array(&m->arena, (size_t)ndim, sizeof *shape);
    if (!shape)
        return sd_err_memory(p->err, (size_t)ndim * sizeof *shape);
    for (int i = 0; i < ndim; i++)
        shape[i] = i < e->ndim ? e->shape[i] : 1;
    if (n > 1)
        shape[0] *= (int64_t)n;
    *out = (struct sd_store_tensor){.name = items[0].key,
                                    .dtype = t->piece[0].copy ? e->dtype : m->recipe.saved,
                                    .ndim = ndim,
                                    .shape = shape,
                                    .fill = sd_mix_fill,
                                    .ctx = t};
    m->total += (uint64_t)sd_store_bytes(out->dtype, ndim, shape);
    return 0;
}

static int plan_tensors(struct plan *p)
{
    struct sd_mix *m = p->m;
    struct sd_part_names unet = {.prefix = ""};
    if (sd_model_file_has(p->first, SD_PART_UNET))
        unet = names_out(p->first, SD_PART_UNET);
    double *weights = sd_arena_array(&m->arena, m->model_count, sizeof *weights);
    m->out = sd_arena_array(&m->arena, p->count, sizeof *m->out);
    m->tensors = sd_arena_array(&m->arena, p->count, sizeof *m->tensors);
    if (!weights || !m->out || !m->tensors)
        return sd_err_memory(p->err, p->count * sizeof *m->tensors);
    for (size_t i = 0, n; i < p->count; i += n) {
        for (n = 1; i + n < p->count && !strcmp(p->items[i].key, p->items[i + n].key); n++)
            ;
        if (plan_tensor(p, &p->items[i], n, unet, weights))
            return -1;
    }
    return 0;
}

/* Notes a tensor of another model that the first does not have. */
static int skipped(struct plan *p, struct sd_model_file *mf, const struct sd_tensor_file *tf,
                   const struct sd_store_entry *e)
{
    const struct sd_model_config *c = sd_model_file_config(mf);
    struct sd_store_entry hit;
    struct item stray = {.part = SD_PARTS, .entry = e};
    size_t i = 1;
    if (find(p->first, &stray, &hit))
        return 0;
    for (int part = 0; part < SD_PARTS; part++) {
        const struct sd_part_names *names = names_in(mf, part, tf);
        int n = names ? sd_name_from_file(c, (enum sd_part)part, names, e->name, 0, &p->name) : 0;
        if (n < 0)
            return sd_err_memory(p->err, p->name.len);
        if (n && sd_model_file_find(p->first, p->name.data, &hit))
            return 0;
    }
    while (i < p->m->model_count && p->m->models[i] != mf)
        i++;
    return note(p, &p->m->skipped[i], e->name);
}

static int build(struct plan *p)
{
    if (collect(p) || plan_tensors(p))
        return -1;
    for (size_t i = 1; i < p->m->model_count; i++)
        if (each_tensor(p, p->m->models[i], true, skipped))
            return -1;
    return 0;
}

static int copy_numbers(struct sd_mix *m, double **to, const double *from, size_t n, struct sd_err *err)
{
    *to = sd_arena_array(&m->arena, n, sizeof **to);
    if (!*to)
        return sd_err_memory(err, n * sizeof **to);
    if (from)
        memcpy(*to, from, n * sizeof **to);
    return 0;
}

static struct sd_mix *make(const struct sd_mix_recipe *recipe, struct sd_model_file *const *models,
                           size_t count, struct sd_err *err)
{
    struct sd_mix *m = calloc(1, sizeof *m);
    if (!m) {
        sd_err_memory(err, sizeof *m);
        return NULL;
    }
    pthread_mutex_init(&m->lock, NULL);
    m->recipe = *recipe;
    m->models = models;
    m->model_count = count;
    m->lacking = sd_arena_array(&m->arena, count, sizeof *m->lacking);
    m->skipped = sd_arena_array(&m->arena, count, sizeof *m->skipped);
    int rc = m->lacking && m->skipped ? 0 : sd_err_memory(err, count * sizeof *m->lacking);
    rc = rc || copy_numbers(m, &m->weights, recipe->weights, count, err) ||
         (recipe->blocks && copy_numbers(m, &m->blocks, recipe->blocks, SD_MIX_BLOCKS, err));
    if (rc) {
        sd_mix_free(m);
        return NULL;
    }
    return m;
}

int sd_mix_plan(struct sd_mix **out, const struct sd_mix_recipe *recipe, struct sd_model_file *const *models,
                size_t count, struct sd_model_file *vae, struct sd_err *err)
{
    *out = NULL;
    if (recipe->difference ? count != 3 : count < 1 || (recipe->blocks && count != 2))
        return sd_err_set(err, SD_ERR_USAGE, "a difference takes three models, a sum by blocks two");
    if (vae && sd_model_file_need(vae, SD_PART_VAE, err))
        return -1;
    struct plan p = {.m = make(recipe, models, count, err), .first = models[0], .vae = vae, .err = err};
    if (!p.m)
        return -1;
    int rc = build(&p);
    free(p.items);
    sd_buf_free(&p.name);
    sd_buf_free(&p.key);
    if (rc) {
        sd_mix_free(p.m);
        return -1;
    }
    *out = p.m;
    return 0;
}

void sd_mix_free(struct sd_mix *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->model_count && m->lacking && m->skipped; i++) {
        sd_strings_free(&m->lacking[i]);
        sd_strings_free(&m->skipped[i]);
    }
    pthread_mutex_destroy(&m->lock);
    sd_arena_free(&m->arena);
    free(m);
}

const struct sd_strings *sd_mix_lacking(const struct sd_mix *m, size_t model)
{
    return &m->lacking[model];
}

const struct sd_strings *sd_mix_skipped(const struct sd_mix *m, size_t model)
{
    return &m->skipped[model];
}
