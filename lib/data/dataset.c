#include "data/dataset.h"

#include <stdlib.h>
#include <string.h>

#define MAX_REPEATS 1000000
#define MAX_SIDE 65536

void sd_dataset_init(struct sd_dataset *d, const struct sd_dataset_options *options)
{
    *d = (struct sd_dataset){.options = *options};
    sd_subsets_init(&d->subsets, &options->subset);
}

void sd_dataset_free(struct sd_dataset *d)
{
    for (size_t i = 0; i < d->n_buckets; i++)
        free(d->buckets[i].order);
    free(d->buckets);
    free(d->batches);
    free(d->shuffled);
    free(d->items);
    sd_subsets_free(&d->subsets);
    sd_arena_free(&d->arena);
    *d = (struct sd_dataset){0};
}

/* --- a record's caption
 * ----------------------------------------------------------------------------------------- */

/* With wildcards each line of the caption gets the tags, for one line is drawn; without, only the first line
 * counts. */
static int join_caption(const struct sd_caption_options *how, const struct sd_strings *lines,
                        const struct sd_strings *tags, struct sd_buf *b)
{
    const char *sep = how->separator;
    size_t n = how->enable_wildcard ? lines->n : lines->n ? 1 : 0;
    int rc = 0;
    if (!n)
        return sd_caption_join(NULL, tags->v, tags->n, sep, b);
    for (size_t i = 0; i < n; i++)
        rc |= (i ? sd_buf_addc(b, '\n') : 0) | sd_caption_join(lines->v[i], tags->v, tags->n, sep, b);
    return rc;
}

static int caption_of(struct sd_dataset *d, struct sd_record *r, struct sd_item *item, struct sd_err *err)
{
    struct sd_strings lines = {0}, tags = {0};
    struct sd_buf b = SD_BUF_INIT;
    const char *class_tokens = NULL;
    int rc = -1;
    if (sd_record_strings(r, "caption", &lines, err) < 0 || sd_record_strings(r, "tags", &tags, err) < 0 ||
        sd_record_string(r, "class_tokens", &class_tokens, NULL, err) < 0)
        goto out;
    if (sd_buf_reserve(&b, 0) || join_caption(&item->subset->caption, &lines, &tags, &b) ||
        (!lines.n && !tags.n && class_tokens && sd_buf_adds(&b, class_tokens))) {
        sd_err_memory(err, b.cap);
        goto out;
    }
    item->caption_len = b.len;
    item->caption = sd_arena_strndup(&d->arena, b.data, b.len);
    rc = item->caption ? 0 : sd_err_memory(err, b.len);
out:
    sd_buf_free(&b);
    sd_strings_free(&lines);
    sd_strings_free(&tags);
    return rc;
}

/* The picture's place in the bucket, which a picture without cache needs. */
static int read_cut(struct sd_record *r, struct sd_item *item, struct sd_err *err)
{
    int64_t resize[2];
    if (sd_record_need_ints(r, "resize", resize, 2, err) ||
        sd_record_need_ints(r, "crop", item->crop, 2, err))
        return -1;
    if (resize[0] > MAX_SIDE || resize[1] > MAX_SIDE || item->crop[0] < 0 || item->crop[1] < 0 ||
        item->crop[0] > resize[0] - item->bucket.w || item->crop[1] > resize[1] - item->bucket.h)
        return sd_err_set(err, SD_ERR_DATA, "%s: the bucket does not lie in the picture as resized",
                          item->path);
    item->resize = (struct sd_size){resize[0], resize[1]};
    return 0;
}

