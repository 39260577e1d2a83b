#include "adapter/lora_bake.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora_pairs.h"
#include "adapter/network_layers.h"
#include "adapter/network_product.h"
#include "base/filemap.h"

/* A layer that LoRAs change, and where in the file its weight lies. */
struct site {
    const struct sd_target *target;
    char *key; /* of the tensor */
    int slice; /* a third of its rows (OpenCLIP's q, k, v), or -1 */
};

/* The tensor being written. */
struct bake {
    const struct sd_lora_share *shares;
    size_t n;
    const struct sd_lora_bake_options *o;
    struct sd_lora_bake_report *report;
    struct sd_arena arena;
    struct site *sites; /* by key */
    size_t n_sites;
    float *values;         /* of the merged tensor at hand */
    const void *values_of; /* which that is: a struct source */
    const struct sd_tensor_file *tf;
    unsigned char *unpacked; /* the tensor at hand, where the file does not hold its bytes as they are */
    const void *unpacked_of;
    uint64_t done, total;
};

struct source {
    struct bake *b;
    const struct sd_store_entry *e;
    const struct site *sites; /* NULL: only converted */
    size_t n_sites;
    enum sd_store_dtype dtype; /* as written */
    float *piece;              /* scratch of conversions */
};

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct site *)a)->key, ((const struct site *)b)->key);
}

static const struct sd_network_module *module_of(const struct sd_lora_share *s, const struct sd_target *t)
{
    const struct sd_network_module *m = sd_network_at(s->network, t);
    return m && m->target ? m : NULL;
}

static double ratio_of(const struct sd_lora_share *s, const struct sd_target *t)
{
    int block = s->blocks ? sd_lora_block(t->name) : -1;
    return s->ratio * (block < 0 ? 1 : s->blocks[block]);
}

/* Finds what is to be changed, and which modules find no layer. */
static int find_sites(struct bake *b, struct sd_model_file *mf, const struct sd_target *targets, size_t count,
                      struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT, key = SD_BUF_INIT;
    size_t matched = 0;
    int rc = -1;
    b->sites = sd_arena_array(&b->arena, count + 1, sizeof *b->sites);
    if (!b->sites) {
        sd_err_memory(err, count * sizeof *b->sites);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        const struct sd_target *t = &targets[i];
        const char *rest;
        enum sd_part part = (enum sd_part)sd_part_of(t->path, &rest);
        struct site *s = &b->sites[b->n_sites];
        size_t before = matched;
        for (size_t k = 0; k < b->n; k++)
            matched += module_of(&b->shares[k], t) != NULL;
        const struct sd_part_names *names = matched > before ? sd_model_file_names(mf, part) : NULL;
        if (!names) {
            matched = before;
            continue;
        }
        *s = (struct site){.target = t};
        sd_buf_clear(&name);
        sd_buf_clear(&key);
        if (sd_buf_addf(&name, "%s.weight", t->path)) {
            sd_err_memory(err, name.len);
            goto out;
        }
        if (sd_name_to_file(sd_model_file_config(mf), names, name.data, &key, &s->slice) != 1 ||
            !(s->key = sd_arena_strdup(&b->arena, key.data))) {
            sd_err_set(err, SD_ERR_DATA, "%s has no %s", sd_model_file_path(mf), name.data);
            goto out;
        }
        b->n_sites++;
    }
    qsort(b->sites, b->n_sites, sizeof *b->sites, by_key);
    b->report->layers = b->n_sites;
    for (size_t k = 0; k < b->n; k++)
        b->report->unmatched += b->shares[k].network->count;
    b->report->unmatched -= matched;
    rc = 0;
out:
    sd_buf_free(&name);
    sd_buf_free(&key);
    return rc;
}

static void name_unmatched(struct bake *b)
{
    for (size_t k = 0; k < b->n; k++)
        for (size_t i = 0; i < b->shares[k].network->count; i++) {
            const struct sd_network_module *m = b->shares[k].network->order[i];
            if (!m->target) {
                snprintf(b->report->first, sizeof b->report->first, "%s", m->name);
                return;
            }
        }
}

