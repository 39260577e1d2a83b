/* Reading the user's rules. */
#include "text/rules_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h" /* sd_utf8_valid */
#include "base/nearest.h"

/* A line while it is read. */
struct line {
    struct sd_rules *r;
    const char *where;  /* "file:line" */
    const char *syntax; /* of its kind */
    struct sd_str rest; /* behind the kind */
    bool tags, caption;
};

typedef int read_kind(struct line *l, struct sd_err *err);
static read_kind read_replace, read_regex, read_remove, read_alias, read_imply, read_order;

static const struct kind {
    const char *name, *syntax;
    read_kind *read;
} kinds[] = {
    {"replace", "replace FROM -> TO", read_replace},   {"regex", "regex PATTERN -> TEXT", read_regex},
    {"remove", "remove TAG, TAG...", read_remove},     {"alias", "alias TAG -> TAG", read_alias},
    {"imply", "imply TAG -> TAG, TAG...", read_imply}, {"order", "order TAG, TAG...", read_order},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

struct sd_rules *sd_rules_new(struct sd_err *err)
{
    struct sd_rules *r = calloc(1, sizeof *r);
    if (!r)
        sd_err_memory(err, sizeof *r);
    return r;
}

void sd_rules_free(struct sd_rules *r)
{
    if (!r)
        return;
    sd_strmap_free(&r->alias);
    sd_strmap_free(&r->node);
    sd_strmap_free(&r->removed);
    sd_strmap_free(&r->rank);
    free(r->texts);
    free(r->aliases);
    free(r->nodes);
    free(r->edges);
    free(r->removed_where);
    if (r->utf8)
        freelocale(r->utf8);
    sd_arena_free(&r->arena);
    free(r);
}

/* Makes room for one more in an array of n; array is the address of the pointer to it. */
static int grow(void *array, size_t n, size_t *cap, size_t size, struct sd_err *err)
{
    if (n < *cap)
        return 0;
    size_t more = *cap ? 2 * *cap : 16;
    void *v;
    memcpy(&v, array, sizeof v);
    v = more > SIZE_MAX / size ? NULL : realloc(v, more * size);
    if (!v)
        return sd_err_memory(err, n * size);
    memcpy(array, &v, sizeof v);
    *cap = more;
    return 0;
}

static int copy(struct sd_rules *r, struct sd_str s, struct sd_str *out, struct sd_err *err)
{
    char *text = sd_arena_strndup(&r->arena, s.data, s.len);
    *out = (struct sd_str){.data = text, .len = s.len};
    return text ? 0 : sd_err_memory(err, s.len);
}

static int expected(const struct line *l, const char *what, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_USAGE, "%s: %s; expected: %s", l->where, what, l->syntax);
}

/* "A -> B" in two; B may be empty where the kind allows it. */
static int split_arrow(const struct line *l, struct sd_str *from, struct sd_str *to, struct sd_err *err)
{
    struct sd_str s = l->rest, arrow = sd_str_of(" -> ");
    size_t at = sd_str_find(s, arrow, 0);
    if (at == SIZE_MAX) {
        if (!sd_str_ends(s, sd_str_of(" ->")))
            return expected(l, "no ' -> '", err);
        *from = sd_str_strip((struct sd_str){s.data, s.len - 3});
        *to = (struct sd_str){.data = ""};
    } else {
        *from = sd_str_strip((struct sd_str){s.data, at});
        *to = sd_str_strip((struct sd_str){s.data + at + arrow.len, s.len - at - arrow.len});
    }
    return from->len ? 0 : expected(l, "nothing before ' -> '", err);
}

/* The next tag of a list. 1, 0 at its end, -1 for an empty one. */
static int next_tag(const struct line *l, struct sd_str *rest, struct sd_str *tag, struct sd_err *err)
{
    if (!sd_str_cut(rest, sd_str_of(","), tag))
        return 0;
    *tag = sd_str_strip(*tag);
    return tag->len ? 1 : expected(l, "an empty tag", err);
}

