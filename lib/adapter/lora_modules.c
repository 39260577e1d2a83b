#include "adapter/lora_modules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static const struct ending {
    const char *down, *up;
} endings[SD_LORA_SPELLINGS] = {
    [SD_LORA_KOHYA] = {".lora_down.weight", ".lora_up.weight"},
    [SD_LORA_PEFT] = {".lora_A.weight", ".lora_B.weight"},
    [SD_LORA_DIFFUSERS] = {".lora.down.weight", ".lora.up.weight"},
    [SD_LORA_DIFFUSERS_TEXT] = {".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"},
    [SD_LORA_CONTROL] = {".down.weight", ".up.weight"},
};

const char *sd_lora_down_ending(enum sd_lora_spelling s)
{
    return endings[s].down;
}

const char *sd_lora_up_ending(enum sd_lora_spelling s)
{
    return endings[s].up;
}

/* The length of key without the ending, or 0. */
static size_t without(const char *key, const char *ending)
{
    size_t n = strlen(key), e = strlen(ending);
    return n > e && !strcmp(key + n - e, ending) ? n - e : 0;
}

static const struct sd_store_entry *find(const struct sd_tensor_file *tf, const char *name, const char *leaf,
                                         struct sd_buf *key)
{
    sd_buf_clear(key);
    return sd_buf_addf(key, "%s%s", name, leaf) ? NULL : sd_tensor_file_find(tf, key->data);
}

static int misfit(const struct sd_tensor_file *tf, const struct sd_store_entry *e, const char *expected,
                  struct sd_err *err)
{
    char text[96];
    return sd_err_set(err, SD_ERR_DATA, "%s: %s is %s, expected %s", sd_tensor_file_path(tf), e->name,
                      sd_store_shape_text(e->ndim, e->shape, text, sizeof text), expected);
}

/* Fills in the sizes from the shapes. */
static int measure(struct sd_lora_pair *p, const struct sd_tensor_file *tf, struct sd_err *err)
{
    const struct sd_store_entry *d = p->down, *u = p->up, *m = p->mid;
    if ((d->ndim != 2 && d->ndim != 4) || !d->bytes || (d->ndim == 4 && d->shape[2] != d->shape[3]))
        return misfit(tf, d, "[rank,in] or [rank,in,k,k]", err);
    p->rank = d->shape[0];
    p->in = d->shape[1];
    p->conv = d->ndim == 4;
    p->kernel = p->conv ? d->shape[2] : 1;
    if (u->ndim != d->ndim || !u->bytes || u->shape[1] != p->rank ||
        (p->conv && (u->shape[2] != 1 || u->shape[3] != 1)))
        return misfit(tf, u,
                      p->conv ? "[out,rank,1,1] with the rank of lora_down"
                              : "[out,rank] with the rank of lora_down",
                      err);
    p->out = u->shape[0];
    if (m) {
        if (!p->conv || p->kernel != 1 || m->ndim != 4 || m->shape[0] != p->rank || m->shape[1] != p->rank ||
            m->shape[2] != m->shape[3] || !m->bytes)
            return misfit(tf, m, "[rank,rank,k,k] of a convolution in CP form", err);
        p->kernel = m->shape[2];
    }
    if (p->kernel > 1 << 10 || p->in > 1 << 24 || p->rank > 1 << 20 || p->out > 1 << 24)
        return misfit(tf, d, "a layer of sane size", err);
    return 0;
}

static float read_alpha(const struct sd_tensor_file *tf, const struct sd_store_entry *e, float otherwise)
{
    float value = otherwise;
    bool one = e && e->bytes == sd_store_dtype_bytes(e->dtype);
    return one && !sd_tensor_file_read_f32(tf, e, &value, NULL) && isfinite(value) ? value : otherwise;
}

/* Puts the pair of this down matrix into *p: 1, 0 when e is none, -1. */
static int read_pair(struct sd_lora_modules *m, const struct sd_store_entry *e, struct sd_lora_pair *p,
                     struct sd_buf *key, struct sd_err *err)
{
    size_t len = 0;
    int s = 0;
    for (; s < SD_LORA_SPELLINGS; s++)
        if ((len = without(e->name, endings[s].down)))
            break;
    if (!len)
        return 0;
    *p = (struct sd_lora_pair){
        .file = m->file, .name = sd_arena_strndup(&m->arena, e->name, len), .spelling = s, .down = e};
    if (!p->name)
        return sd_err_memory(err, len);
    p->up = find(m->file, p->name, endings[s].up, key);
    if (!p->up)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s%s is missing", sd_tensor_file_path(m->file), p->name,
                          endings[s].up);
    p->mid = s == SD_LORA_KOHYA ? find(m->file, p->name, ".lora_mid.weight", key) : NULL;
    p->alpha_entry = find(m->file, p->name, ".alpha", key);
    if (measure(p, m->file, err))
        return -1;
    p->alpha = read_alpha(m->file, p->alpha_entry, (float)p->rank);
    return 1;
}

static bool in_pair(const struct sd_lora_modules *m, const char *key, struct sd_buf *scratch)
{
    static const char *const more[] = {".alpha", ".lora_mid.weight"};
    size_t len;
    for (int s = 0; s < SD_LORA_SPELLINGS; s++)
        if (without(key, endings[s].down))
            return true;
    for (int s = 0; s < SD_LORA_SPELLINGS + 2; s++) {
        const char *ending = s < SD_LORA_SPELLINGS ? endings[s].up : more[s - SD_LORA_SPELLINGS];
        if (!(len = without(key, ending)))
            continue;
        for (int d = 0; d < SD_LORA_SPELLINGS; d++) {
            if (s < SD_LORA_SPELLINGS && d != s)
                continue;
            sd_buf_clear(scratch);
            if (!sd_buf_add(scratch, key, len) && !sd_buf_adds(scratch, endings[d].down) &&
                sd_tensor_file_find(m->file, scratch->data))
                return true;
        }
    }
    return false;
}

