/* The training set: order of buckets, batches and epochs against sd-scripts and torch (t/data/dataset, made
 * by t/ref/dataset.py); captions; what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pyrandom.h"
#include "data/dataset.h"
#include "tap.h"

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

/* Adds a record given as JSON: 0 or -1. */
static int add(struct sd_dataset *d, const char *json, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    int rc = sd_record_parse(&r, json, strlen(json), err) || sd_dataset_add(d, &r, err) ? -1 : 0;
    sd_record_free(&r);
    return rc;
}

static void add_item(struct sd_dataset *d, long long w, long long h, long long repeats, long long dataset)
{
    struct sd_err err = {0};
    char json[200];
    snprintf(json, sizeof json,
             "{\"path\":\"p%zu\",\"latents\":\"l\",\"bucket\":[%lld,%lld],\"repeats\":%lld,\"dataset\":{"
             "\"index\":%lld,"
             "\"batch_size\":%lld}}",
             d->n_items, w, h, repeats, dataset, (long long)d->options.batch_size + dataset);
    if (add(d, json, &err))
        bail(err.msg);
}

/* The epoch's batches as the fixture writes them. */
static void describe(const struct sd_dataset *d, int64_t epoch, struct sd_buf *out)
{
    sd_buf_clear(out);
    sd_buf_addf(out, "epoch %lld", (long long)epoch);
    for (size_t i = 0; i < d->n_batches; i++) {
        const struct sd_batch_ref *b = &d->batches[i];
        struct sd_size size = d->buckets[b->bucket].size;
        sd_buf_addf(out, " | %lldx%lld:", (long long)size.w, (long long)size.h);
        for (size_t k = 0; k < b->count; k++)
            sd_buf_addf(out, " %td", sd_dataset_item(d, b, k) - d->items);
    }
}

/* Each item as often as it repeats, in batches of its own bucket, none too large. */
static bool is_whole(const struct sd_dataset *d)
{
    int64_t *seen = calloc(d->n_items, sizeof *seen);
    bool good = seen != NULL;
    for (size_t i = 0; good && i < d->n_batches; i++) {
        const struct sd_batch_ref *b = &d->batches[i];
        good = b->count > 0 && b->count <= d->buckets[b->bucket].batch_size;
        for (size_t k = 0; k < b->count; k++) {
            const struct sd_item *item = sd_dataset_item(d, b, k);
            struct sd_size size = d->buckets[b->bucket].size;
            good &= item->bucket.w == size.w && item->bucket.h == size.h;
            seen[item - d->items]++;
        }
    }
    for (size_t i = 0; good && i < d->n_items; i++)
        good = seen[i] == d->items[i].repeats;
    free(seen);
    return good;
}

/* --- the fixture
 * ------------------------------------------------------------------------------------------------ */

struct set {
    int number;
    struct sd_dataset d;
    long long seed;
    struct sd_rng loader;
    struct sd_buf got, last;
    long long last_epoch;
    bool finished;
};

/* Going back to the last epoch gives its order again (the loader has gone on, so only what is in the
 * batches). */
static void end_set(struct set *s)
{
    struct sd_err err;
    struct sd_rng loader = s->loader, again;
    if (!s->number)
        return;
    again = loader;
    int bad = sd_dataset_epoch(&s->d, s->seed, s->last_epoch + 1, &loader, &err);
    describe(&s->d, s->last_epoch + 1, &s->last);
    bad |= sd_dataset_epoch(&s->d, s->seed + 1, 1, &loader, &err) ||
           sd_dataset_epoch(&s->d, s->seed, s->last_epoch, &loader, &err) ||
           sd_dataset_epoch(&s->d, s->seed, s->last_epoch + 1, &again, &err);
    describe(&s->d, s->last_epoch + 1, &s->got);
    ok(!bad && !strcmp(s->got.data, s->last.data),
       "set %d: an epoch is the same after later ones and other seeds", s->number);
    sd_dataset_free(&s->d);
}

static void check_epoch(struct set *s, const char *line)
{
    struct sd_err err = {0};
    if (!s->finished && sd_dataset_finish(&s->d, &err))
        bail(err.msg);
    s->finished = true;
    s->last_epoch = atoll(line + 6);
    if (sd_dataset_epoch(&s->d, s->seed, s->last_epoch, &s->loader, &err))
        bail(err.msg);
    describe(&s->d, s->last_epoch, &s->got);
    bool same = !strcmp(s->got.data, line);
    if (!same)
        printf("# got  %s\n# want %s\n", s->got.data, line);
    ok(same, "set %d: epoch %lld", s->number, s->last_epoch);
    ok(is_whole(&s->d), "set %d: epoch %lld has every picture", s->number, s->last_epoch);
}

