#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)16384)

struct sd_arena_block {
    struct sd_arena_block *next;
    size_t used, cap;
    _Alignas(16) unsigned char data[];
};

void *sd_arena_alloc(struct sd_arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t need = (bytes + 15) & ~(size_t)15;
    struct sd_arena_block *b = a->head;
    if (!b || b->cap - b->used < need) {
        size_t cap = need > BLOCK_BYTES / 4 ? need : BLOCK_BYTES;
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
        b->used = 0;
        b->cap = cap;
        if (a->head && cap == need) { /* a large block goes behind, the head stays open for small ones */
            b->next = a->head->next;
            a->head->next = b;
        } else {
            b->next = a->head;
            a->head = b;
        }
    }
    void *p = b->data + b->used;
    b->used += need;
    return memset(p, 0, need);
}

void *sd_arena_array(struct sd_arena *a, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size)
        return NULL;
    return sd_arena_alloc(a, count * size);
}

char *sd_arena_strndup(struct sd_arena *a, const char *s, size_t len)
{
    char *p = len < SIZE_MAX ? sd_arena_alloc(a, len + 1) : NULL;
    if (p)
        memcpy(p, s, len);
    return p;
}

char *sd_arena_strdup(struct sd_arena *a, const char *s)
{
    return sd_arena_strndup(a, s, strlen(s));
}

char *sd_arena_printf(struct sd_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : sd_arena_alloc(a, (size_t)n + 1);
    if (!p)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return p;
}

void sd_arena_reset(struct sd_arena *a)
{
    struct sd_arena_block *keep = a->head;
    if (!keep)
        return;
    for (struct sd_arena_block *b = keep->next, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    keep->next = NULL;
    keep->used = 0;
}

void sd_arena_free(struct sd_arena *a)
{
    for (struct sd_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->head = NULL;
}