static int by_name(const void *a, const void *b)
{
    const struct sd_lora_pair *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Finds the pairs of m->file; on failure m is closed. */
static int read_pairs(struct sd_lora_modules *m, struct sd_err *err)
{
    struct sd_buf key = SD_BUF_INIT;
    const char *path = sd_tensor_file_path(m->file);
    int rc = -1;
    size_t n = sd_tensor_file_count(m->file);
    m->pairs = sd_arena_array(&m->arena, n + 1, sizeof *m->pairs);
    m->others = sd_arena_array(&m->arena, n + 1, sizeof *m->others);
    m->by_name = sd_arena_array(&m->arena, n + 1, sizeof *m->by_name);
    if (!m->pairs || !m->others || !m->by_name) {
        sd_err_memory(err, n * sizeof *m->pairs);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(m->file, i);
        int found = read_pair(m, e, &m->pairs[m->count], &key, err);
        if (found < 0)
            goto out;
        m->count += (size_t)found;
        if (!found && !in_pair(m, e->name, &key))
            m->others[m->other_count++] = e;
    }
    for (size_t i = 0; i < m->count; i++)
        m->by_name[i] = &m->pairs[i];
    qsort(m->by_name, m->count, sizeof *m->by_name, by_name);
    for (size_t i = 1; i < m->count; i++)
        if (!strcmp(m->by_name[i - 1]->name, m->by_name[i]->name)) {
            sd_err_set(err, SD_ERR_DATA, "%s: %s is there in two spellings", path, m->by_name[i]->name);
            goto out;
        }
    if (!m->count) {
        sd_err_set(err, SD_ERR_DATA, "%s: no LoRA: not one lora_down or lora_A matrix in it", path);
        goto out;
    }
    rc = 0;
out:
    sd_buf_free(&key);
    if (rc)
        sd_lora_modules_close(m);
    return rc;
}

int sd_lora_modules_open(struct sd_lora_modules *m, const char *path, struct sd_err *err)
{
    *m = (struct sd_lora_modules){0};
    return sd_tensor_file_open(&m->file, path, err) ? -1 : read_pairs(m, err);
}

int sd_lora_modules_parse(struct sd_lora_modules *m, const void *bytes, size_t size, const char *name,
                          struct sd_err *err)
{
    *m = (struct sd_lora_modules){0};
    return sd_tensor_file_parse(&m->file, bytes, size, name, err) ? -1 : read_pairs(m, err);
}

void sd_lora_modules_close(struct sd_lora_modules *m)
{
    sd_tensor_file_close(m->file);
    sd_arena_free(&m->arena);
    *m = (struct sd_lora_modules){0};
}

const struct sd_lora_pair *sd_lora_modules_find(const struct sd_lora_modules *m, const char *name)
{
    struct sd_lora_pair key = {.name = name}, *pkey = &key;
    const struct sd_lora_pair **hit = bsearch(&pkey, m->by_name, m->count, sizeof *m->by_name, by_name);
    return hit ? *hit : NULL;
}

int sd_lora_modules_only_pairs(const struct sd_lora_modules *m, struct sd_err *err)
{
    if (!m->other_count)
        return 0;
    return sd_err_set(
        err, SD_ERR_DATA,
        "%s: %s and %zu more tensors are no pair of lora_down and lora_up, which is all that can "
        "be worked on here",
        sd_tensor_file_path(m->file), m->others[0]->name, m->other_count - 1);
}

int64_t sd_lora_pair_width(const struct sd_lora_pair *p)
{
    return p->in * p->kernel * p->kernel;
}

static float *read_values(const struct sd_tensor_file *tf, const struct sd_store_entry *e, struct sd_err *err)
{
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype);
    float *v = malloc(n * sizeof *v);
    if (!v) {
        sd_err_memory(err, n * sizeof *v);
    } else if (sd_tensor_file_read_f32(tf, e, v, err)) {
        free(v);
        v = NULL;
    }
    return v;
}

/* down'[r, i, y, x] = sum over q of mid[r, q, y, x] down[q, i] */
static float *multiply_out(const struct sd_lora_pair *p, const float *down, struct sd_err *err)
{
    int64_t area = p->kernel * p->kernel;
    float *mid = read_values(p->file, p->mid, err),
          *wide = calloc((size_t)(p->rank * p->in * area), sizeof *wide);
    if (mid && !wide)
        sd_err_memory(err, (size_t)(p->rank * p->in * area) * sizeof *wide);
    for (int64_t r = 0; mid && wide && r < p->rank; r++)
        for (int64_t q = 0; q < p->rank; q++)
            for (int64_t i = 0; i < p->in; i++)
                for (int64_t a = 0; a < area; a++)
                    wide[(r * p->in + i) * area + a] +=
                        mid[(r * p->rank + q) * area + a] * down[q * p->in + i];
    if (!mid) {
        free(wide);
        wide = NULL;
    }
    free(mid);
    return wide;
}

int sd_lora_pair_read(const struct sd_lora_pair *p, float **up, float **down, struct sd_err *err)
{
    *up = read_values(p->file, p->up, err);
    *down = *up ? read_values(p->file, p->down, err) : NULL;
    if (*down && p->mid) {
        float *wide = multiply_out(p, *down, err);
        free(*down);
        *down = wide;
    }
    if (*up && *down)
        return 0;
    free(*up);
    *up = NULL;
    return -1;
}
