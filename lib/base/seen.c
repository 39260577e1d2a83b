#include "base/seen.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

/* The slot of the hash: its own, or the free one it goes to. A hash of zeros does not occur (2^-128). */
static size_t place(uint64_t (*slots)[2], size_t cap, const uint64_t hash[2])
{
    size_t at = (size_t)hash[0] & (cap - 1);
    while ((slots[at][0] || slots[at][1]) && (slots[at][0] != hash[0] || slots[at][1] != hash[1]))
        at = (at + 1) & (cap - 1);
    return at;
}

static int grow(struct sd_seen *s, struct sd_err *err)
{
    size_t cap = s->cap ? 2 * s->cap : 1024;
    uint64_t(*slots)[2] = calloc(cap, sizeof *slots);
    if (!slots)
        return sd_err_memory(err, cap * sizeof *slots);
    for (size_t i = 0; i < s->cap; i++)
        if (s->slots[i][0] || s->slots[i][1])
            memcpy(slots[place(slots, cap, s->slots[i])], s->slots[i], sizeof *slots);
    free(s->slots);
    s->slots = slots;
    s->cap = cap;
    return 0;
}

int sd_seen_add(struct sd_seen *s, const void *bytes, size_t len, struct sd_err *err)
{
    char hex[65], half[17] = "";
    uint64_t hash[2];
    if (s->count >= s->cap / 4 * 3 && grow(s, err))
        return -1;
    if (sd_sha256(bytes, len, hex, err))
        return -1;
    for (int i = 0; i < 2; i++) {
        memcpy(half, hex + 16 * i, 16);
        hash[i] = strtoull(half, NULL, 16);
    }
    size_t at = place(s->slots, s->cap, hash);
    if (s->slots[at][0] || s->slots[at][1])
        return 1;
    memcpy(s->slots[at], hash, sizeof hash);
    s->count++;
    return 0;
}

void sd_seen_free(struct sd_seen *s)
{
    free(s->slots);
    *s = (struct sd_seen){0};
}
