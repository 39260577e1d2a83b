#include "data/bucket_count.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct key { /* without padding: it is hashed */
    int64_t dataset, variant, w, h;
};

static void add_count(struct sd_bucket_count *to, const struct sd_bucket_count *by)
{
    to->pictures = sd_count_add(to->pictures, by->pictures);
    to->repeated = sd_count_add(to->repeated, by->repeated);
    to->enlarged = sd_count_add(to->enlarged, by->enlarged);
    to->resized += by->resized;
    to->cropped += by->cropped;
    to->enlargement += by->enlargement;
    to->ar_error += by->ar_error;
}

static int add(struct sd_bucket_counts *c, const struct key *key, const struct sd_bucket_count *by)
{
    size_t at;
    if (sd_tally_add(&c->keys, key, sizeof *key, 0, &at))
        return -1;
    if (c->cap < c->keys.cap) {
        struct sd_bucket_count *more = realloc(c->of, c->keys.cap * sizeof *more);
        if (!more)
            return -1;
        memset(more + c->cap, 0, (c->keys.cap - c->cap) * sizeof *more);
        c->of = more;
        c->cap = c->keys.cap;
    }
    add_count(&c->of[at], by);
    return 0;
}

static int add_choice(struct sd_bucket_counts *c, struct key key, struct sd_size image, int64_t repeats,
                      const struct sd_bucket_choice *choice)
{
    struct sd_bucket_count by = {.pictures = 1, .repeated = (uint64_t)repeats};
    key.w = choice->bucket.w;
    key.h = choice->bucket.h;
    by.resized = (__int128)choice->resize.w * choice->resize.h;
    by.cropped = by.resized - (__int128)choice->bucket.w * choice->bucket.h;
    if (choice->resize.w > image.w || choice->resize.h > image.h) {
        double x = (double)choice->resize.w / (double)image.w, y = (double)choice->resize.h / (double)image.h;
        by.enlarged = 1;
        by.enlargement = (__int128)((x > y ? x : y) * 0x1p40);
    }
    by.ar_error = (__int128)(fabs(choice->ar_error) * 0x1p60);
    return add(c, &key, &by);
}

int sd_bucket_counts_add(struct sd_bucket_counts *c, const struct sd_bucket_dataset *set,
                         struct sd_size image, int64_t repeats, const struct sd_bucket_choice *choice)
{
    struct key key = {.dataset = (int64_t)set->number};
    int bad = add_choice(c, key, image, repeats, choice);
    for (size_t i = 1; i < set->n_variants && !bad; i++) {
        struct sd_bucket_choice other;
        key.variant = (int64_t)i;
        if (sd_bucket_choose(&set->variants[i].buckets, image, &other, NULL))
            bad = add(c, &key, &(struct sd_bucket_count){.pictures = 1}); /* bucket 0x0: refused */
        else
            bad = add_choice(c, key, image, repeats, &other);
    }
    return bad;
}

int sd_bucket_counts_merge(struct sd_bucket_counts *into, const struct sd_bucket_counts *from)
{
    struct key key;
    for (size_t i = 0; i < from->keys.n; i++) {
        memcpy(&key, from->keys.entries[i].key, sizeof key);
        if (add(into, &key, &from->of[i]))
            return -1;
    }
    return 0;
}

void sd_bucket_counts_free(struct sd_bucket_counts *c)
{
    sd_tally_free(&c->keys);
    free(c->of);
    *c = (struct sd_bucket_counts){0};
}

static int by_size(const void *pa, const void *pb)
{
    const struct sd_size *a = &((const struct sd_bucket_row *)pa)->bucket;
    const struct sd_size *b = &((const struct sd_bucket_row *)pb)->bucket;
    return a->w != b->w ? (a->w > b->w) - (a->w < b->w) : (a->h > b->h) - (a->h < b->h);
}

static void add_row(struct sd_bucket_table *t, struct sd_size bucket, const struct sd_bucket_count *count,
                    uint64_t batch)
{
    struct sd_bucket_row *row = &t->rows[t->n++];
    bool rest = count->repeated % batch != 0;
    *row = (struct sd_bucket_row){bucket, *count, count->repeated / batch + rest, rest};
    add_count(&t->sum.count, count);
    t->sum.batches = sd_count_add(t->sum.batches, row->batches);
    t->sum.unfull += row->unfull;
}

int sd_bucket_table(const struct sd_bucket_counts *c, const struct sd_bucket_dataset *set, size_t variant,
                    struct sd_bucket_table *t, struct sd_err *err)
{
    *t = (struct sd_bucket_table){.rows = calloc(c->keys.n + 1, sizeof *t->rows)};
    if (!t->rows)
        return sd_err_memory(err, c->keys.n * sizeof *t->rows);
    for (size_t i = 0; i < c->keys.n; i++) {
        struct key key;
        memcpy(&key, c->keys.entries[i].key, sizeof key);
        if (key.dataset != (int64_t)set->number || key.variant != (int64_t)variant)
            continue;
        if (key.w)
            add_row(t, (struct sd_size){key.w, key.h}, &c->of[i], (uint64_t)set->settings.batch_size);
        else
            t->refused = c->of[i].pictures;
    }
    qsort(t->rows, t->n, sizeof *t->rows, by_size);
    return 0;
}

void sd_bucket_table_free(struct sd_bucket_table *t)
{
    free(t->rows);
    *t = (struct sd_bucket_table){0};
}

double sd_bucket_crop_share(const struct sd_bucket_count *c)
{
    return c->resized ? (double)c->cropped / (double)c->resized : 0;
}

double sd_bucket_enlargement(const struct sd_bucket_count *c)
{
    return c->enlarged ? (double)c->enlargement * 0x1p-40 / (double)c->enlarged : 0;
}

double sd_bucket_mean_error(const struct sd_bucket_count *c)
{
    return c->pictures ? (double)c->ar_error * 0x1p-60 / (double)c->pictures : 0;
}