static int read_place(const struct sd_dataset *d, struct sd_record *r, struct sd_item *item,
                      struct sd_err *err)
{
    int64_t bucket[2];
    if (d->options.look && !sd_record_find(r, "bucket"))
        return 0;
    if (sd_record_need_ints(r, "bucket", bucket, 2, err))
        return -1;
    if (bucket[0] < 8 || bucket[1] < 8 || bucket[0] % 8 || bucket[1] % 8 || bucket[0] > MAX_SIDE ||
        bucket[1] > MAX_SIDE)
        return sd_err_set(err, SD_ERR_DATA, "%s: a bucket of %lldx%lld is no multiple of 8 pixels",
                          item->path, (long long)bucket[0], (long long)bucket[1]);
    item->bucket = (struct sd_size){bucket[0], bucket[1]};
    return item->latents && !d->options.look ? 0 : read_cut(r, item, err);
}

int sd_dataset_add(struct sd_dataset *d, struct sd_record *r, struct sd_err *err)
{
    struct sd_item item = {.repeats = 1};
    const char *path, *latents = NULL;
    if (sd_record_need_string(r, "path", &path, err) ||
        sd_record_string(r, "latents", &latents, NULL, err) < 0 ||
        sd_record_int(r, "repeats", &item.repeats, err) < 0 || sd_record_bool(r, "reg", &item.reg, err) < 0 ||
        sd_subsets_of(&d->subsets, r, &item.subset, err))
        return -1;
    if (item.repeats < 1 || item.repeats > MAX_REPEATS)
        return sd_err_set(err, SD_ERR_DATA, "%s: repeats is %lld, not 1 to %d", path, (long long)item.repeats,
                          MAX_REPEATS);
    item.path = sd_arena_strdup(&d->arena, path);
    if (!item.path || (latents && !(item.latents = sd_arena_strdup(&d->arena, latents))))
        return sd_err_memory(err, strlen(path));
    if (read_place(d, r, &item, err) || caption_of(d, r, &item, err))
        return -1;
    if (d->n_items == d->cap_items) {
        size_t cap = d->cap_items ? d->cap_items * 2 : 1024;
        struct sd_item *more = realloc(d->items, cap * sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        d->items = more;
        d->cap_items = cap;
    }
    d->items[d->n_items++] = item;
    return 0;
}

/* --- buckets and batches
 * ---------------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const struct sd_dataset_bucket *x = a, *y = b;
    return x->dataset != y->dataset ? (x->dataset > y->dataset) - (x->dataset < y->dataset)
           : x->size.w != y->size.w ? (x->size.w > y->size.w) - (x->size.w < y->size.w)
                                    : (x->size.h > y->size.h) - (x->size.h < y->size.h);
}

static struct sd_dataset_bucket *bucket_of(struct sd_dataset *d, const struct sd_item *item)
{
    for (size_t i = 0; i < d->n_buckets; i++)
        if (d->buckets[i].size.w == item->bucket.w && d->buckets[i].size.h == item->bucket.h &&
            d->buckets[i].dataset == item->subset->dataset)
            return &d->buckets[i];
    return NULL;
}

static int make_buckets(struct sd_dataset *d)
{
    for (size_t i = 0; i < d->n_items; i++) {
        const struct sd_subset *s = d->items[i].subset;
        struct sd_dataset_bucket *b = bucket_of(d, &d->items[i]);
        if (!b) {
            b = realloc(d->buckets, (d->n_buckets + 1) * sizeof *b);
            if (!b)
                return -1;
            d->buckets = b;
            b = &d->buckets[d->n_buckets++];
            *b = (struct sd_dataset_bucket){
                .dataset = s->dataset,
                .size = d->items[i].bucket,
                .batch_size = (size_t)(s->batch_size ? s->batch_size : d->options.batch_size)};
        }
        b->count += (size_t)d->items[i].repeats;
    }
    qsort(d->buckets, d->n_buckets, sizeof *d->buckets, by_size);
    for (size_t i = 0; i < d->n_buckets; i++)
        if (!(d->buckets[i].order = malloc(d->buckets[i].count * sizeof(size_t))))
            return -1;
    return 0;
}

int sd_dataset_finish(struct sd_dataset *d, struct sd_err *err)
{
    if (!d->n_items)
        return sd_err_set(err, SD_ERR_DATA, "there is nothing to train on: no usable record came in");
    if (make_buckets(d))
        return sd_err_memory(err, d->n_items * sizeof(size_t));
    for (size_t i = 0; i < d->n_buckets; i++) {
        size_t size = d->buckets[i].batch_size;
        d->n_batches += (d->buckets[i].count + size - 1) / size;
        d->largest_batch = size > d->largest_batch ? size : d->largest_batch;
    }
    d->epoch = -1;
    d->batches = malloc(d->n_batches * sizeof *d->batches);
    d->shuffled = malloc(d->n_batches * sizeof *d->shuffled);
    return d->batches && d->shuffled ? 0 : sd_err_memory(err, d->n_batches * sizeof *d->batches);
}

/* Items and batches as they were added. */
static void put_in_order(struct sd_dataset *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_buckets; i++) {
        size_t count = d->buckets[i].count, size = d->buckets[i].batch_size;
        for (size_t at = 0; at < count; at += size)
            d->shuffled[n++] = (struct sd_batch_ref){i, at, count - at < size ? count - at : size};
        d->buckets[i].count = 0;
    }
    for (size_t i = 0; i < d->n_items; i++) {
        struct sd_dataset_bucket *b = bucket_of(d, &d->items[i]);
        for (int64_t k = 0; k < d->items[i].repeats; k++)
            b->order[b->count++] = i;
    }
}

