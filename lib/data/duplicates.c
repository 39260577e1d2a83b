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
    bool *good = grown(d->good, d->n, &d->cap, sizeof *good, err);
    if (!good)
        return -1;
    d->good = good;
    struct sd_dup_picture p = *picture;
    p.path = d->path_bytes;
    p.path_len = p.good ? strlen(path) : 0;
    d->path_bytes += p.path_len;
    if (sd_spill_add(&d->pictures, &p, sizeof p, err) || sd_spill_add(&d->paths, path, p.path_len, err) ||
        (p.good && p.summed && sd_duplicates_add_sum(d, (uint32_t)d->n, sum, err)))
        return -1;
    d->good[d->n++] = p.good;
    return 0;
}

/* Reads up to n pictures from id on; *got of them. */
static int read_pictures(const struct sd_duplicates *d, uint64_t id, struct sd_dup_picture *p, size_t n,
                         size_t *got, struct sd_err *err)
{
    int bad = sd_spill_read(&d->pictures, id * sizeof *p, p, n * sizeof *p, got, err);
    *got /= sizeof *p;
    return bad;
}

static int read_picture(const struct sd_duplicates *d, uint32_t id, struct sd_dup_picture *p,
                        struct sd_err *err)
{
    size_t got;
    return read_pictures(d, id, p, 1, &got, err);
}

int sd_duplicates_path(const struct sd_duplicates *d, uint32_t id, struct sd_buf *path, struct sd_err *err)
{
    struct sd_dup_picture p;
    size_t got;
    sd_buf_clear(path);
    if (read_picture(d, id, &p, err))
        return -1;
    if (sd_buf_reserve(path, p.path_len))
        return sd_err_memory(err, p.path_len);
    if (sd_spill_read(&d->paths, p.path, path->data, p.path_len, &got, err))
        return -1;
    path->len = got;
    path->data[got] = 0;
    return 0;
}

int sd_duplicates_distance(const struct sd_duplicates *d, uint32_t a, uint32_t b, unsigned *bits,
                           struct sd_err *err)
{
    struct sd_dup_picture p, q;
    if (read_picture(d, a, &p, err) || read_picture(d, b, &q, err))
        return -1;
    *bits = p.hashed && q.hashed ? (unsigned)__builtin_popcountll(p.hash ^ q.hash) : 0;
    return 0;
}

void sd_duplicates_free(struct sd_duplicates *d)
{
    sd_sets_free(&d->sets);
    sd_spill_free(&d->pictures);
    sd_spill_free(&d->paths);
    free(d->good);
    free(d->sums);
    free(d->keeper);
    free(d->size);
    *d = SD_DUPLICATES_INIT;
}

/* ---- copies ---- */

enum { BLOCK = 128 }; /* pictures that are read at once */

struct size {
    uint64_t bytes;
    uint32_t id;
    bool summed;
};

static int by_size(const void *pa, const void *pb)
{
    const struct size *a = pa, *b = pb;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int list_sizes(const struct sd_duplicates *d, struct size *sizes, size_t *n, struct sd_err *err)
{
    struct sd_dup_picture block[BLOCK];
    size_t got = 1;
    *n = 0;
    for (size_t id = 0; got; id += got) {
        if (read_pictures(d, id, block, BLOCK, &got, err))
            return -1;
        for (size_t i = 0; i < got; i++)
            if (d->good[id + i])
                sizes[(*n)++] = (struct size){block[i].bytes, (uint32_t)(id + i), block[i].summed};
    }
    return 0;
}

int sd_duplicates_unsummed(const struct sd_duplicates *d, uint32_t **ids, size_t *n, struct sd_err *err)
{
    struct size *sizes = array(d->n, sizeof *sizes, err);
    size_t good = 0;
    *n = 0;
    *ids = sizes && !list_sizes(d, sizes, &good, err) ? array(d->n, sizeof **ids, err) : NULL;
    if (!*ids) {
        free(sizes);
        return -1;
    }
    qsort(sizes, good, sizeof *sizes, by_size);
    for (size_t i = 0; i < good; i++) {
        bool shared = (i && sizes[i - 1].bytes == sizes[i].bytes) ||
                      (i + 1 < good && sizes[i + 1].bytes == sizes[i].bytes);
        if (shared && !sizes[i].summed)
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
    free(d->sums); /* what follows needs the room */
    d->sums = NULL;
    d->n_sums = d->sums_cap = 0;
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

static int list_hashes(const struct sd_duplicates *d, struct sd_near *items, size_t *n, struct sd_err *err)
{
    struct sd_dup_picture block[BLOCK];
    size_t got = 1;
    *n = 0;
    for (size_t id = 0; got; id += got) {
        if (read_pictures(d, id, block, BLOCK, &got, err))
            return -1;
        for (size_t i = 0; i < got; i++) {
            const uint8_t *c = block[i].colour;
            uint32_t colour = (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | c[2];
            if (d->good[id + i] && block[i].hashed)
                items[(*n)++] = (struct sd_near){block[i].hash, colour, (uint32_t)(id + i)};
        }
    }
    return 0;
}

static int join_alike(struct sd_duplicates *d, const struct sd_dup_rules *rules, struct sd_err *err)
{
    struct near near = {&d->sets, rules->colour};
    struct sd_near *items = array(d->n, sizeof *items, err);
    size_t n;
    if (!items)
        return -1;
    int bad =
        list_hashes(d, items, &n, err) || sd_near_pairs(items, n, rules->distance, join_near, &near, err) ? -1
                                                                                                          : 0;
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

/* Puts a picture into its group. */
static int enter(struct sd_duplicates *d, enum sd_keep keep, uint32_t id, struct sd_err *err)
{
    uint32_t set = sd_sets_find(&d->sets, id);
    struct sd_dup_picture kept, p;
    if (!d->size[set]++) {
        d->keeper[set] = id;
        return 0;
    }
    d->groups += d->size[set] == 2;
    d->redundant++;
    if (keep == SD_KEEP_FIRST)
        return 0;
    if (read_picture(d, d->keeper[set], &kept, err) || read_picture(d, id, &p, err))
        return -1;
    if (better(keep, &kept, &p))
        d->keeper[set] = id;
    return 0;
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
    for (uint32_t i = 0; i < d->n; i++)
        if (enter(d, rules->keep, i, err))
            return -1;
    return 0;
}
