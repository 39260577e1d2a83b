/* Pairs of near hashes as comparing each with each finds them, and the time 100,000 take. */
#include "base/progress.h"
#include "base/rng.h"
#include "data/near.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

struct pair {
    uint32_t a, b;
    unsigned distance;
};

struct pairs {
    struct pair *v;
    size_t n, cap;
};

static void add(void *ctx, const struct sd_near *a, const struct sd_near *b, unsigned distance)
{
    struct pairs *p = ctx;
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 1024;
        p->v = realloc(p->v, p->cap * sizeof *p->v);
        if (!p->v)
            exit(1);
    }
    p->v[p->n++] = (struct pair){a->id, b->id, distance};
}

static int by_ids(const void *pa, const void *pb)
{
    return memcmp(pa, pb, sizeof(struct pair));
}

static void brute(const struct sd_near *items, size_t n, unsigned distance, struct pairs *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            unsigned d = (unsigned)__builtin_popcountll(items[i].hash ^ items[j].hash);
            if (d <= distance)
                add(out, &items[i], &items[j], d);
        }
}

/* Random hashes, of which every third is an earlier one with up to 18 bits turned. Marks are ids, so that
 * nothing folds. */
static struct sd_near *some(size_t n, uint64_t seed)
{
    struct sd_near *items = malloc(n * sizeof *items);
    struct sd_rng rng;
    if (!items)
        exit(1);
    sd_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = sd_rng_u64(&rng);
        if (i % 3 == 2) {
            hash = items[sd_rng_u32(&rng) % i].hash;
            for (uint32_t turn = sd_rng_u32(&rng) % 19; turn > 0; turn--)
                hash ^= 1ull << sd_rng_u32(&rng) % 64;
        }
        items[i] = (struct sd_near){hash, (uint32_t)i, (uint32_t)i};
    }
    return items;
}

static int agree(size_t n, unsigned distance, size_t *found)
{
    struct sd_near *items = some(n, 7 + distance);
    struct pairs want = {0}, got = {0};
    struct sd_err err = {0};
    brute(items, n, distance, &want);
    int good = !sd_near_pairs(items, n, distance, add, &got, &err) && got.n == want.n;
    if (good && want.n) {
        qsort(want.v, want.n, sizeof *want.v, by_ids);
        qsort(got.v, got.n, sizeof *got.v, by_ids);
        good = !memcmp(want.v, got.v, want.n * sizeof *want.v);
    }
    *found = got.n;
    free(items);
    free(want.v);
    free(got.v);
    return good;
}

static void test_brute_force(void)
{
    size_t found;
    for (unsigned d = 0; d <= SD_NEAR_MAX_DISTANCE; d++) {
        int good = agree(2000, d, &found);
        ok(good, "2000 hashes, distance %u: %zu pairs, each once, as brute force has them", d, found);
    }
    int good = agree(10000, 4, &found);
    ok(good && found > 100, "10000 hashes, distance 4: %zu pairs", found);
    ok(agree(0, 4, &found) && !found && agree(1, 4, &found) && !found, "none, and one");
}

static void join(void *ctx, const struct sd_near *a, const struct sd_near *b, unsigned distance)
{
    (void)distance;
    sd_sets_join(ctx, a->id, b->id);
}

static void test_many(void)
{
    enum { MANY = 100000 };
    struct sd_near *items = some(MANY, 3), *again = malloc(MANY * sizeof *again);
    struct sd_sets one, two;
    struct sd_err err = {0};
    if (!again || sd_sets_init(&one, MANY, &err) || sd_sets_init(&two, MANY, &err))
        exit(1);
    for (size_t i = 0; i < MANY; i++)
        again[MANY - 1 - i] = items[i];
    int64_t began = sd_clock_ns();
    int good = !sd_near_pairs(items, MANY, 4, join, &one, &err);
    printf("# %d hashes, distance 4: %.3f s\n", MANY, (double)(sd_clock_ns() - began) / 1e9);
    good = good && !sd_near_pairs(again, MANY, 4, join, &two, &err);
    size_t same = 0, grouped = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        same += sd_sets_find(&one, i) == sd_sets_find(&two, i) && sd_sets_find(&one, i) <= i;
        grouped += sd_sets_find(&one, i) != i;
    }
    ok(good && same == MANY && grouped > 1000, "100000 hashes in any order: the same groups (%zu)", grouped);
    sd_sets_free(&one);
    sd_sets_free(&two);
    free(items);
    free(again);
}

static void test_copies(void)
{
    enum { MANY = 200000 };
    struct sd_near *items = malloc(MANY * sizeof *items);
    struct pairs got = {0};
    struct sd_err err = {0};
    if (!items)
        exit(1);
    for (uint32_t i = 0; i < MANY; i++)
        items[i] = (struct sd_near){42, i % 2, MANY - 1 - i};
    int good = !sd_near_pairs(items, MANY, 16, add, &got, &err) && got.n == MANY - 1;
    for (size_t i = 0; good && i + 1 < got.n; i++)
        good = got.v[i].a < 2 && got.v[i].a == got.v[i].b % 2 && !got.v[i].distance;
    good = good && got.v[got.n - 1].a == 0 && got.v[got.n - 1].b == 1;
    ok(good, "200000 copies with two marks: each with the first of its mark, then these two");
    ok(sd_near_pairs(items, 2, 17, add, &got, &err) == -1 && err.code == SD_ERR_USAGE,
       "17 bits are too many");
    free(items);
    free(got.v);
}

static void test_sets(void)
{
    struct sd_sets s;
    if (sd_sets_init(&s, 6, NULL))
        exit(1);
    sd_sets_join(&s, 5, 3);
    sd_sets_join(&s, 4, 2);
    sd_sets_join(&s, 3, 4);
    sd_sets_join(&s, 5, 2);
    ok(sd_sets_find(&s, 5) == 2 && sd_sets_find(&s, 3) == 2 && sd_sets_find(&s, 4) == 2,
       "a set has its smallest name");
    ok(sd_sets_find(&s, 0) == 0 && sd_sets_find(&s, 1) == 1, "the others are by themselves");
    sd_sets_free(&s);
}

int main(void)
{
    test_brute_force();
    test_many();
    test_copies();
    test_sets();
    return tap_end();
}
