#include "data/join.h"

#include "text/strmap.h"

#include <string.h>

static bool listed(const struct sd_strings *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->v[i], name))
            return true;
    return false;
}

enum sd_join_way sd_join_way(const struct sd_join_rules *rules, const char *name)
{
    if (listed(&rules->first, name))
        return SD_JOIN_FIRST;
    if (listed(&rules->last, name))
        return SD_JOIN_LAST;
    return listed(&rules->both, name) ? SD_JOIN_BOTH : rules->way;
}

/* The member that keeps the text another one was parted from, or NULL. */
static const char *kept_text(const char *name)
{
    if (!strcmp(name, "caption"))
        return "metadata_caption";
    return strcmp(name, "tags") ? NULL : "metadata_tags";
}

/* Leaves in v[0..n-1] each text once, and no empty one where there are others. -1 when memory is out. */
static int once(struct sd_strings *all)
{
    struct sd_strmap seen = {0};
    size_t n = 0, old;
    int bad = 0;
    for (size_t i = 0; i < all->n && !bad; i++) {
        if (!*all->v[i])
            continue;
        bad = sd_strmap_put(&seen, sd_str_of(all->v[i]), i, &old);
        if (old == SD_STRMAP_NONE)
            all->v[n++] = all->v[i];
    }
    all->n = n ? n : all->n && !*all->v[0];
    sd_strmap_free(&seen);
    return bad;
}

static int unite(struct sd_record *r, struct sd_record *from, const char *name, struct sd_err *err)
{
    struct sd_strings all = {0};
    bool list = *sd_record_find(r, name)->value == '[' || *sd_record_find(from, name)->value == '[';
    int bad = 0;
    if (sd_record_strings(r, name, &all, err) < 0 || sd_record_strings(from, name, &all, err) < 0)
        bad = sd_err_prefix(err, "cannot join");
    else if (once(&all) || (list || all.n > 1 ? sd_record_set_strings(r, name, all.v, all.n)
                                              : sd_record_set_string(r, name, all.v[0])))
        bad = sd_err_memory(err, all.n);
    sd_strings_free(&all);
    return bad;
}

static int take(struct sd_record *r, const struct sd_record *from, const char *name, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(from, name);
    int bad = m ? sd_record_set_raw(r, name, m->value, m->value_len)
                : sd_record_find(r, name) && sd_record_remove(r, name);
    return bad ? sd_err_memory(err, 0) : 0;
}

static int join_member(struct sd_record *r, struct sd_record *from, const char *name,
                       const struct sd_join_rules *rules, struct sd_err *err)
{
    enum sd_join_way way = sd_record_find(r, name) ? sd_join_way(rules, name) : SD_JOIN_LAST;
    const char *kept = kept_text(name);
    if (way == SD_JOIN_FIRST)
        return 0;
    if (way == SD_JOIN_BOTH ? unite(r, from, name, err) : take(r, from, name, err))
        return -1;
    if (!kept)
        return 0;
    if (way == SD_JOIN_BOTH)
        return sd_record_find(r, kept) && sd_record_remove(r, kept) ? sd_err_memory(err, 0) : 0;
    return take(r, from, kept, err);
}

static bool is(const char *name, const char *other)
{
    return !strcmp(name, other);
}

int sd_join(struct sd_record *r, struct sd_record *from, const struct sd_join_rules *rules,
            struct sd_buf *scratch, struct sd_err *err)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct sd_member *m = &from->members[i];
        sd_buf_clear(scratch);
        if (sd_buf_add(scratch, m->name, m->name_len))
            return sd_err_memory(err, m->name_len);
        const char *name = scratch->data;
        if (memchr(name, 0, m->name_len))
            return sd_err_set(err, SD_ERR_DATA, "a NUL in the name of a member");
        /* of a name that is there twice the last counts, and null is absent */
        if (sd_record_find(from, name) != m || is(name, "path") || is(name, "metadata_caption") ||
            is(name, "metadata_tags"))
            continue;
        if (join_member(r, from, name, rules, err))
            return -1;
    }
    return 0;
}
