#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"

struct weight {
    struct sd_var var;
    struct weight *next; /* in its bucket */
    const char *trouble; /* what sd_weights_check will say, or NULL */
};

struct sd_weights {
    sd_weights_find *find;
    void *ctx;
    struct sd_arena arena;
    struct weight **list; /* in order of declaration */
    size_t count, cap;
    struct weight **bucket; /* by hash of the name */
    size_t n_buckets;       /* a power of two */
    size_t missing, misshapen;
    void **copies; /* of data that was not aligned, or of a type that sd_dtype lacks */
    size_t n_copies;
};

struct sd_weights *sd_weights_new(sd_weights_find *find, void *ctx, struct sd_err *err)
{
    struct sd_weights *w = calloc(1, sizeof *w);
    if (w) {
        w->find = find;
        w->ctx = ctx;
        w->n_buckets = 4096;
        w->bucket = calloc(w->n_buckets, sizeof *w->bucket);
    }
    if (!w || !w->bucket) {
        free(w);
        sd_err_memory(err, 4096 * sizeof(void *));
        return NULL;
    }
    return w;
}

void sd_weights_free(struct sd_weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n_copies; i++)
        free(w->copies[i]);
    free(w->copies);
    free(w->bucket);
    free(w->list);
    sd_arena_free(&w->arena);
    free(w);
}

static size_t hash(const char *s)
{
    return (size_t)sd_fnv1a_low(s, strlen(s));
}

static bool same_but_for_ones(int n, const int64_t *a, int m, const int64_t *b)
{
    while (n > 1 && a[n - 1] == 1)
        n--;
    while (m > 1 && b[m - 1] == 1)
        m--;
    return n == m && !memcmp(a, b, (size_t)n * sizeof *a);
}

/* The element type in memory; a type that graphs do not know becomes f32. */
static enum sd_dtype memory_dtype(enum sd_store_dtype d)
{
    return d == SD_STORE_BF16 ? SD_BF16 : d == SD_STORE_F16 ? SD_F16 : SD_F32;
}

/* Points the variable at the entry's data, or at a copy where that cannot be used as it lies. */
static int bind(struct sd_weights *w, struct sd_var *var, const struct sd_store_entry *e, struct sd_err *err)
{
    var->dtype = memory_dtype(e->dtype);
    bool known = e->dtype == SD_STORE_F32 || e->dtype == SD_STORE_BF16 || e->dtype == SD_STORE_F16;
    if (known && (uintptr_t)e->data % sd_dtype_size(var->dtype) == 0) {
        var->data = e->data;
        var->mapped = e->mapped;
        return 0;
    }
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype), bytes = n * sd_dtype_size(var->dtype);
    void **more = realloc(w->copies, (w->n_copies + 1) * sizeof *more);
    if (!more)
        return sd_err_memory(err, sizeof *more);
    w->copies = more;
    void *copy = malloc(bytes + 1);
    if (!copy)
        return sd_err_memory(err, bytes);
    w->copies[w->n_copies++] = copy;
    if (known)
        memcpy(copy, e->data, bytes);
    else
        sd_store_to_f32(e->dtype, e->data, n, copy);
    var->data = copy;
    return 0;
}

static int look_up(struct sd_weights *w, struct weight *weight, struct sd_err *err)
{
    struct sd_var *var = &weight->var;
    struct sd_store_entry e;
    if (!w->find)
        return 0;
    if (!w->find(w->ctx, var->name, &e) || !e.data) {
        weight->trouble = var->name;
        w->missing++;
        return 0;
    }
    if (!same_but_for_ones(e.ndim, e.shape, var->ndim, var->dim)) {
        char have[96], want[96];
        weight->trouble = sd_arena_printf(&w->arena, "%s is %s, expected %s", var->name,
                                          sd_store_shape_text(e.ndim, e.shape, have, sizeof have),
                                          sd_store_shape_text(var->ndim, var->dim, want, sizeof want));
        w->misshapen++;
        return weight->trouble ? 0 : sd_err_memory(err, sizeof have);
    }
    return bind(w, var, &e, err);
}

static int list_add(struct sd_weights *w, struct weight *weight, struct sd_err *err)
{
    if (w->count == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 512;
        struct weight **more = realloc(w->list, cap * sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        w->list = more;
        w->cap = cap;
    }
    w->list[w->count++] = weight;
    return 0;
}

struct sd_var *sd_weights_param(void *ctx, const char *name, int ndim, const int64_t *dim, struct sd_err *err)
{
    struct sd_weights *w = ctx;
    struct weight **at = &w->bucket[hash(name) & (w->n_buckets - 1)];
    for (; *at; at = &(*at)->next)
        if (!strcmp((*at)->var.name, name))
            break;
    if (*at) {
        if (!same_but_for_ones((*at)->var.ndim, (*at)->var.dim, ndim, dim)) {
            sd_err_set(err, SD_ERR_USAGE, "%s is asked for with two shapes", name);
            return NULL;
        }
        return &(*at)->var;
    }
    struct weight *weight = sd_arena_alloc(&w->arena, sizeof *weight);
    char *copy = sd_arena_strdup(&w->arena, name);
    if (!weight || !copy) {
        sd_err_memory(err, sizeof *weight);
        return NULL;
    }
    weight->var = (struct sd_var){.name = copy, .ndim = ndim};
    memcpy(weight->var.dim, dim, (size_t)ndim * sizeof *dim);
    if (look_up(w, weight, err) || list_add(w, weight, err))
        return NULL;
    *at = weight;
    return &weight->var;
}

#define SHOWN 4 /* tensors named in a message */

static int add_names(struct sd_buf *text, const struct sd_weights *w, bool missing)
{
    size_t n = missing ? w->missing : w->misshapen, shown = 0;
    if (!n)
        return 0;
    int rc = sd_buf_addf(text, "%s%zu %s %s: ", text->len ? "; " : "", n,
                         n == 1 ? "tensor is" : "tensors are", missing ? "missing" : "misshapen");
    for (size_t i = 0; i < w->count && shown < SHOWN; i++) {
        const struct weight *e = w->list[i];
        if (e->trouble && (e->trouble == e->var.name) == missing)
            rc |= sd_buf_addf(text, "%s%s", shown++ ? ", " : "", e->trouble);
    }
    return rc | (n > shown ? sd_buf_adds(text, ", ...") : 0);
}

int sd_weights_check(const struct sd_weights *w, const char *path, struct sd_err *err)
{
    if (!w->missing && !w->misshapen)
        return 0;
    struct sd_buf text = SD_BUF_INIT;
    if (add_names(&text, w, true) | add_names(&text, w, false))
        sd_err_memory(err, text.len);
    else
        sd_err_set(err, SD_ERR_DATA, "%s: %s", path, text.data);
    sd_buf_free(&text);
    return -1;
}

size_t sd_weights_count(const struct sd_weights *w)
{
    return w->count;
}

struct sd_var *sd_weights_var(const struct sd_weights *w, size_t i)
{
    return &w->list[i]->var;
}