static int read_text(struct line *l, bool regex, struct sd_err *err)
{
    struct sd_rules *r = l->r;
    struct rule_text rule = {.where = l->where, .regex = regex, .tags = l->tags, .caption = l->caption};
    if (split_arrow(l, &rule.from, &rule.to, err))
        return -1;
    if (regex && rule_regex_check(r, rule.from, rule.to, err))
        return sd_err_prefix(err, "%s", l->where);
    if (copy(r, rule.from, &rule.from, err) || copy(r, rule.to, &rule.to, err) ||
        grow(&r->texts, r->texts_n, &r->texts_cap, sizeof *r->texts, err))
        return -1;
    r->texts[r->texts_n++] = rule;
    return 0;
}

static int read_replace(struct line *l, struct sd_err *err)
{
    return read_text(l, false, err);
}

static int read_regex(struct line *l, struct sd_err *err)
{
    return read_text(l, true, err);
}

static int read_remove(struct line *l, struct sd_err *err)
{
    struct sd_rules *r = l->r;
    struct sd_str rest = l->rest, tag;
    int got;
    while ((got = next_tag(l, &rest, &tag, err)) == 1) {
        if (sd_strmap_get(&r->removed, tag) != SD_STRMAP_NONE)
            continue;
        if (copy(r, tag, &tag, err) ||
            grow(&r->removed_where, r->removed_n, &r->removed_cap, sizeof *r->removed_where, err))
            return -1;
        if (sd_strmap_put(&r->removed, tag, r->removed_n, NULL))
            return sd_err_memory(err, tag.len);
        r->removed_where[r->removed_n++] = l->where;
    }
    return got;
}

static int is_one_tag(struct sd_str s)
{
    return s.len > 0 && !memchr(s.data, ',', s.len);
}

static int read_alias(struct line *l, struct sd_err *err)
{
    struct sd_rules *r = l->r;
    struct rule_alias a = {.where = l->where};
    if (split_arrow(l, &a.from, &a.to, err))
        return -1;
    if (!is_one_tag(a.from) || !is_one_tag(a.to))
        return expected(l, "not one tag on each side", err);
    size_t old = sd_strmap_get(&r->alias, a.from);
    if (old != SD_STRMAP_NONE)
        return sd_err_set(err, SD_ERR_USAGE, "%s: %s has made an alias of this tag already", l->where,
                          r->aliases[old].where);
    if (copy(r, a.from, &a.from, err) || copy(r, a.to, &a.to, err) ||
        grow(&r->aliases, r->aliases_n, &r->aliases_cap, sizeof *r->aliases, err))
        return -1;
    if (sd_strmap_put(&r->alias, a.from, r->aliases_n, NULL))
        return sd_err_memory(err, a.from.len);
    r->aliases[r->aliases_n++] = a;
    return 0;
}

/* The tag's node, made where there is none: SD_STRMAP_NONE when memory is out. */
static size_t node_of(struct sd_rules *r, struct sd_str tag, struct sd_err *err)
{
    size_t at = sd_strmap_get(&r->node, tag);
    if (at != SD_STRMAP_NONE)
        return at;
    struct rule_node node = {.tag = tag, .first = SD_STRMAP_NONE};
    if (grow(&r->nodes, r->nodes_n, &r->nodes_cap, sizeof *r->nodes, err))
        return SD_STRMAP_NONE;
    if (sd_strmap_put(&r->node, tag, r->nodes_n, NULL)) {
        sd_err_memory(err, tag.len);
        return SD_STRMAP_NONE;
    }
    r->nodes[r->nodes_n] = node;
    return r->nodes_n++;
}

/* Edges hang on their nodes in the order of the lines. */
static int add_edge(struct sd_rules *r, size_t node, const char *where, struct sd_str to, struct sd_err *err)
{
    if (grow(&r->edges, r->edges_n, &r->edges_cap, sizeof *r->edges, err))
        return -1;
    r->edges[r->edges_n] = (struct rule_edge){.where = where, .to = to, .next = SD_STRMAP_NONE};
    struct rule_node *n = &r->nodes[node];
    if (n->first == SD_STRMAP_NONE)
        n->first = r->edges_n;
    else
        r->edges[n->cursor].next = r->edges_n;
    n->cursor = r->edges_n++; /* while reading, the last edge */
    return 0;
}

