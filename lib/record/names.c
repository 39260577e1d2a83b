#include "record/names.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, finished so that the low bits depend on all others. */
static uint64_t hash(const char *s, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 32;
}

static bool is_named(const struct sd_member *m, const char *name, size_t len)
{
    return m->name_len == len && !memcmp(m->name, name, len);
}

int sd_names_build(struct sd_names *n, const struct sd_record *record, struct sd_err *err)
{
    size_t size = 16;
    while (size < 2 * record->count)
        size *= 2;
    *n = (struct sd_names){.record = record, .mask = size - 1};
    if (record->count >= UINT32_MAX || !(n->slots = calloc(size, sizeof *n->slots)))
        return sd_err_memory(err, size * sizeof *n->slots);
    for (size_t i = 0; i < record->count; i++) {
        const struct sd_member *m = &record->members[i];
        size_t at = hash(m->name, m->name_len) & n->mask;
        while (n->slots[at] && !is_named(&record->members[n->slots[at] - 1], m->name, m->name_len))
            at = (at + 1) & n->mask;
        n->slots[at] = (uint32_t)i + 1; /* of equal names the last counts */
    }
    return 0;
}

size_t sd_names_find(const struct sd_names *n, const char *name, size_t len)
{
    size_t at = hash(name, len) & n->mask;
    for (; n->slots[at]; at = (at + 1) & n->mask)
        if (is_named(&n->record->members[n->slots[at] - 1], name, len))
            return n->slots[at] - 1;
    return SD_NAMES_NONE;
}

void sd_names_free(struct sd_names *n)
{
    free(n->slots);
    *n = (struct sd_names){0};
}