static void check_fixture(void)
{
    FILE *in = fopen("t/data/dataset/epochs.txt", "r");
    struct set s = {0};
    char *line = NULL;
    size_t cap = 0;
    long long a, b, c, e;
    while (in && getline(&line, &cap, in) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "set %lld %lld %lld", &a, &b, &c) == 3) {
            end_set(&s);
            s.number++;
            s.seed = a;
            s.finished = false;
            sd_rng_seed(&s.loader, (uint64_t)c);
            sd_dataset_init(&s.d, &(struct sd_dataset_options){.batch_size = b});
        } else if (sscanf(line, "item %lld %lld %lld %lld", &a, &b, &c, &e) == 4) {
            add_item(&s.d, a, b, c, e);
        } else {
            check_epoch(&s, line);
        }
    }
    end_set(&s);
    ok(s.number == 6, "six sets");
    sd_buf_free(&s.got);
    sd_buf_free(&s.last);
    free(line);
    if (in)
        fclose(in);
}

/* --- records
 * ---------------------------------------------------------------------------------------------------- */

static void caption(const char *members, struct sd_dataset_options options, const char *want)
{
    struct sd_dataset d;
    struct sd_err err = {0};
    char json[300];
    options.batch_size = 1;
    sd_dataset_init(&d, &options);
    snprintf(json, sizeof json, "{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64]%s}", members);
    bool good =
        !add(&d, json, &err) && !strcmp(d.items[0].caption, want) && d.items[0].caption_len == strlen(want);
    if (!good)
        printf("# %s\n", d.n_items ? d.items[0].caption : err.msg);
    ok(good, "%s", *members ? members : "no caption");
    sd_dataset_free(&d);
}

static void check_captions(void)
{
    const struct sd_dataset_options plain = {0}, wild = {.subset.caption.enable_wildcard = true},
                                    other = {.subset.caption.separator = " | "};
    caption("", plain, "");
    caption(",\"caption\":\"a cat\"", plain, "a cat");
    caption(",\"tags\":[\"a\",\"b c\"]", plain, "a, b c");
    caption(",\"caption\":\"a cat\",\"tags\":[\"a\",\"b c\"]", plain, "a cat,a, b c");
    caption(",\"caption\":\"a cat\",\"tags\":[\"a\",\"b c\"]", other, "a cat | a, b c");
    caption(",\"caption\":[\"one\",\"two\"],\"tags\":[\"a\"]", plain, "one,a");
    caption(",\"caption\":[\"one\",\"two\"],\"tags\":[\"a\"]", wild, "one,a\ntwo,a");
    caption(",\"caption\":[\"one\",\"two\"],\"subset\":{\"enable_wildcard\":true}", plain, "one\ntwo");
    caption(",\"caption\":[\"one\",\"two\"],\"subset\":{\"enable_wildcard\":false}", wild, "one");
    caption(",\"caption\":\"a\",\"tags\":[\"b\"],\"subset\":{\"caption_separator\":\"; \"}", plain, "a; b");
    caption(",\"class_tokens\":\"sks dog\"", plain, "sks dog");
    caption(",\"class_tokens\":\"sks dog\",\"caption\":\"a cat\"", plain, "a cat");
}

static void refuses(const char *json)
{
    struct sd_dataset d;
    struct sd_err err = {0};
    sd_dataset_init(&d, &(struct sd_dataset_options){.batch_size = 1});
    bool refused = add(&d, json, &err) && !d.n_items && err.code == SD_ERR_DATA;
    ok(refused, "%s", refused ? err.msg : json);
    sd_dataset_free(&d);
}

static void check_refusals(void)
{
    struct sd_dataset d;
    struct sd_err err = {0};
    refuses("{\"latents\":\"l\",\"bucket\":[64,64]}");
    refuses("{\"path\":\"p\",\"bucket\":[64,64]}");
    refuses("{\"path\":\"p\",\"bucket\":[64,64],\"resize\":[64,80],\"crop\":[0,17]}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"subset\":[]}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"subset\":{\"keep_tokens\":-1}}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"subset\":{\"caption_dropout_rate\":2}}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],"
            "\"subset\":{\"face_crop_aug_range\":[2,1]}}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],"
            "\"subset\":{\"resize_interpolation\":\"magic\"}}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"dataset\":{\"batch_size\":5000}}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"dataset\":{\"network_multiplier\":0.5}}");
    refuses("{\"path\":\"p\",\"latents\":\"l\"}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64]}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,60]}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[0,64]}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,9223372036854775800]}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"repeats\":0}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"repeats\":1000001}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"reg\":1}");
    refuses("{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"caption\":1}");
    sd_dataset_init(&d, &(struct sd_dataset_options){.batch_size = 1});
    ok(sd_dataset_finish(&d, &err) && err.code == SD_ERR_DATA, "%s", err.msg);
    sd_dataset_free(&d);

    sd_dataset_init(&d, &(struct sd_dataset_options){.batch_size = 1});
    add_item(&d, 64, 64, 3, 0);
    bool good =
        !add(&d, "{\"path\":\"p\",\"latents\":\"l\",\"bucket\":[64,64],\"reg\":true,\"repeats\":2}", &err);
    ok(good && sd_dataset_pictures(&d, false) == 5 && sd_dataset_pictures(&d, true) == 2,
       "pictures with their repeats");
    sd_dataset_free(&d);
}

int main(void)
{
    check_fixture();
    check_captions();
    check_refusals();
    return tap_end();
}
