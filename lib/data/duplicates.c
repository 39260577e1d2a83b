#include "data/duplicates.h"

#include <stdlib.h>
#include <string.h>

/* The array with room for one more, or NULL. */
static void *grown(void *v, size_t n, size_t *cap, size_t item, struct sd_err *err)
{
    if (n < *cap)
        return v;
    size_t more = *cap ? 2 * *cap : 1024;
    void *p = more <= SIZE_MAX / item ? realloc(v, more * item) : NULL;
    if (!p)
        sd_err_memory(err, more <= SIZE_MAX / item ? more * item : SIZE_MAX);
    else
        *cap = more;
    return p;
}

static void *array(size_t n, size_t item, struct sd_err *err)
{
    void *p = calloc(n + 1, item);
    if (!p)
        sd_err_memory(err, n * item);
    return p;
}

int sd_duplicates_add_sum(struct sd_duplicates *d, uint32_t id, const struct sd_dup_sum *sum,
                          struct sd_err *err)
{
    struct sd_dup_sum *sums = grown(d->sums, d->n_sums, &d->sums_cap, sizeof *sums, err);
    if (!sums)
        return -1;
    d->sums = sums;
    d->sums[d->n_sums] = *sum;
    d->sums[d->n_sums++].id = id;
    return 0;
}

int sd_duplicates_add(struct sd_duplicates *d, const struct sd_dup_picture *picture, const char *path,
                      const struct sd_dup_sum *sum, struct sd_err *err)
{
    if (d->n >= UINT32_MAX - 1)
        return sd_err_set(err, SD_ERR_DATA, "more than %zu records", d->n);
    struct sd_dup_picture *pictures = grown(d->pictures, d->n, &d->cap, sizeof *pictures, err);
    if (!pictures)
        return -1;
    d->pictures = pictures;
    d->pictures[d->n] = *picture;
    d->pictures[d->n].path = d->paths.len;
    if (picture->good && sd_buf_add(&d->paths, path, strlen(path) + 1))
        return sd_err_memory(err, d->paths.len);
    if (picture->good && picture->summed && sd_duplicates_add_sum(d, (uint32_t)d->n, sum, err))
        return -1;
    d->n++;
    return 0;
}

const char *sd_duplicates_path(const struct sd_duplicates *d, uint32_t id)
{
    return d->paths.data + d->pictures[id].path;
}

unsigned sd_duplicates_distance(const struct sd_duplicates *d, uint32_t a, uint32_t b)
{
    const struct sd_dup_picture *p = &d->pictures[a], *q = &d->pictures[b];
    return p->hashed && q->hashed ? (unsigned)__builtin_popcountll(p->hash ^ q->hash) : 0;
}

void sd_duplicates_free(struct sd_duplicates *d)
{
    sd_sets_free(&d->sets);
    sd_buf_free(&d->paths);
    free(d->pictures);
    free(d->sums);
    free(d->keeper);
    free(d->size);
    *d = SD_DUPLICATES_INIT;
}

/* ---- copies ---- */

struct size {
    uint64_t bytes;
    uint32_t id;
};

static int by_size(const void *pa, const void *pb)
{
    const struct size *a = pa, *b = pb;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

int sd_duplicates_unsummed(const struct sd_duplicates *d, uint32_t **ids, size_t *n, struct sd_err *err)
{
    struct size *sizes = array(d->n, sizeof *sizes, err);
    size_t good = 0;
    *n = 0;
    *ids = sizes ? array(d->n, sizeof **ids, err) : NULL;
    if (!*ids) {
        free(sizes);
        return -1;
    }
    for (size_t i = 0; i < d->n; i++)
        if (d->pictures[i].good)
            sizes[good++] = (struct size){d->pictures[i].bytes, (uint32_t)i};
    qsort(sizes, good, sizeof *sizes, by_size);
    for (size_t i = 0; i < good; i++) {
        bool shared = (i && sizes[i - 1].bytes == sizes[i].bytes) ||
                      (i + 1 < good && sizes[i + 1].bytes == sizes[i].bytes);
        if (shared && !d->pictures[sizes[i].id].summed)
            (*ids)[(*n)++] = sizes[i].id;
    }
    free(sizes);
    return 0;
}

static int by_sum(const void *pa, const void *pb)
{
    const struct sd_dup_sum *a = pa, *b = pb;
    int order = memcmp(a->bytes, b->bytes, SD_SUM_BYTES);
    return order ? order : (a->id > b->id) - (a->id < b->id);
}

static void join_copies(struct sd_duplicates *d)
{
    if (d->n_sums)
        qsort(d->sums, d->n_sums, sizeof *d->sums, by_sum);
    for (size_t i = 1; i < d->n_sums; i++)
        if (!memcmp(d->sums[i - 1].bytes, d->sums[i].bytes, SD_SUM_BYTES))
            sd_sets_join(&d->sets, d->sums[i - 1].id, d->sums[i].id);
}

/* ---- pictures that look alike ---- */

struct near {
    struct sd_sets *sets;
    unsigned colour;
};

static void join_near(void *ctx, const struct sd_near *a, const struct sd_near *b, unsigned distance)
{
    const struct near *near = ctx;
    (void)distance;
    for (int shift = 0; shift < 24; shift += 8) {
        uint32_t x = a->mark >> shift & 255, y = b->mark >> shift & 255;
        if ((x > y ? x - y : y - x) > near->colour)
            return;
    }
    sd_sets_join(near->sets, a->id, b->id);
}

static int join_alike(struct sd_duplicates *d, const struct sd_dup_rules *rules, struct sd_err *err)
{
    struct near near = {&d->sets, rules->colour};
    struct sd_near *items = array(d->n, sizeof *items, err);
    size_t n = 0;
    if (!items)
        return -1;
    for (size_t i = 0; i < d->n; i++) {
        const struct sd_dup_picture *p = &d->pictures[i];
        uint32_t colour = (uint32_t)p->colour[0] << 16 | (uint32_t)p->colour[1] << 8 | p->colour[2];
        if (p->good && p->hashed)
            items[n++] = (struct sd_near){p->hash, colour, (uint32_t)i};
    }
    int bad = sd_near_pairs(items, n, rules->distance, join_near, &near, err);
    free(items);
    return bad;
}

/* ---- groups ---- */

/* Whether b is to be kept rather than a, which came before it. */
static bool better(enum sd_keep keep, const struct sd_dup_picture *a, const struct sd_dup_picture *b)
{
    switch (keep) {
    case SD_KEEP_NEWEST:
        return b->modified > a->modified;
    case SD_KEEP_OLDEST:
        return b->modified < a->modified;
    case SD_KEEP_LARGEST:
        return b->pixels != a->pixels ? b->pixels > a->pixels : b->bytes > a->bytes;
    default:
        return false;
    }
}

int sd_duplicates_group(struct sd_duplicates *d, const struct sd_dup_rules *rules, struct sd_err *err)
{
    if (sd_sets_init(&d->sets, d->n, err))
        return -1;
    join_copies(d);
    if (rules->alike && join_alike(d, rules, err))
        return -1;
    d->keeper = array(d->n, sizeof *d->keeper, err);
    d->size = d->keeper ? array(d->n, sizeof *d->size, err) : NULL;
    if (!d->size)
        return -1;
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t set = sd_sets_find(&d->sets, i);
        if (!d->size[set]++ || better(rules->keep, &d->pictures[d->keeper[set]], &d->pictures[i]))
            d->keeper[set] = i;
        d->groups += d->size[set] == 2;
        d->redundant += d->size[set] > 1;
    }
    return 0;
}
