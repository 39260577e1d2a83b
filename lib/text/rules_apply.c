/* Using the user's rules. */
#include "text/rules_private.h"

#include <stdlib.h>
#include <string.h>

#include "text/clean.h"
#include "text/unicode.h"

/* Tags, views of text that somebody else owns. */
struct list {
    struct sd_str *v;
    size_t n, cap;
};

struct ranked {
    size_t rank, at;
    struct sd_str tag;
};

struct sd_rules_use {
    const struct sd_rules *r;
    struct rule_regex *regex; /* one for each of r->texts */
    struct sd_arena made;     /* tags that rules made */
    struct list list, next;   /* the tags; what a rule leaves of them */
    struct sd_strmap present; /* tags of the list, while rules ask */
    struct ranked *ranked;    /* for the order */
    size_t ranked_cap;
    struct sd_buf out;
};

struct sd_rules_use *sd_rules_use_new(const struct sd_rules *r, struct sd_err *err)
{
    struct sd_rules_use *u = calloc(1, sizeof *u);
    if (!u || !(u->regex = calloc(r->texts_n + 1, sizeof *u->regex))) {
        free(u);
        sd_err_memory(err, sizeof *u + r->texts_n * sizeof *u->regex);
        return NULL;
    }
    u->r = r;
    return u;
}

void sd_rules_use_free(struct sd_rules_use *u)
{
    if (!u)
        return;
    for (size_t i = 0; i < u->r->texts_n; i++)
        rule_regex_free(&u->regex[i]);
    free(u->regex);
    sd_arena_free(&u->made);
    free(u->list.v);
    free(u->next.v);
    sd_strmap_free(&u->present);
    free(u->ranked);
    sd_buf_free(&u->out);
    free(u);
}

static int push(struct list *l, struct sd_str tag)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct sd_str *v = cap > SIZE_MAX / sizeof *v ? NULL : realloc(l->v, cap * sizeof *v);
        if (!v)
            return -1;
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = tag;
    return 0;
}

static int same(struct sd_str a, struct sd_str b)
{
    return a.len == b.len && !memcmp(a.data, b.data, a.len);
}

static struct sd_str view(const struct sd_buf *b)
{
    return (struct sd_str){.data = b->data ? b->data : "", .len = b->len};
}

static const struct sd_str gone = {0};

/* ---- replace and regex on tags ---- */

/* What the rule makes of one tag: 1 with *to, 0 when it stays, -1. */
static int change_tag(struct sd_rules_use *u, size_t i, struct sd_clean_notes *notes, struct sd_str tag,
                      struct sd_str *to, struct sd_err *err)
{
    const struct rule_text *rule = &u->r->texts[i];
    if (!rule->regex) {
        if (!same(tag, rule->from))
            return 0;
        *to = rule->to;
        return sd_clean_note(notes, rule->where, tag, to->len ? *to : gone) ? sd_err_memory(err, tag.len) : 1;
    }
    int rc = rule_regex_apply(u->r, rule, &u->regex[i], NULL, tag, &u->out, err);
    if (rc < 1 || same(view(&u->out), tag))
        return rc < 0 ? -1 : 0;
    char *made = sd_arena_strndup(&u->made, u->out.data, u->out.len);
    *to = (struct sd_str){.data = made, .len = u->out.len};
    if (!made || sd_clean_note(notes, rule->where, tag, to->len ? *to : gone))
        return sd_err_memory(err, tag.len);
    return 1;
}

/* Pushes the tags that are in text: none, one, or several with commas between them. */
static int push_tags(struct list *l, struct sd_str text)
{
    struct sd_str tag;
    while (sd_str_cut(&text, sd_str_of(","), &tag)) {
        tag = sd_str_strip(tag);
        if (tag.len && push(l, tag))
            return -1;
    }
    return 0;
}

static int apply_text_rule(struct sd_rules_use *u, size_t i, struct sd_clean_notes *notes, int *changed,
                           struct sd_err *err)
{
    struct list *l = &u->list;
    int any = 0;
    u->next.n = 0;
    for (size_t k = 0; k < l->n; k++) {
        struct sd_str to;
        int rc = change_tag(u, i, notes, l->v[k], &to, err);
        if (rc < 0)
            return -1;
        for (size_t j = 0; rc && !any && j < k; j++) /* the first change: what stood before it */
            if (push(&u->next, l->v[j]))
                return sd_err_memory(err, l->n);
        any |= rc;
        if (any && (rc ? push_tags(&u->next, to) : push(&u->next, l->v[k])))
            return sd_err_memory(err, l->n);
    }
    if (any) {
        struct list was = u->list;
        u->list = u->next;
        u->next = was;
        *changed = 1;
    }
    return 0;
}

/* ---- whole tags ---- */

static int mark_present(struct sd_rules_use *u)
{
    sd_strmap_clear(&u->present);
    for (size_t i = 0; i < u->list.n; i++)
        if (sd_strmap_put(&u->present, u->list.v[i], i, NULL))
            return -1;
    return 0;
}

