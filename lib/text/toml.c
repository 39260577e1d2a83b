#include "text/toml_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h" /* sd_utf8_valid */

/* ---- places ---- */

struct sd_place sd_toml_place(struct sd_toml *t)
{
    if (t->seen.line != t->line) { /* sd_toml_newline has set seen_at to the line's start */
        t->seen.line = t->line;
        t->seen.column = 1;
    }
    for (; t->seen_at < t->at; t->seen_at++)
        t->seen.column += (*t->seen_at & 0xc0) != 0x80;
    return t->seen;
}

static int fail_va(struct sd_toml *t, struct sd_place place, const char *fmt, va_list ap)
{
    char text[300];
    vsnprintf(text, sizeof text, fmt, ap);
    return sd_err_set(t->err, SD_ERR_USAGE, "line %u, column %u: %s", place.line, place.column, text);
}

int sd_toml_fail_at(struct sd_toml *t, struct sd_place place, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_va(t, place, fmt, ap);
    va_end(ap);
    return -1;
}

int sd_toml_fail(struct sd_toml *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_va(t, sd_toml_place(t), fmt, ap);
    va_end(ap);
    return -1;
}

/* ---- blanks ---- */

void sd_toml_skip_blanks(struct sd_toml *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t'))
        t->at++;
}

bool sd_toml_newline(struct sd_toml *t)
{
    size_t left = (size_t)(t->end - t->at);
    size_t n = left && *t->at == '\n' ? 1 : left > 1 && t->at[0] == '\r' && t->at[1] == '\n' ? 2 : 0;
    if (!n)
        return false;
    t->at += n;
    t->line++;
    t->seen_at = t->at;
    return true;
}

int sd_toml_skip_comment(struct sd_toml *t)
{
    if (t->at >= t->end || *t->at != '#')
        return 0;
    for (; t->at < t->end && *t->at != '\n'; t->at++) {
        unsigned char c = (unsigned char)*t->at;
        if (c == '\r' && t->end - t->at > 1 && t->at[1] == '\n')
            break;
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return sd_toml_fail(t, "a control character in a comment");
    }
    return 0;
}

int sd_toml_skip_lines(struct sd_toml *t)
{
    do {
        sd_toml_skip_blanks(t);
        if (sd_toml_skip_comment(t))
            return -1;
    } while (sd_toml_newline(t));
    return 0;
}

/* ---- the tree ---- */

void sd_toml_new_table(struct sd_toml *t, struct sd_value *v, enum sd_toml_state state)
{
    v->type = SD_VALUE_TABLE;
    v->state = (unsigned char)state;
    v->id = t->tables++;
    v->section = t->section;
}

/* What the map finds a name of a table by, in the scratch buffer. */
static int make_key(struct sd_toml *t, const struct sd_value *table, struct sd_str name, struct sd_str *key)
{
    sd_buf_clear(&t->scratch);
    if (sd_buf_add(&t->scratch, &table->id, sizeof table->id) || sd_buf_add(&t->scratch, name.data, name.len))
        return sd_err_memory(t->err, name.len);
    *key = (struct sd_str){t->scratch.data, t->scratch.len};
    return 0;
}

/* The table's item of this name, NULL in *item where there is none. */
static int find(struct sd_toml *t, const struct sd_value *table, struct sd_str name,
                struct sd_value_item **item)
{
    struct sd_str key = {0};
    if (make_key(t, table, name, &key))
        return -1;
    size_t i = sd_strmap_get(&t->items, key);
    *item = i == SD_STRMAP_NONE ? NULL : t->all[i];
    return 0;
}

static int grow(struct sd_toml *t)
{
    size_t cap = t->cap_all ? 2 * t->cap_all : 64;
    struct sd_value_item **all =
        t->n_all < t->cap_all ? t->all : realloc(t->all, cap * sizeof(struct sd_value_item *));
    if (!all)
        return -1;
    t->cap_all = t->n_all < t->cap_all ? t->cap_all : cap;
    t->all = all;
    return 0;
}

struct sd_value_item *sd_toml_append(struct sd_toml *t, struct sd_value *parent, const struct sd_str *name)
{
    struct sd_value_item *item = sd_arena_alloc(t->arena, sizeof *item);
    struct sd_str key = {0};
    if (!item)
        goto memory;
    if (name) {
        if (make_key(t, parent, *name, &key))
            return NULL;
        char *copy = sd_arena_strndup(t->arena, key.data, key.len);
        if (!copy || grow(t) || sd_strmap_put(&t->items, (struct sd_str){copy, key.len}, t->n_all, NULL))
            goto memory;
        t->all[t->n_all++] = item;
        item->name = (struct sd_str){copy + sizeof parent->id, name->len};
    }
    if (parent->last)
        parent->last->next = item;
    else
        parent->first = item;
    parent->last = item;
    parent->n++;
    return item;
memory:
    sd_err_memory(t->err, sizeof *item);
    return NULL;
}

