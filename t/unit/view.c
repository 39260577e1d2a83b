/* What is seen of a picture: its pixels, against what the parts of it give, and what is told. */
#include "base/atomic.h"
#include "data/view.h"
#include "image/png.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { W = 21, H = 15 };
static char path[] = "/tmp/sd-view-XXXXXX";
static struct sd_image whole;

static void make_picture(void)
{
    struct sd_err err;
    int fd = mkstemp(path);
    if (fd < 0 || close(fd) || sd_image_alloc(&whole, W, H, 3, &err))
        exit(3);
    for (int i = 0; i < W * H * 3; i++)
        whole.data[i] = (uint8_t)(i * 7 + i / W);
    if (sd_png_save(path, &whole, NULL, 0, &err))
        exit(3);
}

static int add(struct sd_dataset *d, const struct sd_subset *base, const char *members, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    char json[512];
    int len = snprintf(json, sizeof json, "{\"path\":\"%s\"%s}", path, members);
    sd_dataset_init(d, &(struct sd_dataset_options){.batch_size = 1, .look = true, .subset = *base});
    int rc = sd_record_parse(&r, json, (size_t)len, err) || sd_dataset_add(d, &r, err) ? -1 : 0;
    sd_record_free(&r);
    return rc;
}

/* The picture that comes of these members is the one cut out at (x, y), mirrored or not; told is what "seen"
 * says without its epoch. */
static void sees(const char *name, struct sd_subset base, const char *members, uint32_t x, uint32_t y,
                 uint32_t w, uint32_t h, bool mirrored, const char *told)
{
    struct sd_dataset d;
    struct sd_archives archives = {0};
    struct sd_view v = {.archives = &archives, .epoch = 1, .loss_weight = 0.5};
    struct sd_err err = {0};
    struct sd_pyrandom random;
    struct sd_image want = SD_IMAGE_INIT;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_buf text = SD_BUF_INIT;
    sd_pyrandom_seed(&random, mirrored ? 1 : 0); /* random() gives 0.13 and 0.84 first */
    base.bucketed = true;
    int rc = add(&d, &base, members, &err) ||
             sd_view_draw(&v, d.items, &(struct sd_caption_context){.epoch = 1}, &random, &err) ||
             sd_view_picture(&v, &err) || sd_image_crop(&whole, x, y, w, h, &want, &err);
    if (!rc && mirrored)
        sd_image_flip(&want);
    ok(!rc && v.mirrored == mirrored && v.cut.picture.width == w && v.cut.picture.height == h &&
           !memcmp(v.cut.picture.data, want.data, (size_t)w * h * 3),
       "%s: the pixels%s%s", name, rc ? ": " : "", err.msg);
    sd_record_reset(&r);
    bool said = !rc && !sd_view_tell(&v, &r) && !sd_record_write(&r, &text) && !strcmp(text.data, told);
    if (!ok(said, "%s: what is told", name))
        printf("# got  %s\n# want %s\n", text.data ? text.data : "", told);
    sd_view_free(&v);
    sd_record_free(&r);
    sd_buf_free(&text);
    sd_image_free(&want);
    sd_dataset_free(&d);
    sd_archives_free(&archives);
}

/* ---- against sd-scripts (t/ref/show.py) ---- */

static uint64_t sum(const struct sd_image *im)
{
    uint64_t n = 0;
    for (size_t i = 0; i < (size_t)im->width * im->height * 3; i++)
        n += im->data[i];
    return n;
}

/* One use: 0 when caption, mirroring and picture are what sd-scripts gave. */
static int replay(struct sd_record *record, struct sd_record *seen, struct sd_archives *archives,
                  struct sd_pyrandom *random, struct sd_err *err)
{
    const struct sd_subset subset = {.caption = {.shuffle = 1,
                                                 .keep_tokens = 1,
                                                 .dropout_rate = 0.1,
                                                 .tag_dropout_rate = 0.2,
                                                 .prefix = "art of"},
                                     .augment = {.flip = true, .color = true, .random_crop = true},
                                     .bucketed = true};
    struct sd_dataset d;
    struct sd_view v = {.archives = archives};
    const char *caption;
    int64_t want = 0;
    bool flipped = false;
    sd_dataset_init(&d, &(struct sd_dataset_options){.batch_size = 1, .look = true, .subset = subset});
    int rc = sd_dataset_add(&d, record, err) ||
             sd_view_draw(&v, d.items, &(struct sd_caption_context){.epoch = 1}, random, err) ||
             sd_view_picture(&v, err) || sd_record_need_string(seen, "caption", &caption, err) ||
             sd_record_need_int(seen, "sum", &want, err) ||
             sd_record_bool(seen, "flipped", &flipped, err) < 0;
    if (!rc && (strcmp(caption, v.caption.data ? v.caption.data : "") || flipped != v.mirrored ||
                (uint64_t)want != sum(&v.cut.picture)))
        rc = sd_err_set(err, SD_ERR_DATA, "\"%s\" %d %llu, expected \"%s\" %d %lld", v.caption.data,
                        v.mirrored, (unsigned long long)sum(&v.cut.picture), caption, flipped,
                        (long long)want);
    sd_view_free(&v);
    sd_dataset_free(&d);
    return rc;
}

