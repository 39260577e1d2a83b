#include "text/strmap.h"

#include "base/hash.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct sd_strmap_slot {
    struct sd_str key; /* data is NULL in a free slot */
    uint64_t hash;
    size_t value;
};

/* The key's slot, or the free one where it belongs; cap is a power of two and never full. */
static struct sd_strmap_slot *find(const struct sd_strmap *m, struct sd_str key, uint64_t hash)
{
    for (size_t i = (size_t)hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct sd_strmap_slot *s = &m->slots[i];
        if (!s->key.data || (s->hash == hash && s->key.len == key.len &&
                             (key.len == 0 || !memcmp(s->key.data, key.data, key.len))))
            return s;
    }
}

size_t sd_strmap_get(const struct sd_strmap *m, struct sd_str key)
{
    if (m->n == 0)
        return SD_STRMAP_NONE;
    const struct sd_strmap_slot *s = find(m, key, sd_fnv1a_low(key.data, key.len));
    return s->key.data ? s->value : SD_STRMAP_NONE;
}

static int grow(struct sd_strmap *m)
{
    if (m->cap > SIZE_MAX / 2 / sizeof *m->slots)
        return -1;
    struct sd_strmap bigger = {.cap = m->cap ? 2 * m->cap : 64};
    bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
    if (!bigger.slots)
        return -1;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i].key.data)
            *find(&bigger, m->slots[i].key, m->slots[i].hash) = m->slots[i];
    bigger.n = m->n;
    free(m->slots);
    *m = bigger;
    return 0;
}

int sd_strmap_put(struct sd_strmap *m, struct sd_str key, size_t value, size_t *old)
{
    if (m->n >= m->cap / 2 && grow(m))
        return -1;
    uint64_t hash = sd_fnv1a_low(key.data, key.len);
    struct sd_strmap_slot *s = find(m, key, hash);
    if (old)
        *old = s->key.data ? s->value : SD_STRMAP_NONE;
    m->n += !s->key.data;
    *s = (struct sd_strmap_slot){.key = {key.data ? key.data : "", key.len}, .hash = hash, .value = value};
    return 0;
}

void sd_strmap_clear(struct sd_strmap *m)
{
    if (m->n)
        memset(m->slots, 0, m->cap * sizeof *m->slots);
    m->n = 0;
}

void sd_strmap_free(struct sd_strmap *m)
{
    free(m->slots);
    *m = (struct sd_strmap){0};
}
