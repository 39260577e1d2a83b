/* sd-bucket: records with width and height in, the same with bucket, resize and crop out. */
#include "cmd.h"

#include "data/bucket.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LATENT_PIXELS = 8 }; /* a side; a bucket is whole latents */

struct tally { /* of one worker */
    struct sd_size *size;
    int64_t *count;
    size_t n, cap;
    __int128 ar_error; /* in units of 2^-60: a sum that does not depend on which thread had which picture */
    int64_t pictures;
};

struct bucket_ctx {
    struct sd_buckets buckets;
    struct tally *tally; /* by worker */
};

static int tally_add(struct tally *t, struct sd_size size, int64_t count)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->size[i].w == size.w && t->size[i].h == size.h) {
            t->count[i] += count;
            return 0;
        }
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        struct sd_size *s = realloc(t->size, cap * sizeof *s);
        if (s)
            t->size = s;
        int64_t *c = realloc(t->count, cap * sizeof *c);
        if (c)
            t->count = c;
        if (!s || !c)
            return -1;
        t->cap = cap;
    }
    t->size[t->n] = size;
    t->count[t->n++] = count;
    return 0;
}

static int bucket(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct bucket_ctx *b = ctx;
    struct tally *t = &b->tally[worker];
    struct sd_size image;
    struct sd_bucket_choice c;
    int64_t repeats = 1;
    if (sd_record_need_int(r, "width", &image.w, err) || sd_record_need_int(r, "height", &image.h, err) ||
        sd_record_int(r, "repeats", &repeats, err) < 0)
        return -1;
    if (repeats < 1)
        return sd_err_set(err, SD_ERR_DATA, "repeats is %lld, less than 1", (long long)repeats);
    if (sd_bucket_choose(&b->buckets, image, &c, err))
        return -1;
    if (sd_record_set_ints(r, "bucket", (int64_t[]){c.bucket.w, c.bucket.h}, 2) ||
        sd_record_set_ints(r, "resize", (int64_t[]){c.resize.w, c.resize.h}, 2) ||
        sd_record_set_ints(r, "crop", (int64_t[]){c.crop_x, c.crop_y}, 2) || tally_add(t, c.bucket, repeats))
        return sd_err_memory(err, 64);
    t->ar_error += (__int128)(fabs(c.ar_error) * 0x1p60);
    t->pictures++;
    return SD_RECORD_KEEP;
}

static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b; /* [w, h, count] */
    return x[0] != y[0] ? (x[0] > y[0]) - (x[0] < y[0]) : (x[1] > y[1]) - (x[1] < y[1]);
}

/* The lines sd-scripts prints when it makes its buckets. */
static void summary(struct sd_cmd *c, struct bucket_ctx *b, int workers)
{
    struct tally all = {0};
    for (int i = 0; i < workers; i++) {
        for (size_t k = 0; k < b->tally[i].n; k++)
            tally_add(&all, b->tally[i].size[k], b->tally[i].count[k]);
        all.ar_error += b->tally[i].ar_error;
        all.pictures += b->tally[i].pictures;
    }
    int64_t(*rows)[3] = malloc((all.n + 1) * sizeof *rows);
    for (size_t i = 0; rows && i < all.n; i++) {
        rows[i][0] = all.size[i].w;
        rows[i][1] = all.size[i].h;
        rows[i][2] = all.count[i];
    }
    if (rows) {
        qsort(rows, all.n, sizeof *rows, by_size);
        for (size_t i = 0; i < all.n; i++)
            cmd_say(c, "bucket %zu: resolution (%lld, %lld), count: %lld", i, (long long)rows[i][0],
                    (long long)rows[i][1], (long long)rows[i][2]);
        if (all.pictures)
            cmd_say(c, "mean ar error (without repeats): %.17g",
                    (double)all.ar_error * 0x1p-60 / (double)all.pictures);
    }
    free(rows);
    free(all.size);
    free(all.count);
}

int main(int argc, char **argv)
{
    struct sd_bucket_config config = SD_BUCKET_DEFAULT;
    const char *resolution = "512,512";
    bool enable = true;
    const struct sd_option options[] = {
        {SD_OPT_STRING("resolution", 0, &resolution, "N|W,H",
                       "training resolution; its area limits every bucket"),
         .alias = "max-resolution"},
        {SD_OPT_INT("min-bucket-reso", 0, &config.min_reso, "N", "smallest side of a bucket")},
        {SD_OPT_INT("max-bucket-reso", 0, &config.max_reso, "N", "largest side of a bucket")},
        {SD_OPT_INT("bucket-reso-steps", 0, &config.steps, "N", "sides are multiples of this")},
        {SD_OPT_BOOL("bucket-no-upscale", 0, &config.no_upscale,
                     "never enlarge: buckets follow the pictures' own sizes")},
        {SD_OPT_BOOL("enable-bucket", 0, &enable,
                     "choose among buckets; --no-enable-bucket has only the resolution")},
        SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-bucket",
                                   .summary = "Choose the training size of each picture, as sd-scripts does",
                                   .options = options}};
    cmd_start(&c, &argc, argv);
    struct bucket_ctx b = {0};
    struct sd_err err = {0};
    config.single = !enable;
    if (sd_size_parse(resolution, &config.resolution, &err) || sd_buckets_init(&b.buckets, &config, &err))
        cmd_die(&c, &err);
    if (enable && config.steps % LATENT_PIXELS)
        cmd_usage(&c, "--bucket-reso-steps: %lld is no multiple of %d, the pixels of a latent",
                  (long long)config.steps, LATENT_PIXELS);
    if (!enable && (config.resolution.w % LATENT_PIXELS || config.resolution.h % LATENT_PIXELS))
        cmd_usage(&c, "--resolution: %lldx%lld are no multiples of %d, the pixels of a latent",
                  (long long)config.resolution.w, (long long)config.resolution.h, LATENT_PIXELS);
    if (enable && !config.no_upscale &&
        (b.buckets.config.min_reso != config.min_reso || b.buckets.config.max_reso != config.max_reso))
        cmd_warn(&c, "bucket sides are rounded to whole steps: %lld to %lld",
                 (long long)b.buckets.config.min_reso, (long long)b.buckets.config.max_reso);
    int workers = c.common.jobs;
    if (!(b.tally = calloc((size_t)workers, sizeof *b.tally))) {
        sd_err_memory(&err, (size_t)workers * sizeof *b.tally);
        cmd_die(&c, &err);
    }
    cmd_each(&c, bucket, &b);
    summary(&c, &b, workers);
    for (int i = 0; i < workers; i++) {
        free(b.tally[i].size);
        free(b.tally[i].count);
    }
    free(b.tally);
    sd_buckets_free(&b.buckets);
    return cmd_finish(&c);
}
