#include "store/latents.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "store/archive.h"
#include "store/npz.h"

/* --- finding arrays
 * ----------------------------------------------------------------------------------------------- */

static bool small_shape(const struct sd_store_entry *e, int ndim)
{
    if (!e || e->ndim != ndim)
        return false;
    for (int i = 0; i < ndim; i++)
        if (e->shape[i] < 1 || e->shape[i] > INT_MAX)
            return false;
    return true;
}

static enum sd_latents_format format_of(const struct sd_npz *z)
{
    if (!sd_npz_find(z, "latents"))
        return SD_LATENTS_NPZ1;
    return sd_npz_find(z, "crop_left_top") ? SD_LATENTS_NPZ2 : SD_LATENTS_NPZ3;
}

static const char *main_name(enum sd_latents_format format)
{
    return format == SD_LATENTS_NPZ1 ? "arr_0" : "latents";
}

static const struct sd_store_entry *main_array(const struct sd_npz *z, struct sd_err *err)
{
    const struct sd_store_entry *e = sd_npz_find(z, main_name(format_of(z)));
    if (small_shape(e, 3))
        return e;
    sd_err_set(err, SD_ERR_DATA, "no array \"latents\" of shape [C,h,w]");
    return NULL;
}

static bool same_shape(const struct sd_store_entry *a, const struct sd_store_entry *b)
{
    return a && b && a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape);
}

/* --- reading arrays
 * ----------------------------------------------------------------------------------------------- */

static int load_f32(const struct sd_npz *z, const struct sd_store_entry *e, float *out, struct sd_err *err)
{
    if (e->dtype == SD_STORE_F32)
        return sd_npz_read(z, e, out, err);
    void *raw = malloc(e->bytes ? e->bytes : 1);
    if (!raw)
        return sd_err_memory(err, e->bytes);
    int rc = sd_npz_read(z, e, raw, err);
    if (!rc)
        sd_store_to_f32(e->dtype, raw, e->bytes / sd_store_dtype_bytes(e->dtype), out);
    free(raw);
    return rc;
}

static int read_f32(const struct sd_npz *z, const struct sd_store_entry *e, struct sd_arena *a,
                    const float **out, struct sd_err *err)
{
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype);
    float *values = sd_arena_array(a, n, sizeof *values);
    *out = values;
    return values ? load_f32(z, e, values, err) : sd_err_memory(err, n * sizeof *values);
}

/* n numbers of any type, exactly where they are whole; absent leaves out as it is. */
static int read_numbers(const struct sd_npz *z, const char *name, int n, double *out, struct sd_err *err)
{
    const struct sd_store_entry *e = sd_npz_find(z, name);
    union {
        int64_t i[4];
        double d[4];
        unsigned char bytes[32];
    } u;
    if (!e)
        return 0;
    if (e->ndim != 1 || e->shape[0] != n || e->bytes > sizeof u)
        return sd_err_set(err, SD_ERR_DATA, "array \"%s\" is not a list of %d numbers", name, n);
    if (sd_npz_read(z, e, &u, err))
        return -1;
    for (int i = 0; i < n; i++) {
        if (e->dtype == SD_STORE_F64) {
            out[i] = u.d[i];
        } else if (e->dtype == SD_STORE_I64) {
            out[i] = (double)u.i[i];
        } else {
            float f;
            sd_store_to_f32(e->dtype, u.bytes + (size_t)i * sd_store_dtype_bytes(e->dtype), 1, &f);
            out[i] = f;
        }
    }
    return 0;
}

static int read_size(const struct sd_npz *z, int64_t out[2], struct sd_err *err)
{
    double size[2] = {0, 0};
    if (read_numbers(z, "original_size", 2, size, err))
        return -1;
    for (int i = 0; i < 2; i++)
        out[i] = size[i] >= 0 && size[i] <= INT_MAX ? (int64_t)size[i] : 0;
    return 0;
}

/* Without its last line, the CRC of the latents it was written with. Newer sd-scripts keep what other arrays
 * a file has when they replace the latents in it: then the source is not theirs. */
static int read_source(const struct sd_npz *z, struct sd_arena *a, const char **out, struct sd_err *err)
{
    const struct sd_store_entry *e = sd_npz_find(z, "sd_source"), *latents = main_array(z, NULL);
    *out = NULL;
    if (!e)
        return 0;
    if (e->ndim != 1 || sd_store_dtype_bytes(e->dtype) != 1)
        return sd_err_set(err, SD_ERR_DATA, "array \"sd_source\" is no text");
    char *text = sd_arena_alloc(a, e->bytes + 1), crc[16];
    if (!text)
        return sd_err_memory(err, e->bytes);
    if (sd_npz_read(z, e, text, err))
        return -1;
    char *last = strrchr(text, '\n');
    snprintf(crc, sizeof crc, "%08lx", latents ? (unsigned long)sd_npz_crc(z, latents) : 0);
    if (!last || strcmp(last + 1, crc))
        return 0;
    *last = 0;
    *out = text;
    return 0;
}

