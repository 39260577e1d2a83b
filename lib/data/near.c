#include "data/near.h"

#include <stdlib.h>

enum { MIN_BLOCKS = 3, MAX_BLOCKS = SD_NEAR_MAX_DISTANCE + 1, HASH_BITS = 64 };

struct search {
    struct sd_near *items, *sorted; /* sorted: by the block being looked at */
    uint32_t *start;                /* where in sorted each value of the block begins; one more for the end */
    size_t n;
    unsigned distance, radius; /* radius: within the block */
    int blocks, block, shift[MAX_BLOCKS];
    uint32_t mask[MAX_BLOCKS];
    sd_near_fn *fn;
    void *ctx;
};

static int widest(int blocks)
{
    return (HASH_BITS + blocks - 1) / blocks;
}

static void cut(struct search *s)
{
    for (int i = 0; i < s->blocks; i++) {
        int from = HASH_BITS * i / s->blocks, to = HASH_BITS * (i + 1) / s->blocks;
        s->shift[i] = from;
        s->mask[i] = (1u << (to - from)) - 1;
    }
}

static uint32_t block_of(const struct search *s, int block, uint64_t hash)
{
    return (uint32_t)(hash >> s->shift[block]) & s->mask[block];
}

/* About how long a search with this many blocks takes if hashes are random: comparing two is 1, finding where
 * a value begins is 4, for it is seldom in the cache. */
static double cost(size_t n, unsigned distance, int blocks)
{
    int width = widest(blocks), radius = (int)distance / blocks;
    double values = (double)(1u << width), flips = 1, choices = 1;
    for (int i = 1; i <= radius; i++) {
        choices *= (double)(width - i + 1) / i;
        flips += choices;
    }
    return blocks * (values + (double)n * flips * (4 + (double)n / values));
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

/* Inline, for the compiler's own is a function call where the processor's instruction must not be taken for
 * granted. */
static inline unsigned ones_of(uint64_t v)
{
    v -= v >> 1 & 0x5555555555555555;
    v = (v & 0x3333333333333333) + (v >> 2 & 0x3333333333333333);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return (unsigned)(v * 0x0101010101010101 >> 56);
}

/* Two near ones, unless an earlier block has told of them. */
static void tell(const struct search *s, const struct sd_near *a, const struct sd_near *b)
{
    uint64_t differ = a->hash ^ b->hash;
    for (int i = 0; i < s->block; i++)
        if (ones_of(block_of(s, i, differ)) <= s->radius)
            return;
    unsigned distance = ones_of(differ);
    if (a->id < b->id)
        s->fn(s->ctx, a, b, distance);
    else
        s->fn(s->ctx, b, a, distance);
}

/* Items of which the block differs in exactly the bits of flip. */
static void search_flipped(const struct search *s, uint32_t flip)
{
    const int shift = s->shift[s->block];
    const uint32_t mask = s->mask[s->block];
    for (size_t i = 0; i < s->n; i++) {
        const struct sd_near *a = &s->sorted[i];
        uint32_t value = (uint32_t)(a->hash >> shift) & mask, other = value ^ flip;
        if (other < value)
            continue; /* seen from there */
        size_t end = s->start[other + 1];
        for (size_t j = flip ? s->start[other] : i + 1; j < end; j++)
            if (ones_of(a->hash ^ s->sorted[j].hash) <= s->distance)
                tell(s, a, &s->sorted[j]);
    }
}

static void search_block(const struct search *s)
{
    search_flipped(s, 0);
    for (unsigned ones = 1; ones <= s->radius; ones++) {
        uint32_t flip = (1u << ones) - 1;
        while (flip <= s->mask[s->block]) { /* the next number with as many ones (Gosper) */
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
    cut(&s);
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