static int read_imply(struct line *l, struct sd_err *err)
{
    struct sd_rules *r = l->r;
    struct sd_str from, rest, tag;
    int got;
    if (split_arrow(l, &from, &rest, err))
        return -1;
    if (!is_one_tag(from))
        return expected(l, "more than one tag before ' -> '", err);
    if (copy(r, from, &from, err))
        return -1;
    size_t node = node_of(r, from, err);
    if (node == SD_STRMAP_NONE)
        return -1;
    while ((got = next_tag(l, &rest, &tag, err)) == 1)
        if (copy(r, tag, &tag, err) || add_edge(r, node, l->where, tag, err))
            return -1;
    return got;
}

static int read_order(struct line *l, struct sd_err *err)
{
    struct sd_rules *r = l->r;
    struct sd_str rest = l->rest, tag;
    int got;
    if (!r->order_where)
        r->order_where = l->where;
    while ((got = next_tag(l, &rest, &tag, err)) == 1) {
        if (sd_strmap_get(&r->rank, tag) != SD_STRMAP_NONE)
            return expected(l, "a tag that the order has already", err);
        if (copy(r, tag, &tag, err))
            return -1;
        if (sd_strmap_put(&r->rank, tag, r->rank.n, NULL))
            return sd_err_memory(err, tag.len);
    }
    return got;
}

/* ---- lines and files ---- */

/* Takes the first word off s. */
static struct sd_str cut_word(struct sd_str *s)
{
    size_t n = 0;
    while (n < s->len && s->data[n] != ' ' && s->data[n] != '\t')
        n++;
    struct sd_str word = {.data = s->data, .len = n};
    *s = sd_str_strip((struct sd_str){s->data + n, s->len - n});
    return word;
}

static int is_word(struct sd_str word, const char *name)
{
    return word.len == strlen(name) && !memcmp(word.data, name, word.len);
}

static int unknown_kind(const char *where, struct sd_str word, struct sd_err *err)
{
    const char *names[KINDS + 1] = {0};
    for (size_t i = 0; i < KINDS; i++)
        names[i] = kinds[i].name;
    const char *near = sd_nearest_name(word.data, word.len, names);
    return sd_err_set(
        err, SD_ERR_USAGE,
        "%s: '%.*s' is no kind of rule%s%s; expected: replace, regex, remove, alias, imply or order", where,
        (int)(word.len < 60 ? word.len : 60), word.data, near ? ", did you mean " : "", near ? near : "");
}

static int read_line(struct sd_rules *r, const char *name, size_t number, struct sd_str s, struct sd_err *err)
{
    struct line l = {.r = r, .tags = true, .caption = true};
    if (!(l.where = sd_arena_printf(&r->arena, "%s:%zu", name, number)))
        return sd_err_memory(err, strlen(name));
    struct sd_str word = cut_word(&s);
    bool held = is_word(word, "tags") || is_word(word, "caption");
    if (held) {
        l.tags = is_word(word, "tags");
        l.caption = !l.tags;
        word = cut_word(&s);
    }
    for (size_t i = 0; i < KINDS; i++) {
        if (!is_word(word, kinds[i].name))
            continue;
        l.syntax = kinds[i].syntax;
        l.rest = s;
        if (held && i > 1)
            return expected(&l, "only replace and regex can be held to tags or caption", err);
        if (s.len == 0)
            return expected(&l, "nothing behind the kind", err);
        return kinds[i].read(&l, err);
    }
    return unknown_kind(l.where, word, err);
}

int sd_rules_parse(struct sd_rules *r, const char *name, const char *text, size_t len, struct sd_err *err)
{
    struct sd_str rest = {.data = text ? text : "", .len = len}, s;
    if (sd_str_starts(rest, sd_str_of("\xef\xbb\xbf"))) {
        rest.data += 3;
        rest.len -= 3;
    }
    for (size_t number = 1; sd_str_cut(&rest, sd_str_of("\n"), &s); number++) {
        if ((s.len && memchr(s.data, 0, s.len)) || !sd_utf8_valid(s.data, s.len))
            return sd_err_set(err, SD_ERR_USAGE, "%s:%zu: not UTF-8 text", name, number);
        s = sd_str_strip(s);
        if (s.len && *s.data != '#' && read_line(r, name, number, s, err))
            return -1;
    }
    return 0;
}

int sd_rules_read(struct sd_rules *r, const char *path, struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    int rc = sd_file_read(path, SD_RULES_BYTES, &text, err);
    if (rc && err && err->code == SD_ERR_DATA)
        err->code = SD_ERR_USAGE;
    if (!rc)
        rc = sd_rules_parse(r, path, text.data, text.len, err);
    sd_buf_free(&text);
    return rc;
}

