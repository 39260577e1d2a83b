#include "base/tally.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

uint64_t sd_count_add(uint64_t a, uint64_t b)
{
    return b > UINT64_MAX - a ? UINT64_MAX : a + b;
}

/* Room for one more entry, in slots that are at most half full. */
static int grow(struct sd_tally *t)
{
    if (t->n < t->cap)
        return 0;
    size_t cap = t->cap ? t->cap * 2 : 32;
    if (cap >= UINT32_MAX / 2)
        return -1;
    struct sd_tally_entry *entries = realloc(t->entries, cap * sizeof *entries);
    if (!entries)
        return -1;
    t->entries = entries;
    uint32_t *slots = calloc(cap * 2, sizeof *slots);
    if (!slots)
        return -1;
    free(t->slots);
    t->slots = slots;
    t->mask = cap * 2 - 1;
    t->cap = cap;
    for (size_t i = 0; i < t->n; i++) {
        size_t at = entries[i].hash & t->mask;
        while (slots[at])
            at = (at + 1) & t->mask;
        slots[at] = (uint32_t)i + 1;
    }
    return 0;
}

int sd_tally_add(struct sd_tally *t, const void *key, size_t len, uint64_t by, size_t *index)
{
    uint64_t h = sd_fnv1a_low(key, len);
    if (grow(t))
        return -1;
    size_t at = h & t->mask;
    for (; t->slots[at]; at = (at + 1) & t->mask) {
        const struct sd_tally_entry *e = &t->entries[t->slots[at] - 1];
        if (e->hash == h && e->len == len && !memcmp(e->key, key, len))
            break;
    }
    if (!t->slots[at]) {
        char *copy = sd_arena_strndup(&t->keys, key, len);
        if (!copy)
            return -1;
        t->entries[t->n] = (struct sd_tally_entry){.key = copy, .len = len, .hash = h};
        t->slots[at] = (uint32_t)++t->n;
    }
    size_t i = t->slots[at] - 1;
    t->entries[i].count = sd_count_add(t->entries[i].count, by);
    if (index)
        *index = i;
    return 0;
}

void sd_tally_free(struct sd_tally *t)
{
    free(t->entries);
    free(t->slots);
    sd_arena_free(&t->keys);
    *t = (struct sd_tally){0};
}