static void agrees(void)
{
    FILE *records = fopen("t/data/show/records.ndjson", "r"), *seen = fopen("t/data/show/seen.ndjson", "r");
    struct sd_record r = SD_RECORD_INIT, s = SD_RECORD_INIT;
    struct sd_archives archives = {0};
    struct sd_pyrandom random;
    struct sd_err err = {0};
    char a[1024], b[1024];
    int n = 0, good = 0;
    sd_pyrandom_seed(&random, 7);
    while (records && seen && fgets(a, sizeof a, records) && fgets(b, sizeof b, seen)) {
        bool same = !sd_record_parse(&r, a, strlen(a), &err) && !sd_record_parse(&s, b, strlen(b), &err) &&
                    !replay(&r, &s, &archives, &random, &err);
        if (!same && n == good)
            printf("# use %d: %s\n", n + 1, err.msg);
        good += same;
        n++;
    }
    ok(n == 80 && good == n, "%d uses of pictures as sd-scripts makes them", good);
    sd_record_free(&r);
    sd_record_free(&s);
    sd_archives_free(&archives);
    if (records)
        fclose(records);
    if (seen)
        fclose(seen);
}

static void refuses(const char *name, const char *members, const char *message)
{
    struct sd_dataset d;
    struct sd_err err = {0};
    int rc = add(&d, &(struct sd_subset){.bucketed = true}, members, &err);
    if (!ok(rc && strstr(err.msg, message), "refused: %s", name))
        printf("# %s\n", err.msg);
    sd_dataset_free(&d);
}

int main(void)
{
    const char *cut = ",\"bucket\":[16,8],\"resize\":[21,15],\"crop\":[2,3],\"caption\":\"a cat\"";
    const char *cached =
        ",\"latents\":\"x.npz\",\"bucket\":[16,8],\"resize\":[21,15],\"crop\":[2,3],\"caption\":\"a cat\"";
    struct sd_subset plain = {0}, flip = {.augment.flip = true},
                     much = {.augment = {.flip = true, .color = true, .random_crop = true}};
    make_picture();
    sees("cut", plain, cut, 2, 3, 16, 8, false,
         "{\"seen\":{\"epoch\":1,\"caption\":\"a cat\",\"size\":[16,8],\"crop\":[2,3],\"flipped\":false,"
         "\"loss_weight\":0.5}}");
    sees("mirrored", flip, cut, 2, 3, 16, 8, true,
         "{\"seen\":{\"epoch\":1,\"caption\":\"a cat\",\"size\":[16,8],\"crop\":[2,3],\"flipped\":true,"
         "\"loss_weight\":0.5}}");
    sees("whole", plain, ",\"tags\":[\"a\",\"b\"]", 0, 0, W, H, false,
         "{\"seen\":{\"epoch\":1,\"caption\":\"a, b\",\"size\":[21,15],\"crop\":[0,0],\"flipped\":false,"
         "\"loss_weight\":0.5}}");
    sees("cached latents are only mirrored", much, cached, 2, 3, 16, 8, true,
         "{\"seen\":{\"epoch\":1,\"caption\":\"a cat\",\"size\":[16,8],\"crop\":[2,3],\"flipped\":true,"
         "\"loss_weight\":0.5}}");
    refuses("a bucket without its place", ",\"bucket\":[16,8]", "resize");
    refuses("the same with latents", ",\"latents\":\"x.npz\",\"bucket\":[16,8]", "resize");
    refuses("a place outside", ",\"bucket\":[16,8],\"resize\":[21,15],\"crop\":[6,0]", "does not lie");
    refuses("a bucket of another kind", ",\"bucket\":16", "bucket");
    agrees();
    unlink(path);
    sd_image_free(&whole);
    return tap_end();
}