/* An alias goes where its name is there already. */
static int apply_aliases(struct sd_rules_use *u, struct sd_clean_notes *notes, int *changed)
{
    const struct sd_rules *r = u->r;
    struct list *l = &u->list;
    size_t kept = 0;
    int any = 0;
    for (size_t i = 0; i < l->n && !any; i++)
        any = sd_strmap_get(&r->alias, l->v[i]) != SD_STRMAP_NONE;
    if (!any)
        return 0;
    *changed = 1;
    if (mark_present(u))
        return -1;
    for (size_t i = 0; i < l->n; i++) {
        size_t at = sd_strmap_get(&r->alias, l->v[i]), old = SD_STRMAP_NONE;
        if (at != SD_STRMAP_NONE) {
            const struct rule_alias *a = &r->aliases[at];
            if (sd_strmap_put(&u->present, a->to, i, &old) ||
                sd_clean_note(notes, a->where, l->v[i], old == SD_STRMAP_NONE ? a->to : gone))
                return -1;
            if (old == SD_STRMAP_NONE)
                l->v[i] = a->to;
        }
        if (old == SD_STRMAP_NONE)
            l->v[kept++] = l->v[i];
    }
    l->n = kept;
    return 0;
}

static int note_implied(struct sd_rules_use *u, struct sd_clean_notes *notes, const char *where,
                        struct sd_str from, struct sd_str implied)
{
    if (!notes)
        return 0;
    sd_buf_clear(&u->out);
    return sd_buf_add(&u->out, from.data, from.len) || sd_buf_adds(&u->out, ", ") ||
           sd_buf_add(&u->out, implied.data, implied.len) || sd_clean_note(notes, where, from, view(&u->out));
}

/* The list grows while it is walked, so that what is implied implies too. Each tag comes once. */
static int apply_implications(struct sd_rules_use *u, struct sd_clean_notes *notes, int *changed)
{
    const struct sd_rules *r = u->r;
    int marked = 0;
    for (size_t i = 0; i < u->list.n; i++) {
        size_t node = sd_strmap_get(&r->node, u->list.v[i]);
        if (node == SD_STRMAP_NONE)
            continue;
        if (!marked && mark_present(u))
            return -1;
        marked = 1;
        for (size_t e = r->nodes[node].first; e != SD_STRMAP_NONE; e = r->edges[e].next) {
            struct sd_str to = r->edges[e].to;
            if (sd_strmap_get(&u->present, to) != SD_STRMAP_NONE)
                continue;
            if (note_implied(u, notes, r->edges[e].where, u->list.v[i], to) ||
                sd_strmap_put(&u->present, to, u->list.n, NULL) || push(&u->list, to))
                return -1;
            *changed = 1;
        }
    }
    return 0;
}

static int apply_removals(struct sd_rules_use *u, struct sd_clean_notes *notes, int *changed)
{
    struct list *l = &u->list;
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++) {
        size_t at = sd_strmap_get(&u->r->removed, l->v[i]);
        if (at == SD_STRMAP_NONE)
            l->v[kept++] = l->v[i];
        else if (sd_clean_note(notes, u->r->removed_where[at], l->v[i], gone))
            return -1;
    }
    *changed |= kept < l->n;
    l->n = kept;
    return 0;
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static int join(const struct list *l, struct sd_buf *out)
{
    sd_buf_clear(out);
    if (sd_buf_reserve(out, 0))
        return -1;
    for (size_t i = 0; i < l->n; i++)
        if ((i && sd_buf_adds(out, ", ")) || sd_buf_add(out, l->v[i].data, l->v[i].len))
            return -1;
    return 0;
}

static int note_order(struct sd_rules_use *u, struct sd_clean_notes *notes)
{
    struct sd_buf before = SD_BUF_INIT;
    if (!notes)
        return 0;
    int rc = join(&u->list, &before);
    u->next.n = 0;
    for (size_t i = 0; i < u->list.n && !rc; i++)
        rc = push(&u->next, u->ranked[i].tag);
    rc = rc || join(&u->next, &u->out) ||
         sd_clean_note(notes, u->r->order_where, view(&before), view(&u->out));
    sd_buf_free(&before);
    return rc;
}

/* Tags of the order first; those it does not name behind, as they stood. */
static int apply_order(struct sd_rules_use *u, struct sd_clean_notes *notes, int *changed)
{
    struct list *l = &u->list;
    size_t moved = 0;
    if (l->n > u->ranked_cap) {
        struct ranked *v = l->cap > SIZE_MAX / sizeof *v ? NULL : realloc(u->ranked, l->cap * sizeof *v);
        if (!v)
            return -1;
        u->ranked = v;
        u->ranked_cap = l->cap;
    }
    for (size_t i = 0; i < l->n; i++) /* no rank is the largest one */
        u->ranked[i] = (struct ranked){sd_strmap_get(&u->r->rank, l->v[i]), i, l->v[i]};
    qsort(u->ranked, l->n, sizeof *u->ranked, by_rank);
    for (size_t i = 0; i < l->n; i++)
        moved += u->ranked[i].at != i;
    if (!moved)
        return 0;
    if (note_order(u, notes))
        return -1;
    for (size_t i = 0; i < l->n; i++)
        l->v[i] = u->ranked[i].tag;
    *changed = 1;
    return 0;
}

