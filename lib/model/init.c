#include "model/init.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "model/config_json.h"
#include "model/layout.h"

struct file;

/* One tensor of the file: values uniform in mean +- bound. */
struct tensor {
    uint64_t seed;
    float mean, bound;
    struct file *file;
};

struct file {
    struct sd_arena arena;
    struct sd_store_tensor *tensors;
    size_t count, cap;
    uint64_t seed;
    enum sd_store_dtype dtype;
    const struct sd_model_init_watch *watch;
    uint64_t made, total; /* bytes */
};

/* SplitMix64 (Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014). */
static uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t seed_of(uint64_t seed, const char *key)
{
    return mix(mix(seed) ^ sd_fnv1a(key, strlen(key)));
}

#define PIECE 4096 /* values made at a time; a multiple of 4 */

/* Values first .. first+count-1, first being a multiple of 4: each 64-bit word gives four of 16 bits. */
static void values(const struct tensor *t, uint64_t first, float *out, size_t count)
{
    float step = t->bound / 32768, low = t->mean - t->bound + step / 2;
    for (size_t i = 0; i < count; i += 4) {
        uint64_t word = mix(t->seed + (first + i) / 4);
        for (size_t k = 0; k < 4 && i + k < count; k++)
            out[i + k] = low + step * (float)(word >> (16 * k) & 0xffff);
    }
}

/* One thread makes 2 GB in 1.5 s, a fraction of what a disk takes to write them. */
static int fill(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    const struct tensor *t = ctx;
    struct file *f = t->file;
    size_t width = sd_store_dtype_bytes(f->dtype);
    uint64_t at = offset / width, end = at + bytes / width;
    float made[PIECE];
    for (size_t n; at < end; at += n, dst = (char *)dst + n * width) {
        size_t skip = at % 4; /* values are made in fours */
        n = end - at < PIECE - skip ? (size_t)(end - at) : PIECE - skip;
        values(t, at - skip, made, n + skip);
        if (sd_store_from_f32(f->dtype, made + skip, n, dst))
            return sd_err_set(err, SD_ERR_USAGE, "no model is written as %s", sd_store_dtype_name(f->dtype));
    }
    f->made += bytes;
    if (f->watch && !f->watch->go_on(f->watch->ctx, f->made, f->total))
        return sd_err_set(err, SD_ERR_DATA, "stopped");
    return 0;
}

static int add(struct file *f, const char *key, int ndim, const int64_t *shape, float mean, float bound,
               struct sd_err *err)
{
    struct tensor *t = sd_arena_alloc(&f->arena, sizeof *t);
    char *name = sd_arena_strdup(&f->arena, key);
    int64_t *kept = sd_arena_array(&f->arena, 4, sizeof *kept);
    if (f->count == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 2048;
        struct sd_store_tensor *more = sd_arena_array(&f->arena, cap, sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        if (f->count)
            memcpy(more, f->tensors, f->count * sizeof *more);
        f->tensors = more;
        f->cap = cap;
    }
    if (!t || !name || !kept)
        return sd_err_memory(err, sizeof *t);
    if (ndim)
        memcpy(kept, shape, (size_t)ndim * sizeof *kept);
    *t = (struct tensor){.seed = seed_of(f->seed, key), .mean = mean, .bound = bound, .file = f};
    f->tensors[f->count++] = (struct sd_store_tensor){
        .name = name, .dtype = f->dtype, .ndim = ndim, .shape = kept, .fill = fill, .ctx = t};
    f->total += (uint64_t)sd_store_bytes(f->dtype, ndim, kept);
    return 0;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* Mean and half width of a parameter's values. */
static void spread(const struct sd_layout_tensor *t, float *mean, float *bound)
{
    bool bias = ends_with(t->param[0], ".bias");
    *mean = 0;
    if (t->ndim == 1) { /* a bias; the others are the weights of norms */
        bool norm = strstr(t->param[0], "norm") != NULL;
        *mean = bias ? 0 : 1;
        *bound = bias && !norm ? 0.02f : 0;
    } else if (strstr(t->param[0], "embeddings")) {
        *bound = 0.5f;
    } else {
        double fan_in = 1;
        for (int i = 1; i < t->ndim; i++)
            fan_in *= (double)t->shape[i];
        *bound = (float)sqrt(3 / fan_in);
    }
}

static int add_part(struct file *f, const struct sd_model_config *c, enum sd_part part, struct sd_err *err)
{
    struct sd_part_names names = sd_names_ldm(c, part);
    struct sd_model_config whole = *c;
    bool openclip = part == SD_PART_TEXT && names.naming == SD_NAMING_OPENCLIP;
    struct sd_layout_tensor *list;
    size_t count;
    whole.text.layers += openclip; /* files hold the last layer too, though nobody uses it */
    int rc = sd_layout_part(&whole, part, &names, &f->arena, &list, &count, err);
    for (size_t i = 0; !rc && i < count; i++) {
        float mean, bound;
        spread(&list[i], &mean, &bound);
        rc = add(f, list[i].key, list[i].ndim, list[i].shape, mean, bound, err);
    }
    if (!rc && openclip) {
        int64_t square[2] = {c->text.width, c->text.width};
        rc = add(f, "cond_stage_model.model.text_projection", 2, square, 0,
                 (float)sqrt(3.0 / (double)square[0]), err) ||
             add(f, "cond_stage_model.model.logit_scale", 0, NULL, 4.6052f, 0, err); /* ln 100 */
    }
    return rc ? -1 : 0;
}

int sd_model_init(const char *path, const struct sd_model_config *c, uint64_t seed, enum sd_store_dtype dtype,
                  const struct sd_model_init_watch *watch, struct sd_err *err)
{
    struct file f = {.seed = seed, .dtype = dtype, .watch = watch};
    struct sd_buf config = SD_BUF_INIT;
    int rc = add_part(&f, c, SD_PART_TEXT, err) || add_part(&f, c, SD_PART_UNET, err) ||
             add_part(&f, c, SD_PART_VAE, err);
    if (!rc && sd_model_config_write(&config, c))
        rc = sd_err_memory(err, config.len);
    if (!rc) {
        struct sd_store_meta meta = {"sd_config", config.data};
        rc = sd_store_write(path, f.tensors, f.count, &meta, 1, err);
    }
    sd_buf_free(&config);
    sd_arena_free(&f.arena);
    return rc ? -1 : 0;
}
