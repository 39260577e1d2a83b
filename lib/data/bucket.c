#include "data/bucket.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define MAX_SIDE 65536 /* keeps areas far from overflow */

enum { LATENT_PIXELS = 8 }; /* a side */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int by_size(const void *a, const void *b)
{
    const struct sd_size *x = a, *y = b;
    return x->w != y->w ? (x->w > y->w) - (x->w < y->w) : (x->h > y->h) - (x->h < y->h);
}

static void add(struct sd_buckets *b, int64_t w, int64_t h)
{
    b->sizes[b->count++] = (struct sd_size){w, h};
}

static int make_list(struct sd_buckets *b, struct sd_err *err)
{
    const struct sd_bucket_config *c = &b->config;
    int64_t area = c->resolution.w * c->resolution.h, d = c->steps;
    size_t most = 1 + 2 * (size_t)(1 + (c->max_reso - c->min_reso) / d);
    if (!(b->sizes = malloc(most * sizeof *b->sizes)))
        return sd_err_memory(err, most * sizeof *b->sizes);
    int64_t side = (int64_t)(sqrt((double)area) / (double)d) * d;
    add(b, side, side);
    for (int64_t w = c->min_reso; w <= c->max_reso; w += d) {
        int64_t h = min64(c->max_reso, area / w / d * d);
        if (h >= c->min_reso) {
            add(b, w, h);
            add(b, h, w);
        }
    }
    qsort(b->sizes, b->count, sizeof *b->sizes, by_size);
    size_t n = 1;
    for (size_t i = 1; i < b->count; i++)
        if (by_size(&b->sizes[i], &b->sizes[n - 1]))
            b->sizes[n++] = b->sizes[i];
    b->count = n;
    return 0;
}

static int check(const struct sd_bucket_config *c, struct sd_err *err)
{
    struct sd_size r = c->resolution;
    if (r.w < 1 || r.h < 1 || r.w > MAX_SIDE || r.h > MAX_SIDE)
        return sd_err_set(err, SD_ERR_USAGE, "a resolution is 1 to %d pixels a side, not %lldx%lld", MAX_SIDE,
                          (long long)r.w, (long long)r.h);
    if (c->single)
        return 0;
    if (c->steps < 1 || c->steps > MAX_SIDE)
        return sd_err_set(err, SD_ERR_USAGE, "bucket steps are 1 to %d pixels, not %lld", MAX_SIDE,
                          (long long)c->steps);
    if (c->no_upscale)
        return 0;
    if (c->min_reso < 1 || c->max_reso > MAX_SIDE || c->min_reso > c->max_reso)
        return sd_err_set(err, SD_ERR_USAGE,
                          "the smallest bucket side, %lld, and the largest, %lld, leave no buckets",
                          (long long)c->min_reso, (long long)c->max_reso);
    if (min64(r.w, r.h) < c->min_reso || r.w > c->max_reso || r.h > c->max_reso)
        return sd_err_set(
            err, SD_ERR_USAGE,
            "the resolution %lldx%lld lies outside the bucket sides %lld to %lld (--min-bucket-reso, "
            "--max-bucket-reso)",
            (long long)r.w, (long long)r.h, (long long)c->min_reso, (long long)c->max_reso);
    return 0;
}

int sd_buckets_init(struct sd_buckets *b, const struct sd_bucket_config *config, struct sd_err *err)
{
    *b = (struct sd_buckets){.config = *config};
    struct sd_bucket_config *c = &b->config;
    if (!c->single && !c->no_upscale && c->steps >= 1 && c->max_reso <= MAX_SIDE) {
        c->min_reso = c->min_reso / c->steps * c->steps;
        c->max_reso = (c->max_reso + c->steps - 1) / c->steps * c->steps;
        if (c->min_reso == 0)
            c->min_reso = c->steps;
    }
    if (check(c, err))
        return -1;
    if (c->single) {
        if (!(b->sizes = malloc(sizeof *b->sizes)))
            return sd_err_memory(err, sizeof *b->sizes);
        add(b, c->resolution.w, c->resolution.h);
        return 0;
    }
    return c->no_upscale ? 0 : make_list(b, err);
}

int sd_bucket_check_latents(const struct sd_bucket_config *c, struct sd_err *err)
{
    if (!c->single && c->steps % LATENT_PIXELS)
        return sd_err_set(err, SD_ERR_USAGE,
                          "bucket-reso-steps: %lld is no multiple of %d, the pixels of a latent",
                          (long long)c->steps, LATENT_PIXELS);
    if (c->single && (c->resolution.w % LATENT_PIXELS || c->resolution.h % LATENT_PIXELS))
        return sd_err_set(err, SD_ERR_USAGE,
                          "resolution: %lldx%lld are no multiples of %d, the pixels of a latent",
                          (long long)c->resolution.w, (long long)c->resolution.h, LATENT_PIXELS);
    return 0;
}

