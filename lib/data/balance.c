#include "data/balance.h"

#include "base/tally.h" /* sd_count_add */

#include <stdlib.h>
#include <string.h>

static struct sd_balance_set *find(struct sd_balance *b, int64_t index)
{
    size_t at = b->n;
    while (at > 0 && b->sets[at - 1].index > index)
        at--;
    if (at > 0 && b->sets[at - 1].index == index)
        return &b->sets[at - 1];
    struct sd_balance_set *more = realloc(b->sets, (b->n + 1) * sizeof *more);
    if (!more)
        return NULL;
    b->sets = more;
    memmove(more + at + 1, more + at, (b->n++ - at) * sizeof *more);
    more[at] = (struct sd_balance_set){.index = index};
    return &more[at];
}

int sd_balance_count(struct sd_balance *b, int64_t index, bool reg, int64_t repeats)
{
    struct sd_balance_set *s = find(b, index);
    if (!s)
        return -1;
    uint64_t *sum = reg ? &s->reg : &s->train;
    *sum = sd_count_add(*sum, (uint64_t)repeats);
    s->reg_pictures += reg;
    return 0;
}

int sd_balance_merge(struct sd_balance *into, const struct sd_balance *from)
{
    for (size_t i = 0; i < from->n; i++) {
        const struct sd_balance_set *by = &from->sets[i];
        struct sd_balance_set *s = find(into, by->index);
        if (!s)
            return -1;
        s->train = sd_count_add(s->train, by->train);
        s->reg = sd_count_add(s->reg, by->reg);
        s->reg_pictures += by->reg_pictures;
    }
    return 0;
}

int64_t sd_balance_next(struct sd_balance *b, int64_t index, int64_t repeats)
{
    struct sd_balance_set *s = find(b, index);
    if (!s || s->given >= s->train) {
        if (s)
            s->unused++;
        return 0;
    }
    uint64_t all = (uint64_t)repeats, at = s->taken++;
    s->given = sd_count_add(s->given, all);
    if (s->reg < s->train) {
        uint64_t missing = s->train - s->reg;
        all = sd_count_add(all, missing / s->reg_pictures + (at < missing % s->reg_pictures));
    }
    return all > INT64_MAX ? INT64_MAX : (int64_t)all;
}

void sd_balance_free(struct sd_balance *b)
{
    free(b->sets);
    *b = (struct sd_balance){0};
}