/* ---- names ---- */

static bool is_bare(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/* One part of a name; it lives in the text or in the arena. */
static int read_part(struct sd_toml *t, struct sd_str *part)
{
    if (t->at < t->end && (*t->at == '"' || *t->at == '\''))
        return sd_toml_string(t, false, part);
    const char *from = t->at;
    while (t->at < t->end && is_bare(*t->at))
        t->at++;
    *part = (struct sd_str){from, (size_t)(t->at - from)};
    return part->len ? 0 : sd_toml_fail(t, "a name is expected");
}

static bool is_at(const struct sd_toml *t, char c)
{
    return t->at < t->end && *t->at == c;
}

/* Takes a '.' and the blanks around it; false where there is none. */
static bool take_dot(struct sd_toml *t)
{
    sd_toml_skip_blanks(t);
    if (!is_at(t, '.'))
        return false;
    t->at++;
    sd_toml_skip_blanks(t);
    return true;
}

static int no_such_step(struct sd_toml *t, struct sd_place place, struct sd_str name,
                        const struct sd_value_item *there)
{
    return sd_toml_fail_at(t, place, "'%.*s' cannot be added to: it was set in line %u",
                           (int)(name.len < 60 ? name.len : 60), name.data, there->place.line);
}

static int twice(struct sd_toml *t, struct sd_place place, struct sd_str name,
                 const struct sd_value_item *there)
{
    return sd_toml_fail_at(t, place, "'%.*s' is there already, from line %u",
                           (int)(name.len < 60 ? name.len : 60), name.data, there->place.line);
}

/* May a name go on through this value: header of a table, or dotted name of a pair? */
static bool can_enter(const struct sd_toml *t, const struct sd_value *v, bool header)
{
    if (header)
        return v->state == SD_TOML_TABLES || (v->type == SD_VALUE_TABLE && v->state != SD_TOML_CLOSED);
    return v->type == SD_VALUE_TABLE &&
           (v->state == SD_TOML_IMPLICIT || (v->state == SD_TOML_DOTTED && v->section == t->section));
}

/* From *table into its table of this name, which is made where there is none. */
static int enter(struct sd_toml *t, struct sd_value **table, struct sd_str name, struct sd_place place,
                 bool header)
{
    struct sd_value_item *item;
    if (find(t, *table, name, &item))
        return -1;
    if (item && !can_enter(t, &item->value, header))
        return no_such_step(t, place, name, item);
    if (!item) {
        if (!(item = sd_toml_append(t, *table, &name)))
            return -1;
        item->place = item->value.place = place;
        sd_toml_new_table(t, &item->value, SD_TOML_IMPLICIT);
    }
    *table = item->value.type == SD_VALUE_ARRAY ? &item->value.last->value : &item->value;
    if (!header) {
        (*table)->state = SD_TOML_DOTTED;
        (*table)->section = t->section;
    }
    return 0;
}

/* Walks a dotted name from *table on: *table is then where its last part, *name, belongs. *depth counts up.
 */
static int walk(struct sd_toml *t, struct sd_value **table, bool header, struct sd_str *name,
                struct sd_place *place, int *depth)
{
    for (;; ++*depth) {
        *place = sd_toml_place(t);
        if (read_part(t, name))
            return -1;
        if (t->depth + *depth >= SD_TOML_DEPTH)
            return sd_toml_fail_at(t, *place, "nested deeper than %d", SD_TOML_DEPTH);
        if (!take_dot(t))
            return 0;
        if (enter(t, table, *name, *place, header))
            return -1;
    }
}

int sd_toml_pair(struct sd_toml *t, struct sd_value *table)
{
    struct sd_str name;
    struct sd_place place;
    struct sd_value_item *item;
    int depth = 1;
    if (walk(t, &table, false, &name, &place, &depth))
        return -1;
    if (!is_at(t, '='))
        return sd_toml_fail(t, "'=' is expected behind a name");
    t->at++;
    sd_toml_skip_blanks(t);
    if (find(t, table, name, &item))
        return -1;
    if (item)
        return twice(t, place, name, item);
    if (!(item = sd_toml_append(t, table, &name)))
        return -1;
    item->place = place;
    t->depth += depth;
    int bad = sd_toml_value(t, &item->value);
    t->depth -= depth;
    return bad;
}

/* ---- headers ---- */

static int open_table(struct sd_toml *t, struct sd_value *in, struct sd_str name, struct sd_place place,
                      struct sd_value **table)
{
    struct sd_value_item *item;
    if (find(t, in, name, &item))
        return -1;
    if (item && (item->value.type != SD_VALUE_TABLE || item->value.state != SD_TOML_IMPLICIT))
        return twice(t, place, name, item);
    if (!item) {
        if (!(item = sd_toml_append(t, in, &name)))
            return -1;
        sd_toml_new_table(t, &item->value, SD_TOML_HEADER);
    }
    item->value.state = SD_TOML_HEADER;
    item->place = item->value.place = place;
    *table = &item->value;
    return 0;
}

static int add_table(struct sd_toml *t, struct sd_value *in, struct sd_str name, struct sd_place place,
                     struct sd_value **table)
{
    struct sd_value_item *item;
    if (find(t, in, name, &item))
        return -1;
    if (item && item->value.state != SD_TOML_TABLES)
        return twice(t, place, name, item);
    if (!item) {
        if (!(item = sd_toml_append(t, in, &name)))
            return -1;
        item->place = item->value.place = place;
        item->value.type = SD_VALUE_ARRAY;
        item->value.state = SD_TOML_TABLES;
    }
    struct sd_value_item *one = sd_toml_append(t, &item->value, NULL);
    if (!one)
        return -1;
    one->place = one->value.place = place;
    sd_toml_new_table(t, &one->value, SD_TOML_HEADER);
    *table = &one->value;
    return 0;
}

/* [name] or [[name]]: *table is then what the following pairs go to. */
static int read_header(struct sd_toml *t, struct sd_value *root, struct sd_value **table)
{
    struct sd_str name;
    struct sd_place place;
    int depth = 1;
    bool array = t->end - t->at > 1 && t->at[1] == '[';
    t->at += array ? 2 : 1;
    t->section++;
    t->depth = 0;
    sd_toml_skip_blanks(t);
    *table = root;
    if (walk(t, table, true, &name, &place, &depth))
        return -1;
    if (!is_at(t, ']') || (array && (t->end - t->at < 2 || t->at[1] != ']')))
        return sd_toml_fail(t, "'%s' is expected behind the table's name", array ? "]]" : "]");
    t->at += array ? 2 : 1;
    t->depth = depth + array;
    return (array ? add_table : open_table)(t, *table, name, place, table);
}

/* ---- the document ---- */

static int read_document(struct sd_toml *t, struct sd_value *root)
{
    struct sd_value *table = root;
    for (;;) {
        if (sd_toml_skip_lines(t))
            return -1;
        if (t->at == t->end)
            return 0;
        if (is_at(t, '[') ? read_header(t, root, &table) : sd_toml_pair(t, table))
            return -1;
        sd_toml_skip_blanks(t);
        if (sd_toml_skip_comment(t))
            return -1;
        if (t->at < t->end && !sd_toml_newline(t))
            return sd_toml_fail(t, "the end of the line is expected");
    }
}

static int check_utf8(struct sd_toml *t)
{
    if (sd_utf8_valid(t->at, (size_t)(t->end - t->at)))
        return 0;
    for (size_t n; t->at < t->end; t->at += n) {
        if (sd_toml_newline(t)) {
            n = 0;
            continue;
        }
        for (n = 1; n <= 4; n++)
            if (n > (size_t)(t->end - t->at) || sd_utf8_valid(t->at, n))
                break;
        if (n > 4 || n > (size_t)(t->end - t->at))
            break;
    }
    return sd_toml_fail(t, "a byte that is not UTF-8");
}

int sd_toml_parse(struct sd_arena *arena, const char *text, size_t len, struct sd_value *root,
                  struct sd_err *err)
{
    struct sd_toml t = {.arena = arena, .at = text, .end = text + len, .line = 1, .err = err};
    *root = (struct sd_value){.place = {1, 1}};
    if (len > SD_TOML_BYTES)
        return sd_err_set(err, SD_ERR_USAGE, "%zu bytes, more than the %d that are read", len, SD_TOML_BYTES);
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        t.at += 3;
    t.seen_at = t.at;
    t.seen = (struct sd_place){1, 1};
    const char *start = t.at;
    int bad = check_utf8(&t);
    if (!bad) {
        t.at = t.seen_at = start;
        sd_toml_new_table(&t, root, SD_TOML_HEADER);
        bad = read_document(&t, root);
    }
    sd_strmap_free(&t.items);
    free(t.all);
    sd_buf_free(&t.scratch);
    return bad ? -1 : 0;
}

int sd_toml_add_string(struct sd_buf *out, const char *s, size_t len)
{
    /* JSON's escapes are TOML's, but that DEL has to be escaped too. */
    size_t from = out->len;
    if (sd_json_add_string(out, s, len))
        return -1;
    for (size_t i = from; i < out->len; i++) {
        if (out->data[i] != 0x7f)
            continue;
        if (sd_buf_reserve(out, 5))
            return -1;
        memmove(out->data + i + 6, out->data + i + 1, out->len - i); /* with the NUL */
        memcpy(out->data + i, "\\u007f", 6);
        out->len += 5;
    }
    return 0;
}

int sd_toml_add_name(struct sd_buf *out, const char *s, size_t len)
{
    size_t bare = 0;
    while (bare < len && is_bare(s[bare]))
        bare++;
    return len && bare == len ? sd_buf_add(out, s, len) : sd_toml_add_string(out, s, len);
}
