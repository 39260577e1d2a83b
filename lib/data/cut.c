#include "data/cut.h"

#include "base/hash.h"
#include "data/picture.h"

#include <stdlib.h>
#include <string.h>

/* --- what the record asks for
 * ---------------------------------------------------------------------------------------- */

static int take_subset(struct sd_cut *cut, const struct sd_subset *subset, struct sd_err *err)
{
    const struct sd_augment *a = &subset->augment;
    if (sd_augment_varies(a))
        return sd_err_set(err, SD_ERR_DATA, "latents cannot be cached with %s",
                          a->color && a->random_crop ? "color_aug and random_crop"
                          : a->color                 ? "color_aug"
                                                     : "random_crop");
    cut->filter = a->filter;
    cut->flip = a->flip;
    cut->alpha = subset->alpha_mask;
    return 0;
}

static int check_place(const struct sd_cut *c, struct sd_err *err)
{
    const int64_t bucket[] = {c->bucket.w, c->bucket.h}, resize[] = {c->resize.w, c->resize.h};
    for (int i = 0; i < 2; i++)
        if (bucket[i] < 8 || bucket[i] % 8 || bucket[i] > 16384 || resize[i] > 65536 || c->crop[i] < 0 ||
            c->crop[i] > resize[i] - bucket[i])
            return sd_err_set(err, SD_ERR_DATA,
                              "bucket [%lld,%lld] at crop [%lld,%lld] does not lie in resize [%lld,%lld], "
                              "or is no multiple of 8",
                              (long long)bucket[0], (long long)bucket[1], (long long)c->crop[0],
                              (long long)c->crop[1], (long long)resize[0], (long long)resize[1]);
    return 0;
}

int sd_cut_read(struct sd_cut *cut, struct sd_record *r, const struct sd_subset *subset, struct sd_err *err)
{
    int64_t bucket[2], resize[2];
    *cut = (struct sd_cut){.width = -1, .height = -1, .bytes = -1};
    if (sd_record_need_string(r, "path", &cut->path, err) ||
        sd_record_need_ints(r, "bucket", bucket, 2, err) ||
        sd_record_need_ints(r, "resize", resize, 2, err) ||
        sd_record_need_ints(r, "crop", cut->crop, 2, err) ||
        sd_record_int(r, "width", &cut->width, err) < 0 ||
        sd_record_int(r, "height", &cut->height, err) < 0 ||
        sd_record_int(r, "bytes", &cut->bytes, err) < 0 ||
        sd_record_string(r, "sha256", &cut->sha256, NULL, err) < 0 || take_subset(cut, subset, err))
        return -1;
    cut->bucket = (struct sd_size){bucket[0], bucket[1]};
    cut->resize = (struct sd_size){resize[0], resize[1]};
    return check_place(cut, err);
}

/* --- the picture
 * ------------------------------------------------------------------------------------------------- */

static int changed(const struct sd_cut *c, const struct sd_image *im, const struct sd_cut_picture *p,
                   struct sd_err *err)
{
    static const char head[] = "changed since it was scanned";
    if (c->bytes >= 0 && c->bytes != p->bytes)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s: %lld bytes, the record says %lld", c->path, head,
                          (long long)p->bytes, (long long)c->bytes);
    if (c->sha256 && strcmp(c->sha256, p->sha256))
        return sd_err_set(err, SD_ERR_DATA, "%s: %s: its SHA-256 is another", c->path, head);
    if (im && ((c->width >= 0 && c->width != im->width) || (c->height >= 0 && c->height != im->height)))
        return sd_err_set(err, SD_ERR_DATA, "%s: %s: %ux%u pixels, the record says %lldx%lld", c->path, head,
                          im->width, im->height, (long long)c->width, (long long)c->height);
    return 0;
}

static int decode(const struct sd_cut *c, struct sd_archives *archives, struct sd_image *im,
                  struct sd_cut_picture *p, struct sd_err *err)
{
    struct sd_picture_bytes file;
    *im = SD_IMAGE_INIT;
    if (sd_picture_read(archives, c->path, &file, err))
        return -1;
    p->bytes = (int64_t)file.len;
    sd_sha256(file.bytes, file.len, p->sha256);
    int rc = changed(c, NULL, p, err) ? -1 : 0;
    if (!rc && sd_image_decode(file.bytes, file.len, c->alpha ? 4 : 3, 0, im, err))
        rc = sd_err_prefix(err, "%s", c->path);
    sd_picture_done(&file);
    return rc ? rc : changed(c, im, p, err);
}

/* RGBA to RGB and a mask. */
static int split_alpha(const struct sd_image *cut, struct sd_cut_picture *p, struct sd_err *err)
{
    size_t n = (size_t)cut->width * cut->height;
    p->mask = malloc(n * sizeof *p->mask);
    if (!p->mask)
        return sd_err_memory(err, n * sizeof *p->mask);
    if (sd_image_alloc(&p->rgb, cut->width, cut->height, 3, err))
        return -1;
    for (size_t i = 0; i < n; i++) {
        memcpy(p->rgb.data + 3 * i, cut->data + 4 * i, 3);
        p->mask[i] = (float)cut->data[4 * i + 3] / 255.0f;
    }
    return 0;
}

int sd_cut_load(const struct sd_cut *c, struct sd_archives *archives, struct sd_cut_picture *p,
                struct sd_err *err)
{
    struct sd_image full, sized, cut = SD_IMAGE_INIT;
    *p = (struct sd_cut_picture){0};
    if (decode(c, archives, &full, p, err)) {
        sd_image_free(&full);
        return -1;
    }
    p->original = (struct sd_size){full.width, full.height};
    int rc = sd_image_resize(&full, (uint32_t)c->resize.w, (uint32_t)c->resize.h, c->filter, &sized, err);
    sd_image_free(&full);
    if (rc)
        return -1;
    rc = sd_image_crop(&sized, (uint32_t)c->crop[0], (uint32_t)c->crop[1], (uint32_t)c->bucket.w,
                       (uint32_t)c->bucket.h, c->alpha ? &cut : &p->rgb, err);
    sd_image_free(&sized);
    if (!rc && c->alpha)
        rc = split_alpha(&cut, p, err);
    sd_image_free(&cut);
    if (rc)
        sd_cut_picture_free(p);
    return rc;
}

void sd_cut_picture_free(struct sd_cut_picture *p)
{
    sd_image_free(&p->rgb);
    free(p->mask);
    *p = (struct sd_cut_picture){0};
}