void sd_buckets_free(struct sd_buckets *b)
{
    free(b->sizes);
    *b = (struct sd_buckets){0};
}

static double ratio(struct sd_size s)
{
    return (double)s.w / (double)s.h;
}

/* A listed bucket: the picture's own size if it is one, else the one of nearest aspect ratio, the first of
 * equals. */
static void choose_listed(const struct sd_buckets *b, struct sd_size image, struct sd_bucket_choice *c)
{
    double ar = ratio(image), best = INFINITY;
    for (size_t i = 0; i < b->count; i++) {
        double error = fabs(ratio(b->sizes[i]) - ar);
        if (b->sizes[i].w == image.w && b->sizes[i].h == image.h) {
            c->bucket = image;
            break;
        }
        if (error < best) {
            best = error;
            c->bucket = b->sizes[i];
        }
    }
    double scale =
        ar > ratio(c->bucket) ? (double)c->bucket.h / (double)image.h : (double)c->bucket.w / (double)image.w;
    c->resize.w = (int64_t)((double)image.w * scale + 0.5);
    c->resize.h = (int64_t)((double)image.h * scale + 0.5);
}

static int64_t round_to_steps(double x, int64_t steps)
{
    int64_t n = (int64_t)(x + 0.5);
    return n - n % steps;
}

/* The picture shrunk to the area, the side that distorts less being whole steps; the bucket is what whole
 * steps leave. */
static void choose_shrinking(const struct sd_buckets *b, struct sd_size image, struct sd_bucket_choice *c)
{
    int64_t d = b->config.steps, area = b->config.resolution.w * b->config.resolution.h;
    double ar = ratio(image);
    c->resize = image;
    if (image.w > area / image.h && image.w * image.h > area) {
        double w = sqrt((double)area * ar), h = (double)area / w;
        int64_t bw = round_to_steps(w, d), bh_for_bw = round_to_steps((double)bw / ar, d);
        int64_t bh = round_to_steps(h, d), bw_for_bh = round_to_steps((double)bh * ar, d);
        double by_width = fabs((double)bw / (double)bh_for_bw - ar);
        double by_height = fabs((double)bw_for_bh / (double)bh - ar);
        if (by_width < by_height)
            c->resize = (struct sd_size){bw, (int64_t)((double)bw / ar + 0.5)};
        else
            c->resize = (struct sd_size){(int64_t)((double)bh * ar + 0.5), bh};
    }
    c->bucket = (struct sd_size){c->resize.w - c->resize.w % d, c->resize.h - c->resize.h % d};
}

int sd_bucket_choose(const struct sd_buckets *b, struct sd_size image, struct sd_bucket_choice *choice,
                     struct sd_err *err)
{
    if (image.w < 1 || image.h < 1 || image.w > INT32_MAX || image.h > INT32_MAX)
        return sd_err_set(err, SD_ERR_DATA, "a picture of %lldx%lld pixels has no bucket", (long long)image.w,
                          (long long)image.h);
    *choice = (struct sd_bucket_choice){0};
    if (b->config.no_upscale && !b->config.single)
        choose_shrinking(b, image, choice);
    else
        choose_listed(b, image, choice);
    if (choice->bucket.w < 1 || choice->bucket.h < 1)
        return sd_err_set(err, SD_ERR_DATA, "%lldx%lld pixels are less than one bucket step of %lld",
                          (long long)image.w, (long long)image.h, (long long)b->config.steps);
    choice->crop_x = (choice->resize.w - choice->bucket.w) / 2;
    choice->crop_y = (choice->resize.h - choice->bucket.h) / 2;
    choice->ar_error = ratio(choice->bucket) - ratio(image);
    return 0;
}

void sd_bucket_crop_ltrb(struct sd_size bucket, struct sd_size image, double ltrb[4])
{
    double bw = (double)bucket.w, bh = (double)bucket.h, ar = ratio(image), w = bw, h = bh;
    if (ratio(bucket) > ar)
        w = bh * ar;
    else
        h = bw / ar;
    ltrb[0] = floor((bw - w) / 2);
    ltrb[1] = floor((bh - h) / 2);
    ltrb[2] = ltrb[0] + w;
    ltrb[3] = ltrb[1] + h;
}

int sd_size_parse(const char *text, struct sd_size *size, struct sd_err *err)
{
    char *end;
    errno = 0;
    size->w = size->h = strtoll(text, &end, 10);
    if (end != text && *end == ',') {
        const char *second = end + 1;
        size->h = strtoll(second, &end, 10);
        if (end == second)
            end = (char *)second - 1;
    }
    if (end == text || *end || errno)
        return sd_err_set(err, SD_ERR_USAGE, "\"%s\" is no resolution: N or WIDTH,HEIGHT", text);
    return 0;
}