int sd_rules_tags(struct sd_rules_use *u, struct sd_clean_notes *notes, struct sd_buf *text,
                  struct sd_err *err)
{
    const struct sd_rules *r = u->r;
    struct sd_str rest = view(text), tag;
    int changed = 0;
    u->list.n = 0;
    sd_arena_reset(&u->made);
    if (text->len == 0)
        return 0;
    while (sd_str_cut(&rest, sd_str_of(", "), &tag))
        if (push(&u->list, tag))
            return sd_err_memory(err, text->len);
    for (size_t i = 0; i < r->texts_n; i++)
        if (r->texts[i].tags && apply_text_rule(u, i, notes, &changed, err))
            return -1;
    if ((r->alias.n && apply_aliases(u, notes, &changed)) ||
        (r->node.n && apply_implications(u, notes, &changed)) ||
        (r->removed.n && apply_removals(u, notes, &changed)) ||
        (r->rank.n && u->list.n && apply_order(u, notes, &changed)))
        return sd_err_memory(err, text->len);
    if (!changed)
        return 0;
    if (join(&u->list, &u->out))
        return sd_err_memory(err, text->len);
    if (u->out.len > SD_RULES_TEXT)
        return sd_err_set(err, SD_ERR_DATA, "tags of %zu bytes after the rules; at most %d are allowed",
                          u->out.len, SD_RULES_TEXT);
    sd_buf_clear(text);
    return sd_buf_add(text, u->out.data, u->out.len) ? sd_err_memory(err, u->out.len) : 0;
}

/* ---- captions ---- */

static bool is_word_at(struct sd_str s, size_t i)
{
    uint32_t cp;
    sd_unicode_next(s.data + i, s.len - i, &cp);
    return sd_unicode_is_word(cp);
}

static bool is_word_before(struct sd_str s, size_t i)
{
    size_t back = i - 1;
    while (back > 0 && i - back < 4 && (s.data[back] & 0xc0) == 0x80)
        back--;
    return is_word_at(s, back);
}

/* Whether word, found in s at `at`, is not a part of a longer one. */
static bool stands_alone(struct sd_str s, size_t at, struct sd_str word)
{
    size_t end = at + word.len;
    return !(at > 0 && is_word_at(word, 0) && is_word_before(s, at)) &&
           !(end < s.len && is_word_before(word, word.len) && is_word_at(s, end));
}

/* 1 with the new text in u->out, 0 when there is nothing to replace, -1 when memory is out. */
static int replace_words(struct sd_rules_use *u, const struct rule_text *rule, struct sd_str s)
{
    size_t done = 0, at = sd_str_find(s, rule->from, 0);
    if (at == SIZE_MAX)
        return 0;
    sd_buf_clear(&u->out);
    for (; at != SIZE_MAX; at = sd_str_find(s, rule->from, at)) {
        if (!stands_alone(s, at, rule->from)) {
            at++;
            continue;
        }
        if (sd_buf_add(&u->out, s.data + done, at - done) || sd_buf_add(&u->out, rule->to.data, rule->to.len))
            return -1;
        at += rule->from.len;
        done = at;
    }
    if (done == 0)
        return 0;
    return sd_buf_add(&u->out, s.data + done, s.len - done) ? -1 : 1;
}

int sd_rules_caption(struct sd_rules_use *u, struct sd_clean_notes *notes, struct sd_buf *text,
                     struct sd_err *err)
{
    for (size_t i = 0; i < u->r->texts_n; i++) {
        const struct rule_text *rule = &u->r->texts[i];
        int rc = 0;
        if (!rule->caption)
            continue;
        if (rule->regex) {
            rc = rule_regex_apply(u->r, rule, &u->regex[i], notes, view(text), &u->out, err);
        } else {
            rc = replace_words(u, rule, view(text));
            if (rc < 0 || (rc && sd_clean_note(notes, rule->where, rule->from, rule->to)))
                rc = sd_err_memory(err, text->len);
        }
        if (rc < 0)
            return -1;
        if (rc && u->out.len > SD_RULES_TEXT)
            return sd_err_set(err, SD_ERR_DATA,
                              "%s: the caption has grown to %zu bytes; at most %d are allowed", rule->where,
                              u->out.len, SD_RULES_TEXT);
        if (rc) { /* what was the text is room for the next */
            struct sd_buf was = *text;
            *text = u->out;
            u->out = was;
        }
    }
    return 0;
}
