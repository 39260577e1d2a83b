/* Augmentation against sd-scripts (t/data/augment, made by t/ref/augment.py): pictures and captions draw by
 * draw. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/augment.h"
#include "image/colour.h"
#include "tap.h"
#include "text/caption.h"

#define DIR "t/data/augment/"
static const char text[] = "a, b, c, d, e";

static struct sd_err err;

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

struct found {
    int worst; /* difference of a byte */
    bool same_caption;
};

/* Does the case again; want are its pixels. */
static struct found redo(long long seed, const struct sd_augment *a, const struct sd_augment_target *t,
                         const uint8_t *want, const char *caption)
{
    struct found f = {0};
    struct sd_pyrandom random;
    struct sd_image source;
    struct sd_augmented made;
    struct sd_buf out = SD_BUF_INIT;
    struct sd_caption_options how = {
        .shuffle = 1, .keep_tokens = 1, .tag_dropout_rate = 0.2, .token_warmup_min = 1};
    struct sd_caption_context now = {.epoch = 1};
    sd_pyrandom_seed(&random, seed);
    if (sd_image_load(DIR "source.png", 3, 0, &source, &err))
        bail(err.msg);
    bool mirrored = sd_augment_mirrors(a, &random);
    if (sd_augment(a, t, &source, mirrored, &random, &made, &err) ||
        sd_caption_process(&how, &now, &random, text, strlen(text), &out, &err))
        bail(err.msg);
    for (int64_t i = 0; i < t->bucket.w * t->bucket.h * 3; i++) {
        int d = abs(made.picture.data[i] - want[i]);
        f.worst = d > f.worst ? d : f.worst;
    }
    f.same_caption = !strcmp(out.data ? out.data : "", caption);
    if (!f.same_caption)
        printf("# %s, not %s\n", out.data ? out.data : "", caption);
    sd_image_free(&made.picture);
    sd_buf_free(&out);
    return f;
}

static void check_fixture(void)
{
    struct sd_buf pixels = SD_BUF_INIT;
    FILE *in = fopen(DIR "cases.txt", "r");
    if (!in || sd_file_read(DIR "pictures.bin", 1 << 22, &pixels, &err))
        bail("no fixture");
    char line[512], name[128], caption[128];
    size_t at = 0;
    while (fgets(line, sizeof line, in)) {
        long long seed, n[6];
        int flag[4];
        double range[2];
        if (sscanf(line,
                   "%lld\t%127[^\t]\t%d\t%d\t%d\t%d\t%lf\t%lf\t%lld\t%lld\t%lld\t%lld\t%lld\t%lld\t%127[^\n]",
                   &seed, name, &flag[0], &flag[1], &flag[2], &flag[3], &range[0], &range[1], &n[0], &n[1],
                   &n[2], &n[3], &n[4], &n[5], caption) != 15)
            bail(line);
        struct sd_augment a = {.flip = flag[1],
                               .color = flag[2],
                               .random_crop = flag[3],
                               .face_crop = range[0] > 0,
                               .face_range = {range[0], range[1]}};
        struct sd_augment_target t = {.bucket = {n[0], n[1]},
                                      .resize = {n[2], n[3]},
                                      .crop_x = n[4],
                                      .crop_y = n[5],
                                      .bucketed = flag[0],
                                      .path = name};
        size_t bytes = (size_t)(n[0] * n[1] * 3);
        if (bytes > pixels.len - at)
            bail("pictures.bin is too short");
        struct found f = redo(seed, &a, &t, (uint8_t *)pixels.data + at, caption);
        at += bytes;
        ok(f.worst == 0 && f.same_caption, "seed %lld: %s%s%s%s%s", seed, flag[0] ? "buckets" : "no buckets",
           flag[1] ? ", flip" : "", flag[2] ? ", colour" : "", flag[3] ? ", random crop" : "",
           a.face_crop ? ", face crop" : "");
        if (f.worst)
            printf("# differs by %d\n", f.worst);
    }
    ok(at == pixels.len, "all pictures compared");
    fclose(in);
    sd_buf_free(&pixels);
}

static void refuses(const char *path, int64_t side, const char *what)
{
    struct sd_pyrandom random;
    struct sd_image im;
    struct sd_augmented made;
    struct sd_augment a = {.face_crop = true, .face_range = {0.5, 1}};
    struct sd_augment_target t = {
        .bucket = {side, side}, .resize = {side, side}, .bucketed = false, .path = path};
    sd_pyrandom_seed(&random, 1);
    if (sd_image_alloc(&im, 64, 64, 3, &err))
        bail(err.msg);
    ok(sd_augment(&a, &t, &im, false, &random, &made, &err) && err.code == SD_ERR_DATA && !made.picture.data,
       "%s: %s", what, err.msg);
}

/* The alpha channel takes no part in changes of colour. */
static void check_alpha(void)
{
    struct sd_image im;
    if (sd_image_alloc(&im, 4, 4, 4, &err))
        bail(err.msg);
    for (int i = 0; i < 64; i++)
        im.data[i] = (uint8_t)(i * 4);
    sd_image_shift_hue(&im, 90);
    sd_image_gamma(&im, 0.5);
    bool same = true, changed = false;
    for (int i = 0; i < 64; i++) {
        same &= i % 4 != 3 || im.data[i] == i * 4;
        changed |= i % 4 != 3 && im.data[i] != i * 4;
    }
    ok(same && changed, "colours change, alpha does not");
    sd_image_free(&im);
}

int main(void)
{
    check_fixture();
    check_alpha();
    refuses("a_b_c_d_e.png", 32, "names without numbers");
    refuses("p_9_9_9_99999999999.png", 32, "a number too large");
    refuses("p_9_9_0_0.png", 32, "a face without size");
    refuses("p_9_9_9_9.png", 128, "a picture too small");
    return tap_end();
}