/* From one epoch to the next, each dataset by itself. Epoch 0, which no one sees, is the shuffle that
 * sd-scripts makes before it has a seed. */
static void shuffle(struct sd_dataset *d)
{
    d->epoch++;
    for (size_t first = 0, end, batch = 0, n; first < d->n_buckets; first = end, batch += n) {
        struct sd_pyrandom random;
        for (end = first, n = 0; end < d->n_buckets && d->buckets[end].dataset == d->buckets[first].dataset;
             end++)
            n += (d->buckets[end].count + d->buckets[end].batch_size - 1) / d->buckets[end].batch_size;
        sd_pyrandom_seed(&random, d->epoch ? d->seed + d->epoch : 0);
        sd_pyrandom_shuffle(&random, d->shuffled + batch, n, sizeof *d->shuffled);
        for (size_t i = first; i < end; i++)
            sd_pyrandom_shuffle(&random, d->buckets[i].order, d->buckets[i].count, sizeof(size_t));
    }
}

int sd_dataset_epoch(struct sd_dataset *d, int64_t seed, int64_t epoch, struct sd_rng *loader,
                     struct sd_err *err)
{
    struct sd_rng sampler;
    int64_t *order = malloc(d->n_batches * sizeof *order);
    if (!order)
        return sd_err_memory(err, d->n_batches * sizeof *order);
    if (d->epoch < 0 || d->epoch > epoch || d->seed != seed) {
        put_in_order(d);
        d->seed = seed;
        d->epoch = -1;
    }
    while (d->epoch < epoch)
        shuffle(d);
    sd_rng_int63(loader); /* the seed that a DataLoader has ready for its workers */
    sd_rng_seed(&sampler, (uint64_t)sd_rng_int63(loader));
    sd_rng_randperm(&sampler, order, d->n_batches);
    for (size_t i = 0; i < d->n_batches; i++)
        d->batches[i] = d->shuffled[order[i]];
    free(order);
    return 0;
}

const struct sd_item *sd_dataset_item(const struct sd_dataset *d, const struct sd_batch_ref *b, size_t k)
{
    return &d->items[d->buckets[b->bucket].order[b->first + k]];
}

int64_t sd_dataset_pictures(const struct sd_dataset *d, bool reg)
{
    int64_t n = 0;
    for (size_t i = 0; i < d->n_items; i++)
        n += !reg || d->items[i].reg ? d->items[i].repeats : 0;
    return n;
}
