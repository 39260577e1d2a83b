/* A tree of values becomes a configuration. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/nearest.h"
#include "data/config_private.h"
#include "text/toml.h"

enum { FILE_BYTES = SD_TOML_BYTES, SHOWN_BYTES = 80 };

struct reader {
    struct sd_config *c;
    struct sd_err *err;
};

static int fail(const struct reader *r, struct sd_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(const struct reader *r, struct sd_place at, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return sd_err_set(r->err, SD_ERR_USAGE, "line %u, column %u: %s", at.line, at.column, text);
}

/* ---- keys ---- */

static const char *place_name(enum sd_config_place place)
{
    return place == SD_CONFIG_GENERAL   ? "[general]"
           : place == SD_CONFIG_DATASET ? "[[datasets]]"
                                        : "[[datasets.subsets]]";
}

static const char *kind_name(enum sd_config_kind kind)
{
    return kind == SD_CONFIG_DREAMBOOTH    ? "DreamBooth"
           : kind == SD_CONFIG_FINE_TUNING ? "fine-tuning (metadata_file)"
                                           : "ControlNet (conditioning_data_dir)";
}

static bool is_key(struct sd_str name, const char *key)
{
    return name.len == strlen(key) && !memcmp(name.data, key, name.len);
}

static int unknown_key(const struct reader *r, const struct sd_value_item *item, enum sd_config_place place)
{
    const char *names[SD_CONFIG_KEYS + 2];
    size_t n = 0;
    for (int i = 0; i < SD_CONFIG_KEYS; i++)
        names[n++] = sd_config_key((enum sd_config_id)i)->name;
    if (place == SD_CONFIG_DATASET)
        names[n++] = "subsets";
    names[n] = NULL;
    const char *near = sd_nearest_name(item->name.data, item->name.len, names);
    return fail(r, item->place, "unknown key '%.*s' in %s%s%s%s",
                (int)(item->name.len < SHOWN_BYTES ? item->name.len : SHOWN_BYTES), item->name.data,
                place_name(place), near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

static int misplaced_key(const struct reader *r, const struct sd_value_item *item,
                         const struct sd_config_key *k, enum sd_config_place place)
{
    char where[80] = "";
    for (int p = SD_CONFIG_GENERAL; p <= SD_CONFIG_SUBSET; p *= 2)
        if (k->places & (unsigned)p) {
            size_t n = strlen(where);
            snprintf(where + n, sizeof where - n, "%s%s", n ? " or " : "",
                     place_name((enum sd_config_place)p));
        }
    return fail(r, item->place, "'%s' belongs in %s, not in %s", k->name, where, place_name(place));
}

static int key_of_other_kind(const struct reader *r, const struct sd_value_item *item,
                             const struct sd_config_key *k, enum sd_config_kind kind)
{
    char kinds[120] = "";
    for (int i = 0; i <= SD_CONFIG_CONTROLNET; i++)
        if (k->kinds >> i & 1) {
            size_t n = strlen(kinds);
            snprintf(kinds + n, sizeof kinds - n, "%s%s", n ? " and " : "",
                     kind_name((enum sd_config_kind)i));
        }
    return fail(r, item->place, "'%s' is for %s data sets; this one is %s", k->name, kinds, kind_name(kind));
}

/* ---- values ---- */

int sd_config_check_number(const struct sd_config_key *k, double v, struct sd_err *err)
{
    if (k->min == k->max || (v >= k->min && v <= k->max))
        return 0;
    return sd_err_set(err, SD_ERR_USAGE, "%s: %.12g is not between %.12g and %.12g", k->name, v, k->min,
                      k->max);
}

bool sd_config_is_choice(const struct sd_config_key *k, const char *s)
{
    size_t len = strlen(s);
    for (const char *c = k->metavar; *c;) {
        size_t n = strcspn(c, "|");
        if (n == len && !memcmp(c, s, n))
            return true;
        c += n + (c[n] == '|');
    }
    return false;
}

static const char *type_name(enum sd_config_type type)
{
    static const char *const names[] = {
        [SD_CONFIG_BOOL] = "true or false",
        [SD_CONFIG_INT] = "a whole number",
        [SD_CONFIG_FLOAT] = "a number with a point, like 0.1 or 1.0",
        [SD_CONFIG_NUMBER] = "a number",
        [SD_CONFIG_STRING] = "a string",
        [SD_CONFIG_SIZE] = "a whole number or [width, height]",
        [SD_CONFIG_RANGE] = "two numbers with points, like [2.0, 4.0]",
        [SD_CONFIG_TABLE] = "a table",
    };
    return names[type];
}

static int wrong_type(const struct reader *r, const struct sd_config_key *k, const struct sd_value *v)
{
    return fail(r, v->place, "%s: %s where %s is expected", k->name, sd_value_type_name(v->type),
                type_name(k->type));
}

static int out_of_range(const struct reader *r, const struct sd_config_key *k, const struct sd_value *v)
{
    struct sd_err err = {0};
    double n = v->type == SD_VALUE_INT ? (double)v->i : v->f;
    return sd_config_check_number(k, n, &err) ? fail(r, v->place, "%s", err.msg) : 0;
}

static int read_string(const struct reader *r, const struct sd_config_key *k, const struct sd_value *v,
                       struct sd_config_value *to)
{
    if (v->type != SD_VALUE_STRING)
        return wrong_type(r, k, v);
    if (memchr(v->s.data, 0, v->s.len))
        return fail(r, v->place, "%s: a NUL character in the string", k->name);
    if (k->metavar && strchr(k->metavar, '|') && !sd_config_is_choice(k, v->s.data))
        return fail(r, v->place, "%s: '%.*s' is not one of %s", k->name,
                    (int)(v->s.len < SHOWN_BYTES ? v->s.len : SHOWN_BYTES), v->s.data, k->metavar);
    to->s = v->s.data;
    return 0;
}

/* The two values of an array, of this type; NULL when they are not that. */
static const struct sd_value *two_of(const struct sd_value *v, enum sd_value_type type)
{
    bool good =
        v->type == SD_VALUE_ARRAY && v->n == 2 && v->first->value.type == type && v->last->value.type == type;
    return good ? &v->first->value : NULL;
}

static int read_size(const struct reader *r, const struct sd_config_key *k, const struct sd_value *v,
                     struct sd_config_value *to)
{
    const struct sd_value *w = v->type == SD_VALUE_INT ? v : two_of(v, SD_VALUE_INT);
    const struct sd_value *h = w == v ? v : w ? &v->last->value : NULL;
    if (!w)
        return wrong_type(r, k, v);
    to->size = (struct sd_size){w->i, h->i};
    return out_of_range(r, k, w) || out_of_range(r, k, h) ? -1 : 0;
}

static int read_range(const struct reader *r, const struct sd_config_key *k, const struct sd_value *v,
                      struct sd_config_value *to)
{
    const struct sd_value *low = two_of(v, SD_VALUE_FLOAT);
    if (!low)
        return wrong_type(r, k, v);
    to->range[0] = low->f;
    to->range[1] = v->last->value.f;
    if (!(to->range[0] > 0 && to->range[0] <= to->range[1] && to->range[1] <= 1e9))
        return fail(r, v->place, "%s: expected 0 < low <= high", k->name);
    return 0;
}

static int read_value(const struct reader *r, const struct sd_config_key *k, const struct sd_value *v,
                      struct sd_config_value *to)
{
    switch (k->type) {
    case SD_CONFIG_BOOL:
        if (v->type != SD_VALUE_BOOL)
            return wrong_type(r, k, v);
        to->b = v->b;
        return 0;
    case SD_CONFIG_INT:
        if (v->type != SD_VALUE_INT)
            return wrong_type(r, k, v);
        to->i = v->i;
        return out_of_range(r, k, v);
    case SD_CONFIG_FLOAT:
    case SD_CONFIG_NUMBER:
        if (v->type != SD_VALUE_FLOAT && (k->type == SD_CONFIG_FLOAT || v->type != SD_VALUE_INT))
            return wrong_type(r, k, v);
        to->d = v->type == SD_VALUE_INT ? (double)v->i : v->f;
        return out_of_range(r, k, v);
    case SD_CONFIG_STRING:
        return read_string(r, k, v, to);
    case SD_CONFIG_SIZE:
        return read_size(r, k, v, to);
    case SD_CONFIG_RANGE:
        return read_range(r, k, v, to);
    case SD_CONFIG_TABLE:
        to->table = v;
        return v->type == SD_VALUE_TABLE ? 0 : wrong_type(r, k, v);
    }
    return -1;
}

/* ---- tables ---- */

/* kind is that of the data set; any in [general]. */
static int read_item(const struct reader *r, const struct sd_value_item *item, enum sd_config_place place,
                     const enum sd_config_kind *kind, struct sd_config_value **list)
{
    int id = 0;
    while (id < SD_CONFIG_KEYS && !is_key(item->name, sd_config_key((enum sd_config_id)id)->name))
        id++;
    if (id == SD_CONFIG_KEYS)
        return unknown_key(r, item, place);
    const struct sd_config_key *k = sd_config_key((enum sd_config_id)id);
    if (!(k->places & (unsigned)place))
        return misplaced_key(r, item, k, place);
    if (kind && !(k->kinds >> *kind & 1))
        return key_of_other_kind(r, item, k, *kind);
    struct sd_config_value *v = sd_config_add_value(r->c, list, (enum sd_config_id)id, r->err);
    if (!v)
        return -1;
    v->line = item->place.line;
    return read_value(r, k, &item->value, v);
}

static int read_table(const struct reader *r, const struct sd_value *table, enum sd_config_place place,
                      const enum sd_config_kind *kind, struct sd_config_value **list)
{
    for (const struct sd_value_item *i = table->first; i; i = i->next)
        if (!(place == SD_CONFIG_DATASET && is_key(i->name, "subsets")) && read_item(r, i, place, kind, list))
            return -1;
    return 0;
}

/* An array of tables is expected. */
static int check_tables(const struct reader *r, const struct sd_value *v, const char *name)
{
    if (v->type != SD_VALUE_ARRAY)
        return fail(r, v->place, "%s: %s where an array of tables is expected: [[%s]]", name,
                    sd_value_type_name(v->type), strcmp(name, "subsets") ? name : "datasets.subsets");
    for (const struct sd_value_item *i = v->first; i; i = i->next)
        if (i->value.type != SD_VALUE_TABLE)
            return fail(r, i->value.place, "%s: %s where a table is expected", name,
                        sd_value_type_name(i->value.type));
    return 0;
}

/* The first subset with the key, or without it; NULL when there is none. */
static const struct sd_value *first_with(const struct sd_value *subsets, const char *key, bool with)
{
    for (const struct sd_value_item *i = subsets->first; i; i = i->next)
        if ((sd_value_find(&i->value, key) != NULL) == with)
            return &i->value;
    return NULL;
}

static int find_kind(const struct reader *r, const struct sd_value *subsets, enum sd_config_kind *kind)
{
    const char *const tell[] = {"conditioning_data_dir", "metadata_file"};
    *kind = SD_CONFIG_DREAMBOOTH;
    for (int i = 0; i < 2; i++) {
        const struct sd_value *with = first_with(subsets, tell[i], true),
                              *without = first_with(subsets, tell[i], false);
        if (with && without)
            return fail(
                r, with->place,
                "this subset has %s, that of line %u has none; expected: all subsets of a data set, or "
                "none",
                tell[i], without->place.line);
        if (with) {
            *kind = i ? SD_CONFIG_FINE_TUNING : SD_CONFIG_CONTROLNET;
            return 0;
        }
    }
    return 0;
}

static int read_subset(const struct reader *r, const struct sd_value *table, struct sd_config_dataset *d,
                       struct sd_config_subset **last)
{
    struct sd_config_subset *s = sd_config_add_subset(r->c, d, *last, r->err);
    if (!s)
        return -1;
    *last = s;
    s->line = table->place.line;
    if (read_table(r, table, SD_CONFIG_SUBSET, &d->kind, &s->values))
        return -1;
    if (d->kind != SD_CONFIG_FINE_TUNING && !sd_config_find(s->values, SD_CONFIG_IMAGE_DIR))
        return fail(r, table->place, "this subset has no image_dir");
    return 0;
}

static int read_dataset(const struct reader *r, const struct sd_value *table)
{
    const struct sd_value_item *subsets = sd_value_find(table, "subsets");
    struct sd_config_dataset *d = sd_config_add_dataset(r->c, r->err);
    struct sd_config_subset *last = NULL;
    if (!d)
        return -1;
    d->line = table->place.line;
    if (subsets && check_tables(r, &subsets->value, "subsets"))
        return -1;
    if (!subsets || !subsets->value.n)
        return fail(r, table->place, "this data set has no [[datasets.subsets]]");
    if (find_kind(r, &subsets->value, &d->kind) ||
        read_table(r, table, SD_CONFIG_DATASET, &d->kind, &d->values))
        return -1;
    for (const struct sd_value_item *i = subsets->value.first; i; i = i->next)
        if (read_subset(r, &i->value, d, &last))
            return -1;
    return 0;
}

static int read_root(const struct reader *r, const struct sd_value *root)
{
    static const char *const names[] = {"general", "datasets", NULL};
    if (root->type != SD_VALUE_TABLE)
        return fail(r, root->place, "%s where an object is expected", sd_value_type_name(root->type));
    for (const struct sd_value_item *i = root->first; i; i = i->next) {
        if (is_key(i->name, "general") && i->value.type != SD_VALUE_TABLE)
            return fail(r, i->value.place, "general: %s where a table is expected: [general]",
                        sd_value_type_name(i->value.type));
        if (is_key(i->name, "datasets") && check_tables(r, &i->value, "datasets"))
            return -1;
        if (is_key(i->name, "general") || is_key(i->name, "datasets"))
            continue;
        for (int id = 0; id < SD_CONFIG_KEYS; id++)
            if (is_key(i->name, sd_config_key((enum sd_config_id)id)->name))
                return fail(r, i->place,
                            "'%s' stands outside of [general], [[datasets]] and [[datasets.subsets]]",
                            sd_config_key((enum sd_config_id)id)->name);
        const char *near = sd_nearest_name(i->name.data, i->name.len, names);
        return fail(r, i->place, "unknown table '%.*s'%s%s; expected [general] and [[datasets]]",
                    (int)(i->name.len < SHOWN_BYTES ? i->name.len : SHOWN_BYTES), i->name.data,
                    near ? ", did you mean " : "", near ? near : "");
    }
    const struct sd_value_item *general = sd_value_find(root, "general"),
                               *datasets = sd_value_find(root, "datasets");
    if (general && read_table(r, &general->value, SD_CONFIG_GENERAL, NULL, &r->c->general))
        return -1;
    if (!datasets || !datasets->value.n)
        return sd_err_set(r->err, SD_ERR_USAGE, "there are no [[datasets]]");
    for (const struct sd_value_item *i = datasets->value.first; i; i = i->next)
        if (read_dataset(r, &i->value))
            return -1;
    return 0;
}

int sd_config_parse(struct sd_config *c, const char *text, size_t len, bool json, struct sd_err *err)
{
    struct sd_value *root = sd_arena_alloc(&c->arena, sizeof *root);
    if (!root)
        return sd_err_memory(err, sizeof *root);
    if ((json ? sd_config_json_tree : sd_toml_parse)(&c->arena, text, len, root, err))
        return -1;
    return read_root(&(struct reader){c, err}, root);
}

static bool has_ending(const char *path, const char *ending)
{
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && !strcasecmp(path + n - m, ending);
}

int sd_config_read(struct sd_config *c, const char *path, struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    bool json = has_ending(path, ".json");
    c->file = path;
    if (!json && !has_ending(path, ".toml"))
        return sd_err_set(err, SD_ERR_USAGE, "%s: a name that ends in .toml or .json is expected", path);
    if (sd_file_read(path, FILE_BYTES, &text, err)) {
        err->code = err->code == SD_ERR_DATA ? SD_ERR_USAGE : err->code;
        return -1;
    }
    int bad = sd_config_parse(c, text.data ? text.data : "", text.len, json, err);
    sd_buf_free(&text);
    return bad ? sd_err_prefix(err, "%s", path) : 0;
}
