/* What the report of sd_stat is made of: ranges, rankings, pairs. */
#include "data/stat.h"

#include <stdlib.h>
#include <string.h>

/* ---- ranges of sizes: the median digit by digit, each digit by a pass over the sizes ---- */

enum { DIGIT_BITS = 16, DIGIT_VALUES = 1 << DIGIT_BITS, BLOCK = 4096 };

struct search {
    uint64_t first, rank; /* the median's digits so far; how many values that begin with them are before it */
    uint64_t counts[DIGIT_VALUES]; /* of these values by the digit that follows */
};

/* As numbers the bits of doubles that are not negative have the doubles' order. */
static uint64_t bits_of(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void count_size(const int32_t size[2], int shift, struct search *searches,
                       struct sd_stat_range *ranges)
{
    const double
        w = size[0],
        h = size[1],
        values[SD_STAT_MEASURES] = {
            [SD_STAT_WIDTH] = w, [SD_STAT_HEIGHT] = h, [SD_STAT_AREA] = w * h, [SD_STAT_ASPECT] = w / h};
    for (int m = 0; m < SD_STAT_MEASURES; m++) {
        struct search *x = &searches[m];
        uint64_t digits = bits_of(values[m]) >> shift;
        if (digits >> DIGIT_BITS == x->first)
            x->counts[digits % DIGIT_VALUES]++;
        if (!ranges[m].min || values[m] < ranges[m].min)
            ranges[m].min = values[m];
        if (values[m] > ranges[m].max)
            ranges[m].max = values[m];
    }
}

/* The next digit. */
static void narrow(struct search *x)
{
    size_t digit = 0;
    while (x->rank >= x->counts[digit])
        x->rank -= x->counts[digit++];
    x->first = x->first << DIGIT_BITS | digit;
    memset(x->counts, 0, sizeof x->counts);
}

static int find_medians(const struct sd_stat *s, struct search *searches, struct sd_stat_range *ranges,
                        struct sd_err *err)
{
    int32_t block[BLOCK][2];
    for (int shift = 64 - DIGIT_BITS; shift >= 0; shift -= DIGIT_BITS) {
        size_t got = 1;
        for (uint64_t at = 0; got; at += got) {
            if (sd_spill_read(&s->sizes, at, block, sizeof block, &got, err))
                return -1;
            for (size_t i = 0; i < got / sizeof *block; i++)
                count_size(block[i], shift, searches, ranges);
        }
        for (int m = 0; m < SD_STAT_MEASURES; m++)
            narrow(&searches[m]);
    }
    for (int m = 0; m < SD_STAT_MEASURES; m++)
        ranges[m].median = double_of(searches[m].first);
    return 0;
}

int sd_stat_sizes(const struct sd_stat *s, struct sd_stat_range ranges[SD_STAT_MEASURES], struct sd_err *err)
{
    uint64_t n = s->portrait + s->square + s->landscape;
    memset(ranges, 0, SD_STAT_MEASURES * sizeof *ranges);
    if (!n)
        return 0;
    struct search *searches = calloc(SD_STAT_MEASURES, sizeof *searches);
    if (!searches)
        return sd_err_memory(err, SD_STAT_MEASURES * sizeof *searches);
    for (int m = 0; m < SD_STAT_MEASURES; m++) {
        searches[m].rank = (n - 1) / 2;
        ranges[m].n = n;
    }
    int bad = find_medians(s, searches, ranges, err);
    free(searches);
    return bad;
}

/* ---- ranges of tallies ---- */

struct value {
    int64_t v;
    uint64_t count;
};

static int by_value(const void *a, const void *b)
{
    const struct value *x = a, *y = b;
    return (x->v > y->v) - (x->v < y->v);
}

int sd_stat_range(const struct sd_tally *t, struct sd_stat_range *range, struct sd_err *err)
{
    *range = (struct sd_stat_range){0};
    struct value *values = malloc((t->n + 1) * sizeof *values);
    if (!values)
        return sd_err_memory(err, (t->n + 1) * sizeof *values);
    for (size_t i = 0; i < t->n; i++) {
        memcpy(&values[i].v, t->entries[i].key, sizeof values[i].v);
        values[i].count = t->entries[i].count;
        range->n = sd_count_add(range->n, values[i].count);
    }
    qsort(values, t->n, sizeof *values, by_value);
    uint64_t seen = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (seen <= (range->n - 1) / 2)
            range->median = (double)values[i].v;
        seen = sd_count_add(seen, values[i].count);
    }
    if (t->n) {
        range->min = (double)values[0].v;
        range->max = (double)values[t->n - 1].v;
    }
    free(values);
    return 0;
}

/* ---- rankings ---- */

