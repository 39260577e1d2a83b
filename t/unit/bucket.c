/* Bucket lists and choices against sd-scripts' BucketManager (t/data/bucket, made by t/ref/buckets.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/bucket.h"
#include "record/record.h"
#include "store/safetensors.h"
#include "tap.h"

/* One setting of the fixture. */
struct setting {
    const struct sd_tensor_file *tf;
    const char *name;
    struct sd_buckets buckets;
    int64_t low, high; /* min and max as sd-scripts adjusts them */
    const int16_t *sizes;
    size_t n_sizes;
};

static const struct sd_store_entry *out(const struct setting *s, const char *what)
{
    char key[64];
    snprintf(key, sizeof key, "out.%s.%s", s->name, what);
    return sd_tensor_file_find(s->tf, key);
}

static bool read_setting(struct setting *s, struct sd_bucket_config *c, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    const char *text = sd_tensor_file_meta(s->tf, s->name);
    int64_t size[2], asked[2];
    bool good = text && !sd_record_parse(&r, text, strlen(text), err) &&
                !sd_record_need_ints(&r, "resolution", size, 2, err) &&
                !sd_record_need_ints(&r, "asked", asked, 2, err) &&
                !sd_record_need_int(&r, "steps", &c->steps, err) &&
                !sd_record_need_int(&r, "min", &s->low, err) &&
                !sd_record_need_int(&r, "max", &s->high, err) &&
                sd_record_bool(&r, "no_upscale", &c->no_upscale, err) == 1;
    if (good) {
        c->resolution = (struct sd_size){size[0], size[1]};
        c->min_reso = asked[0];
        c->max_reso = asked[1];
    }
    sd_record_free(&r);
    return good;
}

static bool list_is_equal(const struct setting *s)
{
    const struct sd_store_entry *e = out(s, "list");
    const int16_t *want = e ? e->data : NULL;
    bool same = e && (size_t)e->shape[0] == s->buckets.count;
    for (size_t i = 0; same && i < s->buckets.count; i++)
        same = s->buckets.sizes[i].w == want[2 * i] && s->buckets.sizes[i].h == want[2 * i + 1];
    return same;
}

static uint64_t fnv(uint64_t h, const int32_t row[4])
{
    for (int i = 0; i < 16; i++)
        h = (h ^ ((uint32_t)row[i / 4] >> (8 * (i % 4)) & 0xff)) * 0x100000001b3;
    return h;
}

/* sd-scripts divides by zero at this picture although one of its two ways to round leaves a bucket, which we
 * take. */
static bool is_saved(const struct setting *s, size_t i)
{
    return !strcmp(s->name, "I") && s->sizes[2 * i] == 4830 && s->sizes[2 * i + 1] == 67;
}

/* The row that the fixture has for a picture: 0 0 0 0 where sd-scripts cannot place it. */
static void row_of(const struct setting *s, size_t i, int32_t row[4], struct sd_bucket_choice *c,
                   bool *placed)
{
    struct sd_err err;
    *placed = !sd_bucket_choose(&s->buckets, (struct sd_size){s->sizes[2 * i], s->sizes[2 * i + 1]}, c, &err);
    if (is_saved(s, i)) {
        ok(*placed && c->bucket.w == 576 && c->bucket.h == 8, "%s: a picture of 4830x67 has a bucket",
           s->name);
        *placed = false;
    }
    row[0] = *placed ? (int32_t)c->bucket.w : 0;
    row[1] = *placed ? (int32_t)c->bucket.h : 0;
    row[2] = *placed ? (int32_t)c->resize.w : 0;
    row[3] = *placed ? (int32_t)c->resize.h : 0;
}

/* To a picture narrower than a step, which we refuse, sd-scripts gives a bucket of width 0. */
static void thin_row(const struct setting *s, size_t i, int32_t row[4])
{
    int64_t w = s->sizes[2 * i], h = s->sizes[2 * i + 1], d = s->buckets.config.steps;
    if (w < d && h >= d) {
        row[1] = (int32_t)(h - h % d);
        row[2] = (int32_t)w;
        row[3] = (int32_t)h;
    }
}

