#include "base/seen.h"

#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 sum;

enum {
    CAP_FIRST = 1024,
    CAP_MOST = 512 * 1024,
    SLACK = 1024, /* slots behind the last place of a sum, for those that find theirs taken; one stays free */
    BLOCK = 256,  /* sums of a run that are read at once */
    FILTER_WORDS = 1024 * 1024,
};

/* ---- the table: each sum at the place its first bits say, or behind it; sums rise from slot to slot ---- */

/* The first slot that the sum can have: it is there, or goes there and what follows moves on. A sum of 0 does
 * not occur (2^-128). */
static size_t place(const struct sd_seen *s, sum d)
{
    size_t at = (size_t)((uint64_t)(d >> 96) * s->cap >> 32);
    while (s->slots[at] && s->slots[at] < d)
        at++;
    return at;
}

/* Whether there was room. */
static bool enter(struct sd_seen *s, size_t at, sum d)
{
    size_t end = at;
    while (s->slots[end])
        end++;
    if (end == s->cap + SLACK - 1)
        return false;
    memmove(s->slots + at + 1, s->slots + at, (end - at) * sizeof d);
    s->slots[at] = d;
    s->used++;
    return true;
}

/* ---- runs ---- */

static int run_add(struct sd_seen_run *run, sum d, struct sd_err *err)
{
    if (run->n++ % BLOCK == 0 && sd_buf_add(&run->firsts, &d, sizeof d))
        return sd_err_memory(err, run->firsts.len);
    return sd_spill_add(&run->sums, &d, sizeof d, err);
}

static void run_free(struct sd_seen_run *run)
{
    sd_spill_free(&run->sums);
    sd_buf_free(&run->firsts);
}

static int by_value(const void *a, const void *b)
{
    sum x = *(const sum *)a, y = *(const sum *)b;
    return (x > y) - (x < y);
}

/* 1 when the run has the sum, 0, -1. */
static int run_has(const struct sd_seen_run *run, sum d, struct sd_err *err)
{
    sum first, block[BLOCK];
    size_t low = 0, high = run->firsts.len / sizeof first, got;
    while (low < high) { /* blocks before low begin at d or below it, those from high on above it */
        size_t mid = low + (high - low) / 2;
        memcpy(&first, run->firsts.data + mid * sizeof first, sizeof first);
        if (first <= d)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low)
        return 0;
    if (sd_spill_read(&run->sums, (uint64_t)(low - 1) * sizeof block, block, sizeof block, &got, err))
        return -1;
    return bsearch(&d, block, got / sizeof d, sizeof d, by_value) != NULL;
}

struct cursor {
    const struct sd_seen_run *run;
    uint64_t at;
    size_t i, got; /* bytes of the block */
    sum block[BLOCK];
};

/* The next sum of the run: 1, 0 at its end, -1. */
static int cursor_next(struct cursor *c, sum *d, struct sd_err *err)
{
    if (c->i * sizeof *d == c->got) {
        if (sd_spill_read(&c->run->sums, c->at, c->block, sizeof c->block, &c->got, err))
            return -1;
        c->at += c->got;
        c->i = 0;
        if (!c->got)
            return 0;
    }
    *d = c->block[c->i++];
    return 1;
}

/* The last two runs become one. */
static int merge_runs(struct sd_seen *s, struct sd_err *err)
{
    struct sd_seen_run *x = &s->runs[s->n_runs - 2], *y = x + 1, both = {0};
    struct cursor a = {.run = x}, b = {.run = y};
    sum p = 0, q = 0;
    int more_p = cursor_next(&a, &p, err), more_q = cursor_next(&b, &q, err), bad = 0;
    while (!bad && more_p >= 0 && more_q >= 0 && more_p + more_q > 0) {
        if (!more_q || (more_p && p < q)) {
            bad = run_add(&both, p, err);
            more_p = cursor_next(&a, &p, err);
        } else {
            bad = run_add(&both, q, err);
            more_q = cursor_next(&b, &q, err);
        }
    }
    if (bad || more_p < 0 || more_q < 0) {
        run_free(&both);
        return -1;
    }
    run_free(x);
    run_free(y);
    *x = both;
    *y = (struct sd_seen_run){0};
    s->n_runs--;
    return 0;
}

/* ---- the filter (Bloom's): two bits a sum ---- */

static void filter_add(uint64_t *filter, sum d)
{
    for (int k = 0; k < 2; k++, d >>= 32)
        filter[(uint32_t)d / 64 % FILTER_WORDS] |= UINT64_C(1) << d % 64;
}

/* Whether a run may have the sum. */
static bool filter_has(const uint64_t *filter, sum d)
{
    uint64_t has = 1;
    for (int k = 0; k < 2; k++, d >>= 32)
        has &= filter[(uint32_t)d / 64 % FILTER_WORDS] >> d % 64;
    return has;
}

/* ---- a table that is full ---- */

/* The table's sums become a run. */
static int put_aside(struct sd_seen *s, struct sd_err *err)
{
    struct sd_seen_run *run = &s->runs[s->n_runs++];
    if (!s->filter && !(s->filter = calloc(FILTER_WORDS, sizeof *s->filter)))
        return sd_err_memory(err, FILTER_WORDS * sizeof *s->filter);
    for (size_t i = 0; i < s->cap + SLACK; i++) {
        if (!s->slots[i])
            continue;
        filter_add(s->filter, s->slots[i]);
        if (run_add(run, s->slots[i], err))
            return -1;
    }
    memset(s->slots, 0, (s->cap + SLACK) * sizeof *s->slots);
    s->used = 0;
    while (s->n_runs > 1 && s->runs[s->n_runs - 2].n / 2 < s->runs[s->n_runs - 1].n)
        if (merge_runs(s, err))
            return -1;
    return 0;
}

static int make_room(struct sd_seen *s, struct sd_err *err)
{
    if (s->cap == CAP_MOST)
        return put_aside(s, err);
    sum *old = s->slots;
    size_t slots = old ? s->cap + SLACK : 0, cap = old ? 2 * s->cap : CAP_FIRST;
    if (!(s->slots = calloc(cap + SLACK, sizeof *s->slots))) {
        s->slots = old;
        return sd_err_memory(err, (cap + SLACK) * sizeof *s->slots);
    }
    s->cap = cap;
    s->used = 0;
    /* All find room: of a table twice as large they need no more slots behind the last place than before. */
    for (size_t i = 0; i < slots; i++)
        if (old[i])
            enter(s, place(s, old[i]), old[i]);
    free(old);
    return 0;
}

int sd_seen_add(struct sd_seen *s, const void *bytes, size_t len, struct sd_err *err)
{
    unsigned char sha[SD_SHA256_BYTES];
    sum d;
    sd_sha256_sum(bytes, len, sha);
    memcpy(&d, sha, sizeof d);
    if (s->used >= s->cap / 4 * 3 && make_room(s, err))
        return -1;
    size_t at = place(s, d);
    if (s->slots[at] == d)
        return 1;
    for (size_t i = s->filter && filter_has(s->filter, d) ? s->n_runs : 0; i-- > 0;) {
        int has = run_has(&s->runs[i], d, err);
        if (has)
            return has;
    }
    while (!enter(s, place(s, d), d))
        if (make_room(s, err))
            return -1;
    s->count++;
    return 0;
}

void sd_seen_free(struct sd_seen *s)
{
    for (size_t i = 0; i < s->n_runs; i++)
        run_free(&s->runs[i]);
    free(s->slots);
    free(s->filter);
    *s = (struct sd_seen){0};
}