/* --- the mirrored picture's file
 * ---------------------------------------------------------------------------------------------- */

int sd_latents_flip_path(struct sd_buf *out, const char *path)
{
    return sd_buf_add(out, path, sd_path_stem_len(path)) | sd_buf_adds(out, "_flip.npz") ? -1 : 0;
}

static int open_flip(struct sd_npz **z, const char *path, struct sd_err *err)
{
    struct sd_buf flip = SD_BUF_INIT;
    *z = NULL;
    int rc =
        sd_latents_flip_path(&flip, path) ? sd_err_memory(err, strlen(path)) : sd_npz_open(z, flip.data, err);
    sd_buf_free(&flip);
    return rc;
}

/* Opens it where it belongs to the cache z: latents of the same shape, from the same source. *e is its array;
 * NULL where there is none. */
static int find_flip(struct sd_npz **flip, const struct sd_store_entry **e, const struct sd_npz *z,
                     const char *path, struct sd_arena *a, struct sd_err *err)
{
    const char *mine, *its;
    *e = NULL;
    if (open_flip(flip, path, NULL))
        return 0;
    if (read_source(z, a, &mine, err) || read_source(*flip, a, &its, err))
        return -1;
    const struct sd_store_entry *array = main_array(*flip, NULL);
    if (same_shape(array, main_array(z, NULL)) && !mine == !its && (!mine || !strcmp(mine, its)))
        *e = array;
    return 0;
}

/* --- reading a cache
 * ------------------------------------------------------------------------------------------- */

/* A cache that is open: a file, or a member of an archive. */
struct cache {
    struct sd_npz *z;
    struct sd_archives *shards;
    struct sd_archive_use *use;
    struct sd_buf scratch;
};

enum { MEMBER_BYTES = 1 << 30 }; /* larger members are no caches */

static void close_cache(struct cache *c)
{
    sd_npz_close(c->z);
    sd_buf_free(&c->scratch);
    if (c->use)
        sd_archives_done(c->shards, c->use);
}

static int open_member(struct cache *c, const char *path, size_t archive, const char *name,
                       struct sd_err *err)
{
    struct sd_archive_member m = {0};
    const void *bytes = NULL;
    if (!c->shards)
        return sd_err_set(err, SD_ERR_DATA, "%s: a member of an archive, expected a file", path);
    if (sd_archives_get(c->shards, path, archive, &c->use, err))
        return -1;
    int found = sd_archive_find(c->use->archive, name, &m, err), rc = -1;
    if (!found)
        sd_err_set(err, SD_ERR_DATA, "%s: the archive has no such member", path);
    else if (found < 0 || sd_archive_view(c->use->archive, &m, MEMBER_BYTES, &c->scratch, &bytes, err))
        sd_err_prefix(err, "%s", path);
    else
        rc = sd_npz_parse(&c->z, bytes, (size_t)m.size, path, err);
    sd_buf_free(&m.name);
    return rc;
}

static int open_cache(struct cache *c, struct sd_archives *shards, const char *path, struct sd_err *err)
{
    const char *member;
    size_t archive = sd_archive_split(path, &member);
    *c = (struct cache){.shards = shards};
    if (!archive)
        return sd_npz_open(&c->z, path, err);
    if (!open_member(c, path, archive, member, err))
        return 0;
    close_cache(c);
    return -1;
}

typedef int reader(void *to, const struct sd_npz *z, const char *path, struct sd_arena *a,
                   struct sd_err *err);

/* Messages begin with the path. */
static int with_npz(reader *read, void *to, struct sd_archives *shards, const char *path, struct sd_arena *a,
                    struct sd_err *err)
{
    struct cache c;
    if (open_cache(&c, shards, path, err))
        return -1;
    int rc = read(to, c.z, path, a, err);
    if (rc && (!err || strncmp(err->msg, path, strlen(path))))
        sd_err_prefix(err, "%s", path);
    close_cache(&c);
    return rc;
}

static int read_flipped(struct sd_latents *l, const struct sd_npz *z, const char *path, struct sd_arena *a,
                        struct sd_err *err)
{
    const struct sd_store_entry *e;
    struct sd_npz *flip = NULL;
    int rc;
    if (l->format == SD_LATENTS_NPZ3) {
        e = sd_npz_find(z, "latents_flipped");
        if (!e)
            return 0;
        if (!same_shape(e, main_array(z, NULL)))
            return sd_err_set(err, SD_ERR_DATA,
                              "array \"latents_flipped\" has another shape than \"latents\"");
        return read_f32(z, e, a, &l->flipped, err);
    }
    rc = find_flip(&flip, &e, z, path, a, err);
    if (!rc && e)
        rc = read_f32(flip, e, a, &l->flipped, err);
    sd_npz_close(flip);
    return rc;
}

static int read_mask(struct sd_latents *l, const struct sd_npz *z, struct sd_arena *a, struct sd_err *err)
{
    const struct sd_store_entry *e = sd_npz_find(z, "alpha_mask");
    if (!e)
        return 0;
    if (!small_shape(e, 2))
        return sd_err_set(err, SD_ERR_DATA, "array \"alpha_mask\" is not of shape [H,W]");
    l->mask_height = (int)e->shape[0];
    l->mask_width = (int)e->shape[1];
    return read_f32(z, e, a, &l->alpha_mask, err);
}