/* w[rows,width] += ratio * (up down) * scale, with the roundings of the precision. */
static int merge_pair(const struct bake *b, const struct sd_lora_share *share,
                      const struct sd_network_module *p, const struct sd_target *t, float *w,
                      struct sd_err *err)
{
    enum sd_store_dtype d = b->o->precision;
    int64_t width = t->in * t->kernel * t->kernel;
    size_t n = (size_t)(t->out * width);
    float *up, *down, *product;
    if (sd_lora_pair_read(p, &up, &down, err))
        return -1;
    product = malloc(n * sizeof *product);
    if (product) {
        double ratio = ratio_of(share, t);
        float scale = sd_lora_pair_scale(p);
        sd_store_round(d, up, (size_t)(p->out * p->rank));
        sd_store_round(d, down, (size_t)(p->rank * width));
        sd_store_round(d, &scale, 1);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)t->out, (int)width, (int)p->rank, 1, up,
                    (int)p->rank, down, (int)width, 0, product, (int)width);
        sd_store_round(d, product, n);
        for (size_t i = 0; i < n; i++)
            product[i] *= (float)ratio;
        sd_store_round(d, product, n);
        for (size_t i = 0; i < n; i++)
            product[i] *= scale;
        sd_store_round(d, product, n);
        for (size_t i = 0; i < n; i++)
            w[i] += product[i];
        sd_store_round(d, w, n);
    } else {
        sd_err_memory(err, n * sizeof *product);
    }
    free(up);
    free(down);
    free(product);
    return product ? 0 : -1;
}

/* w[rows,width] += ratio * what the network adds to it. */
static int merge_other(const struct bake *b, const struct sd_lora_share *share,
                       const struct sd_network_module *m, float *w, struct sd_err *err)
{
    size_t n = sd_network_weight_count(m);
    float *delta = malloc(n * sizeof *delta), ratio = (float)ratio_of(share, m->target);
    int rc = delta ? sd_network_delta(m, w, delta, err) : sd_err_memory(err, n * sizeof *delta);
    for (size_t i = 0; !rc && i < n; i++)
        w[i] += ratio * delta[i];
    sd_store_round(b->o->precision, w, n);
    free(delta);
    return rc;
}

/* The tensor's bytes, or NULL. */
static const unsigned char *bytes_of(struct source *s, struct sd_err *err)
{
    struct bake *b = s->b;
    if (s->e->data || !s->e->bytes)
        return s->e->data ? s->e->data : (const void *)"";
    if (b->unpacked_of == s)
        return b->unpacked;
    free(b->unpacked);
    b->unpacked = malloc(s->e->bytes);
    b->unpacked_of = b->unpacked ? s : NULL;
    if (!b->unpacked)
        sd_err_memory(err, s->e->bytes);
    else if (sd_tensor_file_read(b->tf, s->e, b->unpacked, err))
        b->unpacked_of = NULL;
    return b->unpacked_of ? b->unpacked : NULL;
}

static int merge_tensor(struct source *s, struct sd_err *err)
{
    struct bake *b = s->b;
    size_t n = s->e->bytes / sd_store_dtype_bytes(s->e->dtype);
    const unsigned char *bytes = bytes_of(s, err);
    if (!bytes)
        return -1;
    free(b->values);
    b->values_of = s;
    b->values = malloc(n * sizeof *b->values);
    if (!b->values)
        return sd_err_memory(err, n * sizeof *b->values);
    sd_store_to_f32(s->e->dtype, bytes, n, b->values);
    sd_store_round(b->o->precision, b->values, n);
    for (size_t i = 0; i < s->n_sites; i++) {
        const struct sd_target *t = s->sites[i].target;
        size_t own = (size_t)(t->out * t->in * t->kernel * t->kernel);
        size_t at = s->sites[i].slice < 0 ? 0 : own * (size_t)s->sites[i].slice;
        if (at + own > n || (s->sites[i].slice < 0 && own != n))
            return sd_err_set(err, SD_ERR_DATA, "%s has %zu values, expected %zu", s->e->name, n, own);
        for (size_t k = 0; k < b->n; k++) {
            const struct sd_lora_share *share = &b->shares[k];
            const struct sd_network_module *m = module_of(share, t);
            bool pair = m && m->type == SD_NETWORK_LORA;
            if (m && (pair ? merge_pair(b, share, m, t, b->values + at, err)
                           : merge_other(b, share, m, b->values + at, err)))
                return -1;
        }
    }
    return 0;
}

/* struct sd_store_tensor's fill. */
static int fill(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    struct source *s = ctx;
    struct bake *b = s->b;
    size_t to = sd_store_dtype_bytes(s->dtype), from = sd_store_dtype_bytes(s->e->dtype);
    size_t first = (size_t)offset / to, n = bytes / to;
    const unsigned char *src = bytes_of(s, err);
    if (!src)
        return -1;
    src += first * from;
    if (s->sites && b->values_of != s && merge_tensor(s, err))
        return -1;
    if (s->sites) {
        sd_store_from_f32(s->dtype, b->values + first, n, dst);
    } else if (s->dtype == s->e->dtype) {
        memcpy(dst, src, bytes);
    } else {
        sd_store_to_f32(s->e->dtype, src, n, s->piece);
        sd_store_round(b->o->precision, s->piece, n);
        sd_store_from_f32(s->dtype, s->piece, n, dst);
    }
    b->done += bytes;
    if (s->e->mapped)
        sd_filemap_release(src, n * from);
    if (b->o->go_on && !b->o->go_on(b->o->ctx, b->done, b->total))
        return sd_err_set(err, SD_ERR_MACHINE, "stopped");
    return 0;
}

