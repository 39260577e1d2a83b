#include "store/meta.h"

#include <stdio.h>
#include <string.h>

#include "base/pyfloat.h"

static char *keep(struct sd_meta *m, const char *text)
{
    char *copy = sd_arena_strdup(&m->arena, text);
    m->failed |= !copy;
    return copy;
}

static bool room(struct sd_meta *m)
{
    if (m->n < m->cap)
        return true;
    size_t cap = m->cap ? 2 * m->cap : 64;
    struct sd_store_meta *more = sd_arena_array(&m->arena, cap, sizeof *more);
    if (!more) {
        m->failed = true;
        return false;
    }
    if (m->n)
        memcpy(more, m->v, m->n * sizeof *more);
    m->v = more;
    m->cap = cap;
    return true;
}

static void append(struct sd_meta *m, const char *key, const char *value)
{
    char *k = keep(m, key), *v = keep(m, value);
    if (k && v && room(m))
        m->v[m->n++] = (struct sd_store_meta){k, v};
}

void sd_meta_set(struct sd_meta *m, const char *key, const char *value)
{
    if (!value)
        return;
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->v[i].key, key)) {
            char *v = keep(m, value);
            m->v[i].value = v ? v : m->v[i].value;
            return;
        }
    append(m, key, value);
}

void sd_meta_set_float(struct sd_meta *m, const char *key, double v)
{
    char text[32];
    sd_python_float(v, text);
    sd_meta_set(m, key, text);
}

void sd_meta_set_int(struct sd_meta *m, const char *key, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    sd_meta_set(m, key, text);
}

void sd_meta_drop(struct sd_meta *m, const char *key)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->v[i].key, key))
            m->v[kept++] = m->v[i];
    m->n = kept;
}

void sd_meta_copy(struct sd_meta *m, const struct sd_tensor_file *tf)
{
    size_t n;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(tf, &n);
    for (size_t i = 0; i < n; i++) /* a header has each key once */
        append(m, meta[i].key, meta[i].value);
}

void sd_meta_free(struct sd_meta *m)
{
    sd_arena_free(&m->arena);
    *m = (struct sd_meta){0};
}