struct used {
    int64_t w, h, n;
};

static size_t count_used(struct used *u, size_t n, struct sd_size b)
{
    for (size_t i = 0; i < n; i++)
        if (u[i].w == b.w && u[i].h == b.h) {
            u[i].n++;
            return n;
        }
    u[n] = (struct used){b.w, b.h, 1};
    return n + 1;
}

static bool used_is_equal(const struct setting *s, const struct used *u, size_t n)
{
    const struct sd_store_entry *e = out(s, "used");
    const int16_t *want = e->data;
    size_t found = 0, thin = 0;
    for (int64_t i = 0; i < e->shape[0]; i++) {
        thin += want[3 * i] == 0;
        for (size_t k = 0; k < n; k++)
            found += u[k].w == want[3 * i] && u[k].h == want[3 * i + 1] && u[k].n == want[3 * i + 2];
    }
    return found == n && found + thin == (size_t)e->shape[0];
}

/* The 10,000 choices: the first ones in full, the others by their hashes; what they amount to. */
static void check_choices(const struct setting *s)
{
    const struct sd_store_entry *rows = out(s, "rows");
    const int64_t *hash = out(s, "hash")->data;
    struct used *used = calloc(s->n_sizes, sizeof *used);
    double sum = 0;
    size_t n_used = 0, placed = 0, bad = 0, bad_hashes = 0;
    uint64_t h = 0;
    for (size_t i = 0; used && i < s->n_sizes; i++) {
        struct sd_bucket_choice c;
        int32_t row[4];
        bool good;
        row_of(s, i, row, &c, &good);
        if (good) {
            n_used = count_used(used, n_used, c.bucket);
            sum += fabs(c.ar_error);
            placed++;
        } else {
            thin_row(s, i, row);
            sum += row[2] ? (double)row[2] / (double)row[3] : 0;
            placed += row[2] > 0;
        }
        if ((int64_t)i < rows->shape[0] && memcmp(row, (const int32_t *)rows->data + 4 * i, sizeof row) &&
            ++bad < 5)
            printf("# %dx%d: got %d %d %d %d\n", s->sizes[2 * i], s->sizes[2 * i + 1], row[0], row[1], row[2],
                   row[3]);
        h = fnv(i % 100 ? h : 0xcbf29ce484222325, row);
        if (i % 100 == 99)
            bad_hashes += h != (uint64_t)hash[i / 100];
    }
    double error = *(const double *)out(s, "error")->data;
    ok(used && !bad, "%s: choices of the first pictures", s->name);
    ok(used && !bad_hashes, "%s: choices of all 10,000", s->name);
    ok(used && used_is_equal(s, used, n_used), "%s: pictures in each bucket", s->name);
    ok(fabs(sum / (double)placed - error) < 1e-12, "%s: mean error of the aspect ratio", s->name);
    free(used);
}

static void check_crops(const struct setting *s)
{
    const struct sd_store_entry *e = out(s, "crop");
    const double *want = e ? e->data : NULL;
    size_t bad = 0;
    if (!e)
        return;
    for (int64_t i = 0; i < e->shape[0]; i++) {
        struct sd_bucket_choice c;
        int32_t row[4];
        bool good;
        double ltrb[4];
        row_of(s, (size_t)i, row, &c, &good);
        if (!good)
            continue;
        sd_bucket_crop_ltrb(c.bucket, (struct sd_size){s->sizes[2 * i], s->sizes[2 * i + 1]}, ltrb);
        if (memcmp(ltrb, want + 4 * i, sizeof ltrb) && ++bad < 5)
            printf("# %dx%d: got %.17g %.17g %.17g %.17g, want %.17g %.17g %.17g %.17g\n", s->sizes[2 * i],
                   s->sizes[2 * i + 1], ltrb[0], ltrb[1], ltrb[2], ltrb[3], want[4 * i], want[4 * i + 1],
                   want[4 * i + 2], want[4 * i + 3]);
    }
    ok(!bad, "%s: crop_ltrb to the bit", s->name);
}

