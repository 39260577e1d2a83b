#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h" /* sd_utf8_valid */
#include "data/config_private.h"
#include "record/scan.h"
#include "text/strmap.h"
#include "text/toml.h" /* SD_TOML_DEPTH */

struct tree {
    struct sd_arena *arena;
    struct sd_scan scan; /* over text that is known to be a JSON value */
    const char *seen_at;
    struct sd_place seen;
    int depth;
    struct sd_err *err;
};

/* The place of p, which never goes back. */
static struct sd_place place_of(struct tree *t, const char *p)
{
    for (; t->seen_at < p; t->seen_at++) {
        if (*t->seen_at == '\n') {
            t->seen.line++;
            t->seen.column = 1;
        } else {
            t->seen.column += (*t->seen_at & 0xc0) != 0x80;
        }
    }
    return t->seen;
}

static int fail(struct tree *t, const char *p, const char *why)
{
    struct sd_place at = place_of(t, p);
    return sd_err_set(t->err, SD_ERR_USAGE, "line %u, column %u: %s", at.line, at.column, why);
}

static int read_string(struct tree *t, struct sd_str *s)
{
    const char *quote = t->scan.at;
    bool escaped;
    if (sd_scan_string(&t->scan, &escaped))
        return fail(t, t->scan.at, t->scan.why);
    size_t len = (size_t)(t->scan.at - quote) - 2;
    char *to = sd_arena_alloc(t->arena, len + 1);
    if (!to)
        return sd_err_memory(t->err, len);
    len = sd_scan_unescape(to, quote + 1, len);
    to[len] = 0;
    *s = (struct sd_str){to, len};
    return sd_utf8_valid(to, len) ? 0 : fail(t, quote, "half a surrogate pair in the string");
}

static int read_number(struct tree *t, struct sd_value *v)
{
    const char *from = t->scan.at;
    char text[64];
    if (sd_scan_value(&t->scan))
        return fail(t, t->scan.at, t->scan.why);
    size_t n = (size_t)(t->scan.at - from);
    if (n >= sizeof text)
        return fail(t, from, "a number of more than 63 characters");
    memcpy(text, from, n);
    text[n] = 0;
    v->type = strpbrk(text, ".eE") ? SD_VALUE_FLOAT : SD_VALUE_INT;
    errno = 0;
    if (v->type == SD_VALUE_INT)
        v->i = strtoll(text, NULL, 10);
    else
        v->f = strtod(text, NULL);
    return v->type == SD_VALUE_INT && errno ? fail(t, from, "a whole number that does not fit 64 bits") : 0;
}

static int read_value(struct tree *t, struct sd_value *v);

static int read_name(struct tree *t, struct sd_strmap *names, struct sd_value_item *item)
{
    size_t old;
    item->place = place_of(t, t->scan.at);
    if (read_string(t, &item->name))
        return -1;
    if (sd_strmap_put(names, item->name, 0, &old))
        return sd_err_memory(t->err, item->name.len);
    if (old != SD_STRMAP_NONE)
        return sd_err_set(t->err, SD_ERR_USAGE, "line %u, column %u: '%.60s' is there already",
                          item->place.line, item->place.column, item->name.data);
    return sd_scan_colon(&t->scan);
}

static int read_items(struct tree *t, struct sd_value *v, struct sd_strmap *names)
{
    char close = v->type == SD_VALUE_TABLE ? '}' : ']';
    t->scan.at++;
    sd_scan_space(&t->scan);
    while (*t->scan.at != close) {
        struct sd_value_item *item = sd_arena_alloc(t->arena, sizeof *item);
        if (!item)
            return sd_err_memory(t->err, sizeof *item);
        if (v->type == SD_VALUE_TABLE && read_name(t, names, item))
            return -1;
        if (read_value(t, &item->value))
            return -1;
        if (v->type == SD_VALUE_ARRAY)
            item->place = item->value.place;
        if (v->last)
            v->last->next = item;
        else
            v->first = item;
        v->last = item;
        v->n++;
        sd_scan_space(&t->scan);
        t->scan.at += *t->scan.at == ',';
        sd_scan_space(&t->scan);
    }
    t->scan.at++;
    return 0;
}

static int read_value(struct tree *t, struct sd_value *v)
{
    v->place = place_of(t, t->scan.at);
    switch (*t->scan.at) {
    case '"':
        v->type = SD_VALUE_STRING;
        return read_string(t, &v->s);
    case 't':
    case 'f':
        v->type = SD_VALUE_BOOL;
        v->b = *t->scan.at == 't';
        return sd_scan_value(&t->scan);
    case 'n':
        v->type = SD_VALUE_NULL;
        return sd_scan_value(&t->scan);
    case '{':
    case '[': {
        struct sd_strmap names = {0};
        v->type = *t->scan.at == '{' ? SD_VALUE_TABLE : SD_VALUE_ARRAY;
        if (t->depth == SD_TOML_DEPTH)
            return fail(t, t->scan.at, "nested deeper than 128");
        t->depth++;
        int bad = read_items(t, v, &names);
        t->depth--;
        sd_strmap_free(&names);
        return bad;
    }
    default:
        return read_number(t, v);
    }
}

int sd_config_json_tree(struct sd_arena *arena, const char *text, size_t len, struct sd_value *root,
                        struct sd_err *err)
{
    struct tree t = {
        .arena = arena, .scan = {.at = text, .end = text + len}, .seen_at = text, .seen = {1, 1}, .err = err};
    const char *start;
    *root = (struct sd_value){0};
    sd_scan_space(&t.scan);
    start = t.scan.at;
    if (sd_scan_value(&t.scan))
        return fail(&t, t.scan.at, t.scan.why);
    sd_scan_space(&t.scan);
    if (t.scan.at < t.scan.end)
        return fail(&t, t.scan.at, "more text after the value");
    t.scan.at = start;
    return read_value(&t, root);
}