static bool is_float(enum sd_store_dtype d)
{
    return d == SD_STORE_F64 || d == SD_STORE_F32 || d == SD_STORE_F16 || d == SD_STORE_BF16;
}

/* Whether a tensor is a weight of the model. */
static bool is_weight(struct sd_model_file *mf, const char *key, struct sd_buf *scratch)
{
    const struct sd_model_config *c = sd_model_file_config(mf);
    for (int p = 0; p < SD_PARTS; p++) {
        const struct sd_part_names *names = sd_model_file_names(mf, (enum sd_part)p);
        if (names && !sd_name_is_surplus(c, (enum sd_part)p, names, key) &&
            sd_name_from_file(c, (enum sd_part)p, names, key, 0, scratch) > 0)
            return true;
    }
    return false;
}

static void set_source(struct source *s, struct bake *b, struct sd_model_file *mf,
                       const struct sd_store_entry *e, float *piece, struct sd_buf *scratch)
{
    *s = (struct source){.b = b, .e = e, .dtype = e->dtype, .piece = piece};
    size_t low = 0, high = b->n_sites;
    while (low < high) { /* the first site of this key */
        size_t mid = (low + high) / 2;
        if (strcmp(b->sites[mid].key, e->name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    for (high = low; high < b->n_sites && !strcmp(b->sites[high].key, e->name); high++)
        s->n_sites++;
    s->sites = s->n_sites ? b->sites + low : NULL;
    if (is_float(e->dtype) && is_weight(mf, e->name, scratch))
        s->dtype = b->o->save;
}

/* The file that holds U-Net and text encoder, with everything beside them. */
static const struct sd_tensor_file *whole_file(struct sd_model_file *mf, struct sd_err *err)
{
    const struct sd_tensor_file *tf = NULL;
    for (int p = 0; p < SD_PARTS; p++) {
        if (!sd_model_file_has(mf, (enum sd_part)p))
            continue;
        if (sd_model_file_need(mf, (enum sd_part)p, err))
            return NULL;
        tf = tf ? tf : sd_model_file_tensors(mf, (enum sd_part)p);
    }
    if (sd_model_file_is_folder(mf) || !tf) {
        sd_err_set(err, SD_ERR_USAGE, "%s: LoRAs are merged into models that are one file; convert it first",
                   sd_model_file_path(mf));
        return NULL;
    }
    return tf;
}

static int write_all(struct bake *b, struct sd_model_file *mf, const struct sd_tensor_file *tf,
                     const char *path, const struct sd_store_meta *meta, size_t meta_count,
                     struct sd_err *err)
{
    enum { PIECE = 1 << 20 };
    struct sd_buf scratch = SD_BUF_INIT;
    size_t n = sd_tensor_file_count(tf);
    struct sd_store_tensor *tensors = sd_arena_array(&b->arena, n + 1, sizeof *tensors);
    struct source *sources = sd_arena_array(&b->arena, n + 1, sizeof *sources);
    float *piece = sd_arena_alloc(&b->arena, PIECE * sizeof *piece);
    if (!tensors || !sources || !piece)
        return sd_err_memory(err, n * sizeof *sources);
    for (size_t i = 0; i < n; i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(tf, i);
        struct source *s = &sources[i];
        set_source(s, b, mf, e, piece, &scratch);
        tensors[i] = (struct sd_store_tensor){
            .name = e->name, .dtype = s->dtype, .ndim = e->ndim, .shape = e->shape, .fill = fill, .ctx = s};
        b->total += e->bytes / sd_store_dtype_bytes(e->dtype) * sd_store_dtype_bytes(s->dtype);
    }
    sd_buf_free(&scratch);
    return sd_store_write(path, tensors, n, meta, meta_count, err);
}

int sd_lora_bake(struct sd_model_file *mf, const struct sd_lora_share *shares, size_t n,
                 const struct sd_lora_bake_options *o, const char *path, const struct sd_store_meta *meta,
                 size_t meta_count, struct sd_lora_bake_report *report, struct sd_err *err)
{
    struct bake b = {.shares = shares, .n = n, .o = o, .report = report};
    struct sd_target *targets;
    size_t count;
    int rc = -1;
    *report = (struct sd_lora_bake_report){0};
    const struct sd_tensor_file *tf = b.tf = whole_file(mf, err);
    if (!tf)
        return -1;
    openblas_set_num_threads(o->threads);
    if (sd_layers(sd_model_file_config(mf), &b.arena, &targets, &count, err) ||
        find_sites(&b, mf, targets, count, err))
        goto out;
    if (report->unmatched)
        name_unmatched(&b);
    rc = write_all(&b, mf, tf, path, meta, meta_count, err);
out:
    free(b.values);
    free(b.unpacked);
    sd_arena_free(&b.arena);
    return rc;
}
