#include "data/augment.h"

#include "base/path.h"
#include "image/colour.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sd_augment_mirrors(const struct sd_augment *a, struct sd_pyrandom *random)
{
    return a->flip && sd_pyrandom_random(random) < 0.5;
}

bool sd_augment_varies(const struct sd_augment *a)
{
    return a->color || a->random_crop;
}

/* --- colour
 * ------------------------------------------------------------------------------------------------------- */

static void change_colour(struct sd_image *im, struct sd_pyrandom *random)
{
    if (sd_pyrandom_random(random) > 0.33)
        return;
    if (sd_pyrandom_random(random) > 0.5) {
        double shift = sd_pyrandom_uniform(random, -8, 8);
        sd_image_shift_hue(im, shift < 0 ? 180 + shift : shift);
    } else {
        sd_image_gamma(im, sd_pyrandom_uniform(random, 0.95, 1.05));
    }
}

/* --- faces
 * -------------------------------------------------------------------------------------------------------- */

struct face {
    int64_t x, y, w, h; /* its middle, its size */
};

/* 1 with the face, 0 when the name has too few parts, -1 when they are no numbers. */
static int read_face(const char *path, struct face *f, struct sd_err *err)
{
    const char *base = sd_path_base(path), *end = path + sd_path_stem_len(path);
    int64_t *part[4] = {&f->h, &f->w, &f->y, &f->x};
    const char *starts[4];
    for (int i = 0; i < 4; i++) {
        const char *at = i ? starts[i - 1] - 1 : end;
        while (at > base && at[-1] != '_')
            at--;
        if (at == base)
            return 0;
        starts[i] = at;
    }
    for (int i = 0; i < 4; i++) {
        const char *stop = i ? starts[i - 1] - 1 : end;
        char *rest;
        errno = 0;
        *part[i] = strtoll(starts[i], &rest, 10);
        if (rest != stop || stop == starts[i] || errno || *part[i] < 0 || *part[i] > 1 << 24)
            return sd_err_set(err, SD_ERR_DATA,
                              "face crops need four whole numbers at the end of the name, _x_y_width_height");
    }
    return 1;
}

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Where a stretch of target pixels begins in one of length, with the face's middle at face in its middle, or
 * somewhat off. */
static int64_t place_face(const struct sd_augment *a, struct sd_pyrandom *random, int64_t target,
                          int64_t length, int64_t face, int64_t face_size, int64_t size)
{
    int64_t at = face - target / 2;
    if (a->random_crop) {
        int64_t range = max(length - face, face);
        int64_t first = sd_pyrandom_randint(random, 0, range);
        at += first + sd_pyrandom_randint(random, 0, range) - range;
    } else if (a->face_range[0] != a->face_range[1] && face_size > size / 10 && face_size >= 40) {
        at += sd_pyrandom_randint(random, -((face_size + 19) / 20), face_size / 20); /* -n // 20 goes down */
    }
    return max(0, min(at, length - target));
}

/* The size to scale to so that the face gets a size of the range (crop_target of sd-scripts), and the face in
 * it. */
static int scale_to_face(const struct sd_augment *a, struct sd_size target, struct sd_size image,
                         struct face *f, struct sd_pyrandom *random, struct sd_size *resize,
                         struct sd_err *err)
{
    double size = (double)min(target.h, target.w), face = (double)max(f->w, f->h);
    double least = fmax((double)target.h / (double)image.h, (double)target.w / (double)image.w);
    if (least > 1)
        return sd_err_set(err, SD_ERR_DATA,
                          "the picture, %lldx%lld, is smaller than the training size %lldx%lld",
                          (long long)image.w, (long long)image.h, (long long)target.w, (long long)target.h);
    if (face <= 0)
        return sd_err_set(err, SD_ERR_DATA, "the face that the name tells has no size");
    double low = fmin(1, fmax(least, size / (face * a->face_range[1])));
    double high = fmin(1, fmax(low, size / (face * a->face_range[0])));
    double scale = low >= high ? low : sd_pyrandom_uniform(random, low, high);
    *resize =
        (struct sd_size){(int64_t)((double)image.w * scale + 0.5), (int64_t)((double)image.h * scale + 0.5)};
    f->x = min((int64_t)((double)f->x * scale + 0.5), resize->w);
    f->y = min((int64_t)((double)f->y * scale + 0.5), resize->h);
    return 0;
}

/* --- what is cut out
 * ---------------------------------------------------------------------------------------------- */

static int64_t place(const struct sd_augment *a, struct sd_pyrandom *random, int64_t excess, int64_t centred)
{
    return !a->random_crop || excess <= 0 ? centred : sd_pyrandom_randint(random, 0, excess);
}

/* Fills in resize and crop. */
static int choose_cut(const struct sd_augment *a, const struct sd_augment_target *t, struct sd_size image,
                      struct sd_pyrandom *random, struct sd_augmented *out, struct sd_err *err)
{
    struct face f;
    int face = a->face_crop && !t->bucketed ? read_face(t->path, &f, err) : 0;
    if (face < 0)
        return -1;
    if (face && f.x > 0) { /* sd-scripts takes 0 for no face */
        struct sd_size b = t->bucket;
        int64_t face_size = max(f.w, f.h);
        out->resize = image;
        if (b.w == image.w && b.h == image.h)
            return 0;
        if (scale_to_face(a, b, image, &f, random, &out->resize, err))
            return -1;
        out->crop_y = place_face(a, random, b.h, out->resize.h, f.y, face_size, min(b.w, b.h));
        out->crop_x = place_face(a, random, b.w, out->resize.w, f.x, face_size, min(b.w, b.h));
    } else if (!t->bucketed && a->random_crop && image.w >= t->bucket.w && image.h >= t->bucket.h) {
        out->resize = image;
        out->crop_y = place(a, random, image.h - t->bucket.h, 0);
        out->crop_x = place(a, random, image.w - t->bucket.w, 0);
    } else {
        out->resize = t->resize;
        out->crop_x = place(a, random, t->resize.w - t->bucket.w, t->crop_x);
        out->crop_y = place(a, random, t->resize.h - t->bucket.h, t->crop_y);
    }
    return 0;
}

int sd_augment(const struct sd_augment *a, const struct sd_augment_target *t, struct sd_image *picture,
               bool mirrored, struct sd_pyrandom *random, struct sd_augmented *out, struct sd_err *err)
{
    struct sd_image sized = SD_IMAGE_INIT;
    *out = (struct sd_augmented){0};
    int rc =
        choose_cut(a, t, (struct sd_size){picture->width, picture->height}, random, out, err) ||
        sd_image_resize(picture, (uint32_t)out->resize.w, (uint32_t)out->resize.h, a->filter, &sized, err);
    sd_image_free(picture);
    rc = rc || sd_image_crop(&sized, (uint32_t)out->crop_x, (uint32_t)out->crop_y, (uint32_t)t->bucket.w,
                             (uint32_t)t->bucket.h, &out->picture, err);
    sd_image_free(&sized);
    if (rc)
        return -1;
    if (a->color)
        change_colour(&out->picture, random);
    if (mirrored)
        sd_image_flip(&out->picture);
    return 0;
}