static void check_setting(struct setting *s)
{
    struct sd_bucket_config c = SD_BUCKET_DEFAULT;
    struct sd_err err = {0};
    if (!read_setting(s, &c, &err) || sd_buckets_init(&s->buckets, &c, &err)) {
        printf("# %s\n", err.msg);
        ok(0, "%s: is read", s->name);
        return;
    }
    if (c.no_upscale) {
        ok(s->buckets.count == 0, "%s: no list", s->name);
    } else {
        ok(s->buckets.config.min_reso == s->low && s->buckets.config.max_reso == s->high,
           "%s: smallest and largest side", s->name);
        ok(list_is_equal(s), "%s: the list", s->name);
    }
    check_choices(s);
    check_crops(s);
    sd_buckets_free(&s->buckets);
}

/* --- what is refused
 * ------------------------------------------------------------------------------------------- */

static void refuses(struct sd_bucket_config c, const char *what, const char *message)
{
    struct sd_buckets b;
    struct sd_err err = {0};
    bool refused = sd_buckets_init(&b, &c, &err) && err.code == SD_ERR_USAGE && strstr(err.msg, message);
    if (!refused)
        printf("# %s\n", err.msg);
    sd_buckets_free(&b);
    ok(refused, "%s", what);
}

static void check_refusals(void)
{
    struct sd_bucket_config good = SD_BUCKET_DEFAULT, c;
    good.resolution = (struct sd_size){512, 512};
    c = good;
    c.resolution.w = 0;
    refuses(c, "a resolution of 0 is refused", "not 0x512");
    c = good;
    c.resolution.w = INT64_MAX;
    refuses(c, "a huge resolution is refused", "1 to 65536");
    c = good;
    c.steps = 0;
    refuses(c, "steps of 0 are refused", "bucket steps");
    c = good;
    c.max_reso = 128;
    refuses(c, "a largest side below the smallest is refused", "leave no buckets");
    c = good;
    c.resolution = (struct sd_size){64, 64};
    refuses(c, "a resolution below the smallest side is refused", "outside");
    c = good;
    c.max_reso = INT64_MAX;
    refuses(c, "a huge largest side is refused", "leave no buckets");
    c = good;
    c.min_reso = INT64_MIN;
    refuses(c, "a negative smallest side is refused", "leave no buckets");

    struct sd_buckets b;
    struct sd_bucket_choice choice;
    struct sd_err err = {0};
    if (sd_buckets_init(&b, &good, &err)) {
        ok(0, "%s", err.msg);
        return;
    }
    ok(sd_bucket_choose(&b, (struct sd_size){0, 5}, &choice, &err), "%s", err.msg);
    ok(sd_bucket_choose(&b, (struct sd_size){5, -1}, &choice, &err), "%s", err.msg);
    ok(sd_bucket_choose(&b, (struct sd_size){5, INT64_MAX}, &choice, &err), "%s", err.msg);
    ok(!sd_bucket_choose(&b, (struct sd_size){INT32_MAX, 1}, &choice, &err) && choice.bucket.w == 1024,
       "a picture of a single line of two thousand million pixels has a bucket");
    sd_buckets_free(&b);
}

static void check_parse(void)
{
    static const char *const bad[] = {"",        "a",         "512,", ",512",
                                      "512x512", "512,512,1", "5 12", "99999999999999999999"};
    struct sd_size s;
    struct sd_err err;
    ok(!sd_size_parse("512", &s, &err) && s.w == 512 && s.h == 512, "512");
    ok(!sd_size_parse("512,768", &s, &err) && s.w == 512 && s.h == 768, "512,768");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(sd_size_parse(bad[i], &s, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
}

int main(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, "t/data/bucket/buckets.safetensors", &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    const struct sd_store_entry *sizes = sd_tensor_file_find(tf, "in.sizes");
    for (char name[2] = "A"; sd_tensor_file_meta(tf, name); name[0]++) {
        struct setting s = {.tf = tf, .name = name, .sizes = sizes->data, .n_sizes = (size_t)sizes->shape[0]};
        check_setting(&s);
    }
    ok(tap_count >= 9 * 5, "nine settings");
    check_refusals();
    check_parse();
    sd_tensor_file_close(tf);
    return tap_end();
}