static int by_count(const void *a, const void *b)
{
    const struct sd_tally_entry *x = *(const struct sd_tally_entry *const *)a;
    const struct sd_tally_entry *y = *(const struct sd_tally_entry *const *)b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : (x > y) - (x < y);
}

const struct sd_tally_entry **sd_stat_ranked(const struct sd_tally *t, struct sd_err *err)
{
    const struct sd_tally_entry **list = malloc((t->n + 1) * sizeof *list);
    if (!list) {
        sd_err_memory(err, (t->n + 1) * sizeof *list);
        return NULL;
    }
    for (size_t i = 0; i < t->n; i++)
        list[i] = &t->entries[i];
    qsort(list, t->n, sizeof *list, by_count);
    return list;
}

/* ---- pairs ---- */

static int by_pair_count(const void *a, const void *b)
{
    const struct sd_stat_pair *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
           : x->a != y->a       ? (x->a > y->a) - (x->a < y->a)
                                : (x->b > y->b) - (x->b < y->b);
}

/* How often two of the first n tags are together; counts of pairs by pair_at. */
struct together {
    const uint32_t *rank; /* by id */
    size_t n;
    uint64_t *counts;
    size_t *here, count; /* ranks of those of the record at hand that are among the first n */
    uint32_t left;       /* tags of it that are still to come */
};

/* The place of the pair of ranks a < b. */
static size_t pair_at(size_t a, size_t b)
{
    return b * (b - 1) / 2 + a;
}

static void end_record(struct together *t)
{
    for (size_t i = 0; i < t->count; i++)
        for (size_t k = 0; k < i; k++) {
            size_t a = t->here[i], b = t->here[k];
            t->counts[a < b ? pair_at(a, b) : pair_at(b, a)]++;
        }
    t->count = 0;
}

static void read_log(struct together *t, uint32_t word)
{
    if (!t->left) {
        t->left = word;
        return;
    }
    if (t->rank[word] < t->n)
        t->here[t->count++] = t->rank[word]; /* a tag is in a record once */
    if (!--t->left)
        end_record(t);
}

static int count_pairs(const struct sd_stat *s, const uint32_t *rank, size_t n, uint64_t *counts,
                       struct sd_err *err)
{
    struct together t = {.rank = rank, .n = n, .counts = counts, .here = malloc((n + 1) * sizeof *t.here)};
    uint32_t block[BLOCK];
    size_t got = 1;
    int bad = t.here ? 0 : sd_err_memory(err, n * sizeof *t.here);
    for (uint64_t at = 0; got && !bad; at += got) {
        bad = sd_spill_read(&s->log, at, block, sizeof block, &got, err);
        for (size_t i = 0; !bad && i < got / sizeof *block; i++)
            read_log(&t, block[i]);
    }
    free(t.here);
    return bad;
}

/* The counts that are not 0, by falling count; *found of them. */
static struct sd_stat_pair *rank_pairs(const uint64_t *counts, size_t n, size_t *found, struct sd_err *err)
{
    *found = 0;
    for (size_t i = 0; i < pair_at(0, n); i++)
        *found += counts[i] > 0;
    struct sd_stat_pair *pairs = malloc((*found + 1) * sizeof *pairs);
    if (!pairs) {
        sd_err_memory(err, (*found + 1) * sizeof *pairs);
        return NULL;
    }
    size_t at = 0;
    for (uint32_t b = 1; b < n; b++)
        for (uint32_t a = 0; a < b; a++)
            if (counts[pair_at(a, b)])
                pairs[at++] = (struct sd_stat_pair){a, b, counts[pair_at(a, b)]};
    qsort(pairs, *found, sizeof *pairs, by_pair_count);
    return pairs;
}

struct sd_stat_pair *sd_stat_pairs(const struct sd_stat *s, const struct sd_tally_entry *const *ranked,
                                   size_t *n, struct sd_err *err)
{
    size_t most = (size_t)(s->options.top < SD_STAT_PAIRED ? s->options.top : SD_STAT_PAIRED);
    size_t top = !s->options.pairs ? 0 : s->tags.n < most ? s->tags.n : most, found = 0;
    uint64_t *counts = calloc(pair_at(0, top) + 1, sizeof *counts);
    uint32_t *rank = malloc((s->tags.n + 1) * sizeof *rank);
    struct sd_stat_pair *pairs = NULL;
    for (size_t i = 0; rank && i < s->tags.n; i++)
        rank[ranked[i] - s->tags.entries] = (uint32_t)i;
    if (!counts || !rank)
        sd_err_memory(err, pair_at(0, top) * sizeof *counts);
    else if (!count_pairs(s, rank, top, counts, err))
        pairs = rank_pairs(counts, top, &found, err);
    *n = found < (size_t)s->options.pairs ? found : (size_t)s->options.pairs;
    free(counts);
    free(rank);
    return pairs;
}
