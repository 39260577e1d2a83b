#include "record/names.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

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
        size_t at = sd_fnv1a_low(m->name, m->name_len) & n->mask;
        while (n->slots[at] && !is_named(&record->members[n->slots[at] - 1], m->name, m->name_len))
            at = (at + 1) & n->mask;
        n->slots[at] = (uint32_t)i + 1; /* of equal names the last counts */
    }
    return 0;
}

size_t sd_names_find(const struct sd_names *n, const char *name, size_t len)
{
    size_t at = sd_fnv1a_low(name, len) & n->mask;
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