/* ---- resolving ---- */

static int circle(const char *where, const char *what, struct sd_str tag, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_USAGE, "%s: %s '%.*s' lead back to it; expected no circle", where, what,
                      (int)(tag.len < 100 ? tag.len : 100), tag.data);
}

/* Every alias to the end of its chain. A walk stops at what an earlier one has resolved. */
static int resolve_aliases(struct sd_rules *r, struct sd_err *err)
{
    for (size_t i = 0; i < r->aliases_n; i++) {
        size_t at = i, next;
        struct sd_str end = r->aliases[i].to;
        while (at != SD_STRMAP_NONE && !r->aliases[at].walk) {
            r->aliases[at].walk = i + 1;
            end = r->aliases[at].to;
            at = sd_strmap_get(&r->alias, end);
        }
        if (at != SD_STRMAP_NONE && r->aliases[at].walk == i + 1)
            return circle(r->aliases[at].where, "aliases of", r->aliases[at].from, err);
        if (at != SD_STRMAP_NONE)
            end = r->aliases[at].to;
        for (at = i; at != SD_STRMAP_NONE && r->aliases[at].walk == i + 1; at = next) {
            next = sd_strmap_get(&r->alias, r->aliases[at].to);
            r->aliases[at].to = end;
        }
    }
    return 0;
}

static struct sd_str final_name(const struct sd_rules *r, struct sd_str tag)
{
    size_t at = sd_strmap_get(&r->alias, tag);
    return at == SD_STRMAP_NONE ? tag : r->aliases[at].to;
}

/* Implications are between the names that aliases lead to: an alias before the arrow hands its own over. */
static int rename_nodes(struct sd_rules *r, struct sd_err *err)
{
    for (size_t i = 0; i < r->edges_n; i++)
        r->edges[i].to = final_name(r, r->edges[i].to);
    for (size_t i = 0, n = r->nodes_n; i < n; i++) {
        struct sd_str tag = final_name(r, r->nodes[i].tag);
        if (tag.data == r->nodes[i].tag.data)
            continue;
        size_t to = node_of(r, tag, err);
        if (to == SD_STRMAP_NONE)
            return -1;
        for (size_t e = r->nodes[i].first; e != SD_STRMAP_NONE; e = r->edges[e].next)
            if (add_edge(r, to, r->edges[e].where, r->edges[e].to, err))
                return -1;
        r->nodes[i].first = SD_STRMAP_NONE;
    }
    return 0;
}

/* Depth first, with the way kept in `way`. */
static int find_circle(struct sd_rules *r, size_t *way, size_t start, struct sd_err *err)
{
    size_t depth = 0;
    way[depth++] = start;
    r->nodes[start].state = NODE_OPEN;
    while (depth > 0) {
        struct rule_node *n = &r->nodes[way[depth - 1]];
        if (n->cursor == SD_STRMAP_NONE) {
            n->state = NODE_DONE;
            depth--;
            continue;
        }
        const struct rule_edge *e = &r->edges[n->cursor];
        n->cursor = e->next;
        size_t to = sd_strmap_get(&r->node, e->to);
        if (to == SD_STRMAP_NONE || r->nodes[to].state == NODE_DONE)
            continue;
        if (r->nodes[to].state == NODE_OPEN)
            return circle(e->where, "implications of", e->to, err);
        r->nodes[to].state = NODE_OPEN;
        way[depth++] = to;
    }
    return 0;
}

int sd_rules_finish(struct sd_rules *r, struct sd_err *err)
{
    if (resolve_aliases(r, err) || rename_nodes(r, err))
        return -1;
    size_t *way = calloc(r->nodes_n + 1, sizeof *way);
    if (!way)
        return sd_err_memory(err, r->nodes_n * sizeof *way);
    int rc = 0;
    for (size_t i = 0; i < r->nodes_n; i++) {
        r->nodes[i].cursor = r->nodes[i].first;
        r->nodes[i].state = NODE_NEW;
    }
    for (size_t i = 0; i < r->nodes_n && !rc; i++)
        if (r->nodes[i].state == NODE_NEW)
            rc = find_circle(r, way, i, err);
    free(way);
    return rc;
}
