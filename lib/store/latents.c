#include "store/latents.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "store/npz.h"

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

static bool small_shape(const struct sd_store_entry *e, int ndim)
{
    if (e->ndim != ndim)
        return false;
    for (int i = 0; i < ndim; i++)
        if (e->shape[i] < 1 || e->shape[i] > INT_MAX)
            return false;
    return true;
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

static int read_all(struct sd_latents *l, const struct sd_npz *z, struct sd_arena *a, struct sd_err *err)
{
    const struct sd_store_entry *e = sd_npz_find(z, "latents"), *flipped = sd_npz_find(z, "latents_flipped");
    const struct sd_store_entry *mask = sd_npz_find(z, "alpha_mask");
    double size[2] = {0, 0};
    if (!e && sd_npz_find(z, "arr_0"))
        return sd_err_set(err, SD_ERR_DATA,
                          "a cache of an old sd-scripts (array arr_0), encode the picture again");
    if (!e || !small_shape(e, 3))
        return sd_err_set(err, SD_ERR_DATA, "no array \"latents\" of shape [C,h,w]");
    l->channels = (int)e->shape[0];
    l->height = (int)e->shape[1];
    l->width = (int)e->shape[2];
    if (flipped && (flipped->ndim != 3 || memcmp(flipped->shape, e->shape, 3 * sizeof *e->shape)))
        return sd_err_set(err, SD_ERR_DATA, "array \"latents_flipped\" has another shape than \"latents\"");
    if (mask && !small_shape(mask, 2))
        return sd_err_set(err, SD_ERR_DATA, "array \"alpha_mask\" is not of shape [H,W]");
    if (mask) {
        l->mask_height = (int)mask->shape[0];
        l->mask_width = (int)mask->shape[1];
    }
    if (read_f32(z, e, a, &l->latents, err) || (flipped && read_f32(z, flipped, a, &l->flipped, err)) ||
        (mask && read_f32(z, mask, a, &l->alpha_mask, err)) ||
        read_numbers(z, "original_size", 2, size, err) || read_numbers(z, "crop_ltrb", 4, l->crop_ltrb, err))
        return -1;
    for (int i = 0; i < 2; i++)
        l->original_size[i] = size[i] >= 0 && size[i] <= INT_MAX ? (int64_t)size[i] : 0;
    return 0;
}

int sd_latents_read(struct sd_latents *l, const char *path, struct sd_arena *a, struct sd_err *err)
{
    struct sd_npz *z;
    *l = (struct sd_latents){0};
    if (sd_npz_open(&z, path, err))
        return -1;
    int rc = read_all(l, z, a, err);
    if (rc && (!err || strncmp(err->msg, path, strlen(path))))
        sd_err_prefix(err, "%s", path);
    sd_npz_close(z);
    return rc;
}

int sd_latents_load(const char *path, int channels, int height, int width, bool flipped, float *out,
                    struct sd_err *err)
{
    const char *name = flipped ? "latents_flipped" : "latents";
    struct sd_npz *z;
    if (sd_npz_open(&z, path, err))
        return -1;
    const struct sd_store_entry *e = sd_npz_find(z, name);
    char have[96];
    int rc;
    if (!e)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: no array \"%s\"", path, name);
    else if (e->ndim != 3 || e->shape[0] != channels || e->shape[1] != height || e->shape[2] != width)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: array \"%s\" is %s, expected [%d,%d,%d]", path, name,
                        sd_store_shape_text(e->ndim, e->shape, have, sizeof have), channels, height, width);
    else
        rc = load_f32(z, e, out, err);
    sd_npz_close(z);
    return rc;
}

int sd_latents_write(const char *path, const struct sd_latents *l, struct sd_err *err)
{
    const int64_t shape[] = {l->channels, l->height, l->width}, two = 2, four = 4;
    const int64_t mask[] = {l->mask_height, l->mask_width};
    const int64_t length = l->source ? (int64_t)strlen(l->source) : 0;
    struct sd_store_tensor t[6];
    size_t n = 0;
    t[n++] = (struct sd_store_tensor){
        .name = "latents", .dtype = SD_STORE_F32, .ndim = 3, .shape = shape, .data = l->latents};
    t[n++] = (struct sd_store_tensor){
        .name = "original_size", .dtype = SD_STORE_I64, .ndim = 1, .shape = &two, .data = l->original_size};
    t[n++] = (struct sd_store_tensor){
        .name = "crop_ltrb", .dtype = SD_STORE_F64, .ndim = 1, .shape = &four, .data = l->crop_ltrb};
    if (l->flipped)
        t[n++] = (struct sd_store_tensor){
            .name = "latents_flipped", .dtype = SD_STORE_F32, .ndim = 3, .shape = shape, .data = l->flipped};
    if (l->alpha_mask)
        t[n++] = (struct sd_store_tensor){
            .name = "alpha_mask", .dtype = SD_STORE_F32, .ndim = 2, .shape = mask, .data = l->alpha_mask};
    if (l->source)
        t[n++] = (struct sd_store_tensor){
            .name = "sd_source", .dtype = SD_STORE_U8, .ndim = 1, .shape = &length, .data = l->source};
    return sd_npz_write(path, t, n, err);
}

static bool is_shape(const struct sd_store_entry *e, int height, int width)
{
    return e && e->ndim == 3 && e->shape[1] == height && e->shape[2] == width;
}

bool sd_latents_fit(const char *path, int height, int width, bool flipped, bool alpha_mask)
{
    struct sd_npz *z;
    if (sd_npz_open(&z, path, NULL))
        return false;
    const struct sd_store_entry *mask = sd_npz_find(z, "alpha_mask");
    bool fit = is_shape(sd_npz_find(z, "latents"), height, width) && sd_npz_find(z, "original_size") &&
               sd_npz_find(z, "crop_ltrb");
    if (flipped)
        fit = fit && is_shape(sd_npz_find(z, "latents_flipped"), height, width);
    if (alpha_mask)
        fit = fit && mask && mask->ndim == 2 && mask->shape[0] == 8 * (int64_t)height &&
              mask->shape[1] == 8 * (int64_t)width;
    else
        fit = fit && !mask;
    sd_npz_close(z);
    return fit;
}

int sd_latents_made_from(const char *path, const char *source)
{
    struct sd_npz *z;
    if (sd_npz_open(&z, path, NULL))
        return 0;
    const struct sd_store_entry *e = sd_npz_find(z, "sd_source");
    size_t len = strlen(source);
    int same = e ? 0 : -1;
    if (e && e->bytes == len) {
        char *told = malloc(len + 1);
        same = told && !sd_npz_read(z, e, told, NULL) && !memcmp(told, source, len);
        free(told);
    }
    sd_npz_close(z);
    return same;
}
