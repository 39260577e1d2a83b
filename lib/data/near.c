#include "data/near.h"

#include <stdlib.h>

enum { MIN_BLOCKS = 3, MAX_BLOCKS = SD_NEAR_MAX_DISTANCE + 1, HASH_BITS = 64 };

struct search {
    struct sd_near *items, *sorted; /* sorted: by the block being looked at */
    uint32_t *start;                /* where in sorted each value of the block begins; one more for the end */
    size_t n;
    unsigned distance, radius; /* radius: within the block */
    int blocks, block;
    sd_near_fn *fn;
    void *ctx;
};

static int bits_before(int blocks, int block)
{
    return HASH_BITS * block / blocks;
}

static int widest(int blocks)
{
    return (HASH_BITS + blocks - 1) / blocks;
}

static uint32_t block_of(const struct search *s, int block, uint64_t hash)
{
    int from = bits_before(s->blocks, block), width = bits_before(s->blocks, block + 1) - from;
    return (uint32_t)(hash >> from) & ((1u << width) - 1);
}

/* About how many memory accesses a search with this many blocks takes, if hashes were random. */
static double cost(size_t n, unsigned distance, int blocks)
{
    int width = widest(blocks), radius = (int)distance / blocks;
    double values = (double)(1u << width), flips = 1, choices = 1;
    for (int i = 1; i <= radius; i++) {
        choices *= (double)(width - i + 1) / i;
        flips += choices;
    }
    return blocks * (values + (double)n * flips * (1 + (double)n / values));
}

static int best_blocks(size_t n, unsigned distance)
{
    int best = MIN_BLOCKS;
    for (int m = MIN_BLOCKS + 1; m <= (int)distance + 1; m++)
        if (cost(n, distance, m) < cost(n, distance, best))
            best = m;
    return best;
}

static void sort_by_block(struct search *s)
{
    size_t values = (size_t)1 << widest(s->blocks);
    for (size_t v = 0; v <= values; v++)
        s->start[v] = 0;
    for (size_t i = 0; i < s->n; i++)
        s->start[block_of(s, s->block, s->items[i].hash)]++;
    uint32_t at = 0;
    for (size_t v = 0; v <= values; v++) {
        at += s->start[v]; /* the value's end, */
        s->start[v] = at;
    }
    for (size_t i = s->n; i-- > 0;) /* and its start once its items are in place */
        s->sorted[--s->start[block_of(s, s->block, s->items[i].hash)]] = s->items[i];
}

static void compare(const struct search *s, const struct sd_near *a, const struct sd_near *b)
{
    uint64_t differ = a->hash ^ b->hash;
    unsigned distance = (unsigned)__builtin_popcountll(differ);
    if (distance > s->distance)
        return;
    for (int i = 0; i < s->block; i++) /* an earlier block has told of this pair */
        if ((unsigned)__builtin_popcount(block_of(s, i, differ)) <= s->radius)
            return;
    if (a->id < b->id)
        s->fn(s->ctx, a, b, distance);
    else
        s->fn(s->ctx, b, a, distance);
}

/* Items of which the block differs in exactly the bits of flip. */
static void search_flipped(const struct search *s, uint32_t flip)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct sd_near *a = &s->sorted[i];
        uint32_t value = block_of(s, s->block, a->hash), other = value ^ flip;
        if (other < value)
            continue; /* seen from there */
        size_t from = flip ? s->start[other] : i + 1;
        for (size_t j = from; j < s->start[other + 1]; j++)
            compare(s, a, &s->sorted[j]);
    }
}

static void search_block(const struct search *s)
{
    uint32_t width = (uint32_t)(bits_before(s->blocks, s->block + 1) - bits_before(s->blocks, s->block));
    search_flipped(s, 0);
    for (unsigned ones = 1; ones <= s->radius; ones++) {
        uint32_t flip = (1u << ones) - 1;
        while (flip < 1u << width) { /* the next number with as many ones (Gosper) */
            search_flipped(s, flip);
            uint32_t low = flip & -flip, next = flip + low;
            flip = next | (((flip ^ next) >> 2) / low);
        }
    }
}

static int by_hash(const void *pa, const void *pb)
{
    const struct sd_near *a = pa, *b = pb;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    if (a->mark != b->mark)
        return a->mark < b->mark ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

/* Puts the items that are no copies to the front; returns their number. */
static size_t fold_copies(struct sd_near *items, size_t n, sd_near_fn *fn, void *ctx)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        struct sd_near *last = kept ? &items[kept - 1] : NULL;
        if (last && last->hash == items[i].hash && last->mark == items[i].mark)
            fn(ctx, last, &items[i], 0);
        else
            items[kept++] = items[i];
    }
    return kept;
}

int sd_near_pairs(struct sd_near *items, size_t n, unsigned distance, sd_near_fn *fn, void *ctx,
                  struct sd_err *err)
{
    if (distance > SD_NEAR_MAX_DISTANCE)
        return sd_err_set(err, SD_ERR_USAGE, "a distance of %u bits is more than %d", distance,
                          SD_NEAR_MAX_DISTANCE);
    if (n >= UINT32_MAX || n > SIZE_MAX / sizeof *items)
        return sd_err_set(err, SD_ERR_DATA, "%zu hashes are more than can be compared", n);
    if (n < 2)
        return 0;
    qsort(items, n, sizeof *items, by_hash);
    n = fold_copies(items, n, fn, ctx);
    struct search s = {.items = items, .n = n, .distance = distance, .fn = fn, .ctx = ctx};
    s.blocks = best_blocks(n, distance);
    s.radius = distance / (unsigned)s.blocks;
    size_t values = (size_t)1 << widest(s.blocks);
    s.sorted = malloc(n * sizeof *s.sorted);
    s.start = malloc((values + 1) * sizeof *s.start);
    int bad =
        s.sorted && s.start ? 0 : sd_err_memory(err, n * sizeof *s.sorted + (values + 1) * sizeof *s.start);
    for (s.block = 0; !bad && s.block < s.blocks; s.block++) {
        sort_by_block(&s);
        search_block(&s);
    }
    free(s.sorted);
    free(s.start);
    return bad;
}

/* ---- disjoint sets ---- */

int sd_sets_init(struct sd_sets *s, size_t n, struct sd_err *err)
{
    s->parent = NULL;
    if (n > UINT32_MAX || n > SIZE_MAX / sizeof *s->parent)
        return sd_err_set(err, SD_ERR_DATA, "%zu items are more than can be grouped", n);
    s->parent = malloc(n * sizeof *s->parent + 1);
    if (!s->parent)
        return sd_err_memory(err, n * sizeof *s->parent);
    for (size_t i = 0; i < n; i++)
        s->parent[i] = (uint32_t)i;
    return 0;
}

uint32_t sd_sets_find(struct sd_sets *s, uint32_t item)
{
    while (s->parent[item] != item) {
        s->parent[item] = s->parent[s->parent[item]];
        item = s->parent[item];
    }
    return item;
}

void sd_sets_join(struct sd_sets *s, uint32_t a, uint32_t b)
{
    a = sd_sets_find(s, a);
    b = sd_sets_find(s, b);
    if (a < b)
        s->parent[b] = a;
    else
        s->parent[a] = b;
}

void sd_sets_free(struct sd_sets *s)
{
    free(s->parent);
    s->parent = NULL;
}