static int read_all(void *to, const struct sd_npz *z, const char *path, struct sd_arena *a,
                    struct sd_err *err)
{
    struct sd_latents *l = to;
    const struct sd_store_entry *e = main_array(z, err);
    if (!e)
        return -1;
    l->format = format_of(z);
    l->channels = (int)e->shape[0];
    l->height = (int)e->shape[1];
    l->width = (int)e->shape[2];
    if (read_f32(z, e, a, &l->latents, err) || read_flipped(l, z, path, a, err) || read_mask(l, z, a, err) ||
        read_size(z, l->original_size, err) || read_source(z, a, &l->source, err))
        return -1;
    return l->format == SD_LATENTS_NPZ2 ? read_numbers(z, "crop_left_top", 2, l->crop_ltrb, err)
                                        : read_numbers(z, "crop_ltrb", 4, l->crop_ltrb, err);
}

int sd_latents_read(struct sd_latents *l, struct sd_archives *shards, const char *path, struct sd_arena *a,
                    struct sd_err *err)
{
    *l = (struct sd_latents){0};
    return with_npz(read_all, l, shards, path, a, err);
}

static int read_info(void *to, const struct sd_npz *z, const char *path, struct sd_arena *a,
                     struct sd_err *err)
{
    struct sd_latents_info *info = to;
    const struct sd_store_entry *e = main_array(z, err), *mask = sd_npz_find(z, "alpha_mask"), *flipped;
    if (!e)
        return -1;
    info->format = format_of(z);
    info->channels = (int)e->shape[0];
    info->height = (int)e->shape[1];
    info->width = (int)e->shape[2];
    if (small_shape(mask, 2)) {
        info->mask_height = (int)mask->shape[0];
        info->mask_width = (int)mask->shape[1];
    }
    if (read_size(z, info->original_size, err) || read_source(z, a, &info->source, err))
        return -1;
    if (info->format == SD_LATENTS_NPZ3) {
        info->flipped = same_shape(sd_npz_find(z, "latents_flipped"), e);
        return 0;
    }
    struct sd_npz *flip = NULL;
    int rc = find_flip(&flip, &flipped, z, path, a, err);
    info->flipped = flipped;
    sd_npz_close(flip);
    return rc;
}

int sd_latents_inspect(struct sd_latents_info *info, struct sd_archives *shards, const char *path,
                       struct sd_arena *a, struct sd_err *err)
{
    *info = (struct sd_latents_info){0};
    return with_npz(read_info, info, shards, path, a, err);
}

/* --- reading for training
 * -------------------------------------------------------------------------------------- */

static int load_array(const struct sd_npz *z, const char *path, const char *name, const int64_t shape[3],
                      float *out, struct sd_err *err)
{
    const struct sd_store_entry *e = sd_npz_find(z, name);
    char have[96];
    if (!e)
        return sd_err_set(err, SD_ERR_DATA, "%s: no array \"%s\"", path, name);
    if (e->ndim != 3 || memcmp(e->shape, shape, 3 * sizeof *shape))
        return sd_err_set(err, SD_ERR_DATA, "%s: array \"%s\" is %s, expected [%lld,%lld,%lld]", path, name,
                          sd_store_shape_text(e->ndim, e->shape, have, sizeof have), (long long)shape[0],
                          (long long)shape[1], (long long)shape[2]);
    return load_f32(z, e, out, err);
}

/* The mirrored ones of an npz1 or npz2. */
static int load_flip(const struct sd_npz *z, const char *path, const int64_t shape[3], float *out,
                     struct sd_err *err)
{
    const struct sd_store_entry *e;
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_npz *flip = NULL;
    int rc = find_flip(&flip, &e, z, path, &a, err);
    if (!rc && !flip)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: no file with the mirrored picture's latents beside it", path);
    else if (!rc && !e)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: the mirrored latents beside it have another shape or source",
                        path);
    else if (!rc)
        rc = load_array(flip, path, e->name, shape, out, err);
    sd_npz_close(flip);
    sd_arena_free(&a);
    return rc;
}

int sd_latents_load(struct sd_archives *shards, const char *path, int channels, int height, int width,
                    bool flipped, float *out, struct sd_err *err)
{
    const int64_t shape[3] = {channels, height, width};
    struct cache c;
    if (open_cache(&c, shards, path, err))
        return -1;
    enum sd_latents_format format = format_of(c.z);
    if (format == SD_LATENTS_NPZ1 && !sd_npz_find(c.z, "arr_0"))
        format = SD_LATENTS_NPZ3; /* for the message */
    int rc = flipped && format != SD_LATENTS_NPZ3
                 ? load_flip(c.z, path, shape, out, err)
                 : load_array(c.z, path, flipped ? "latents_flipped" : main_name(format), shape, out, err);
    close_cache(&c);
    return rc;
}
