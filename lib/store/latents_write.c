#include "store/latents.h"

#include "base/atomic.h"
#include "store/npy.h"
#include "store/npz.h"

#include <string.h>
#include <zlib.h>

/* The source with the CRC of what sd_npz_format makes of t. */
static int sign(struct sd_buf *out, const char *source, const struct sd_store_tensor *t, struct sd_err *err)
{
    struct sd_buf head = SD_BUF_INIT;
    int64_t bytes = sd_store_bytes(t->dtype, t->ndim, t->shape);
    int bad = bytes < 0 || sd_npy_header(&head, t->dtype, t->ndim, t->shape);
    if (!bad) {
        uLong crc = crc32_z(crc32_z(0, NULL, 0), (const Bytef *)head.data, head.len);
        crc = crc32_z(crc, t->data, (z_size_t)bytes);
        bad = sd_buf_addf(out, "%s\n%08lx", source, crc);
    }
    sd_buf_free(&head);
    return bad ? sd_err_memory(err, strlen(source)) : 0;
}

int sd_latents_format(struct sd_buf *out, const struct sd_latents *l, bool mirrored, struct sd_err *err)
{
    const int64_t shape[] = {l->channels, l->height, l->width}, two = 2, four = 4;
    const int64_t mask[] = {l->mask_height, l->mask_width};
    const int64_t corner[] = {(int64_t)l->crop_ltrb[0], (int64_t)l->crop_ltrb[1]};
    struct sd_buf source = SD_BUF_INIT;
    int64_t length = 0;
    bool npz3 = l->format == SD_LATENTS_NPZ3;
    struct sd_store_tensor t[6];
    size_t n = 0;
    t[n++] = (struct sd_store_tensor){.name = l->format == SD_LATENTS_NPZ1 ? "arr_0" : "latents",
                                      .dtype = SD_STORE_F32,
                                      .ndim = 3,
                                      .shape = shape,
                                      .data = mirrored ? l->flipped : l->latents};
    if (l->format != SD_LATENTS_NPZ1)
        t[n++] = (struct sd_store_tensor){.name = "original_size",
                                          .dtype = SD_STORE_I64,
                                          .ndim = 1,
                                          .shape = &two,
                                          .data = l->original_size};
    if (l->format == SD_LATENTS_NPZ2)
        t[n++] = (struct sd_store_tensor){
            .name = "crop_left_top", .dtype = SD_STORE_I64, .ndim = 1, .shape = &two, .data = corner};
    if (npz3)
        t[n++] = (struct sd_store_tensor){
            .name = "crop_ltrb", .dtype = SD_STORE_F64, .ndim = 1, .shape = &four, .data = l->crop_ltrb};
    if (npz3 && l->flipped)
        t[n++] = (struct sd_store_tensor){
            .name = "latents_flipped", .dtype = SD_STORE_F32, .ndim = 3, .shape = shape, .data = l->flipped};
    if (npz3 && l->alpha_mask)
        t[n++] = (struct sd_store_tensor){
            .name = "alpha_mask", .dtype = SD_STORE_F32, .ndim = 2, .shape = mask, .data = l->alpha_mask};
    if (l->source) {
        if (sign(&source, l->source, &t[0], err)) {
            sd_buf_free(&source);
            return -1;
        }
        length = (int64_t)source.len;
        t[n++] = (struct sd_store_tensor){
            .name = "sd_source", .dtype = SD_STORE_U8, .ndim = 1, .shape = &length, .data = source.data};
    }
    int rc = sd_npz_format(out, t, n, err);
    sd_buf_free(&source);
    return rc;
}

static int write_one(const char *path, const struct sd_latents *l, bool mirrored, struct sd_err *err)
{
    struct sd_buf bytes = SD_BUF_INIT;
    int rc = sd_latents_format(&bytes, l, mirrored, err) || sd_atomic_put(path, bytes.data, bytes.len, err)
                 ? -1
                 : 0;
    sd_buf_free(&bytes);
    return rc;
}

int sd_latents_write(const char *path, const struct sd_latents *l, struct sd_err *err)
{
    if (l->flipped && l->format != SD_LATENTS_NPZ3) {
        struct sd_buf flip = SD_BUF_INIT;
        int rc = sd_latents_flip_path(&flip, path) ? sd_err_memory(err, strlen(path))
                                                   : write_one(flip.data, l, true, err);
        sd_buf_free(&flip);
        if (rc)
            return -1;
    }
    return write_one(path, l, false, err);
}
