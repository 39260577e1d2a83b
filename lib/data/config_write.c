/* A configuration as members of records, and as TOML. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "data/config_private.h"
#include "record/scan.h"
#include "text/toml.h"

/* ---- members ---- */

static int add_number(struct sd_buf *out, double v)
{
    char text[SD_JSON_DOUBLE_BYTES];
    return sd_buf_adds(out, sd_json_double(text, v));
}

static int add_bool(struct sd_buf *out, bool b)
{
    return sd_buf_adds(out, b ? "true" : "false");
}

static int add_json(const struct sd_config_value *v, struct sd_buf *out, struct sd_err *err)
{
    int bad = 0;
    switch (sd_config_key(v->id)->type) {
    case SD_CONFIG_BOOL:
        bad = add_bool(out, v->b);
        break;
    case SD_CONFIG_INT:
        bad = sd_buf_addf(out, "%lld", (long long)v->i);
        break;
    case SD_CONFIG_FLOAT:
    case SD_CONFIG_NUMBER:
        bad = add_number(out, v->d);
        break;
    case SD_CONFIG_STRING:
        bad = sd_scan_quote(out, v->s, strlen(v->s));
        break;
    case SD_CONFIG_SIZE:
        bad = sd_buf_addf(out, "[%lld,%lld]", (long long)v->size.w, (long long)v->size.h);
        break;
    case SD_CONFIG_RANGE:
        bad = sd_buf_addc(out, '[') || add_number(out, v->range[0]) || sd_buf_addc(out, ',') ||
              add_number(out, v->range[1]) || sd_buf_addc(out, ']');
        break;
    case SD_CONFIG_TABLE:
        return sd_value_json(v->table, out, err);
    }
    return bad ? sd_err_memory(err, out->len) : 0;
}

/* `"name":value`, with a comma in front unless it is the first behind a brace. */
static int add_member(const struct sd_config_value *v, struct sd_buf *out, struct sd_err *err)
{
    bool first = out->data[out->len - 1] == '{';
    if (sd_buf_addf(out, "%s\"%s\":", first ? "" : ",", sd_config_key(v->id)->name))
        return sd_err_memory(err, out->len);
    return add_json(v, out, err);
}

static int add_dataset(const struct sd_config *c, const struct sd_config_dataset *d, struct sd_buf *out,
                       struct sd_err *err)
{
    if (sd_buf_addf(out, ",\"dataset\":{\"index\":%lld", (long long)d->index))
        return sd_err_memory(err, out->len);
    for (int id = SD_CONFIG_RESOLUTION; id <= SD_CONFIG_VALIDATION_SEED; id++) {
        const struct sd_config_value *v = sd_config_get(c, d, NULL, (enum sd_config_id)id);
        const struct sd_config_value otherwise = {.id = (enum sd_config_id)id,
                                                  .i = sd_config_key((enum sd_config_id)id)->otherwise};
        if (!v && id > SD_CONFIG_RESOLUTION && id < SD_CONFIG_NETWORK_MULTIPLIER)
            v = &otherwise;
        if (v && add_member(v, out, err))
            return -1;
    }
    return sd_buf_addc(out, '}') ? sd_err_memory(err, out->len) : 0;
}

static int add_subset(const struct sd_config *c, const struct sd_config_dataset *d,
                      const struct sd_config_subset *s, struct sd_buf *out, struct sd_err *err)
{
    size_t before = out->len;
    if (sd_buf_adds(out, ",\"subset\":{"))
        return sd_err_memory(err, out->len);
    size_t empty = out->len;
    for (int id = SD_CONFIG_FIRST_USE; id < SD_CONFIG_KEYS; id++) {
        const struct sd_config_value *v = sd_config_get(c, d, s, (enum sd_config_id)id);
        if (v && add_member(v, out, err)) {
            if (id == SD_CONFIG_CUSTOM_ATTRIBUTES && c->file)
                sd_err_prefix(err, "%s: %s", c->file, sd_config_key(v->id)->name);
            return -1;
        }
    }
    if (out->len == empty) {
        out->len = before;
        out->data[before] = 0;
        return 0;
    }
    return sd_buf_addc(out, '}') ? sd_err_memory(err, out->len) : 0;
}

int sd_config_members(const struct sd_config *c, const struct sd_config_dataset *d,
                      const struct sd_config_subset *s, struct sd_buf *out, struct sd_err *err)
{
    return add_dataset(c, d, out, err) || add_subset(c, d, s, out, err) ? -1 : 0;
}

/* ---- TOML ---- */

/* With a point or an exponent, so that it is no whole number. */
static int add_float(struct sd_buf *out, double v)
{
    char text[SD_JSON_DOUBLE_BYTES];
    if (!isfinite(v))
        return sd_buf_adds(out, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    sd_json_double(text, v);
    return sd_buf_adds(out, text) || (!strpbrk(text, ".e") && sd_buf_adds(out, ".0"));
}

/* The value on one line; -1 with err for a null, which TOML has not. */
static int add_value(const struct sd_value *v, struct sd_buf *out, struct sd_err *err)
{
    int bad = 0;
    switch (v->type) {
    case SD_VALUE_NULL:
        return sd_err_set(err, SD_ERR_USAGE, "line %u, column %u: null, for which TOML has nothing",
                          v->place.line, v->place.column);
    case SD_VALUE_BOOL:
        bad = add_bool(out, v->b);
        break;
    case SD_VALUE_INT:
        bad = sd_buf_addf(out, "%lld", (long long)v->i);
        break;
    case SD_VALUE_FLOAT:
        bad = add_float(out, v->f);
        break;
    case SD_VALUE_STRING:
        bad = sd_toml_add_string(out, v->s.data, v->s.len);
        break;
    case SD_VALUE_TIME:
        bad = sd_buf_add(out, v->s.data, v->s.len);
        break;
    case SD_VALUE_ARRAY:
    case SD_VALUE_TABLE:
        bad = sd_buf_addc(out, v->type == SD_VALUE_TABLE ? '{' : '[');
        for (const struct sd_value_item *i = v->first; i && !bad; i = i->next) {
            bad = (i != v->first && sd_buf_adds(out, ", ")) ||
                  (v->type == SD_VALUE_TABLE &&
                   (sd_toml_add_name(out, i->name.data, i->name.len) || sd_buf_adds(out, " = ")));
            if (!bad && add_value(&i->value, out, err))
                return -1;
        }
        bad = bad || sd_buf_addc(out, v->type == SD_VALUE_TABLE ? '}' : ']');
    }
    return bad ? sd_err_memory(err, out->len) : 0;
}

static int add_setting(const struct sd_config_value *v, const char *indent, struct sd_buf *out,
                       struct sd_err *err)
{
    const struct sd_config_key *k = sd_config_key(v->id);
    int bad = sd_buf_addf(out, "%s%s = ", indent, k->name);
    if (!bad && k->type == SD_CONFIG_STRING && !sd_utf8_valid(v->s, strlen(v->s)))
        return sd_err_set(err, SD_ERR_DATA, "%s: not UTF-8, so that it cannot be written as TOML", v->s);
    if (k->type == SD_CONFIG_FLOAT || k->type == SD_CONFIG_NUMBER)
        bad = bad || add_float(out, v->d);
    else if (k->type == SD_CONFIG_STRING)
        bad = bad || sd_toml_add_string(out, v->s, strlen(v->s));
    else if (k->type == SD_CONFIG_RANGE)
        bad = bad || sd_buf_addc(out, '[') || add_float(out, v->range[0]) || sd_buf_adds(out, ", ") ||
              add_float(out, v->range[1]) || sd_buf_addc(out, ']');
    else if (k->type == SD_CONFIG_SIZE)
        bad = bad || sd_buf_addf(out, "[%lld, %lld]", (long long)v->size.w, (long long)v->size.h);
    else if (k->type == SD_CONFIG_TABLE && add_value(v->table, out, err))
        return sd_err_prefix(err, "%s", k->name);
    else if (k->type != SD_CONFIG_TABLE && add_json(v, out, err))
        return -1;
    return bad || sd_buf_addc(out, '\n') ? sd_err_memory(err, out->len) : 0;
}

/* Those of the list in the keys' order; where one is missing, and may stand in this place, that of the other
 * list. */
static int add_settings(const struct sd_config_value *list, const struct sd_config_value *other,
                        unsigned place, const char *indent, struct sd_buf *out, struct sd_err *err)
{
    for (int id = 0; id < SD_CONFIG_KEYS; id++) {
        const struct sd_config_value *v = sd_config_find(list, (enum sd_config_id)id);
        if (!v && (sd_config_key((enum sd_config_id)id)->places & place))
            v = sd_config_find(other, (enum sd_config_id)id);
        if (v && add_setting(v, indent, out, err))
            return -1;
    }
    return 0;
}

/* alpha_mask on the command line is for all subsets, but only they can have it in a file. */
static int add_subset_toml(const struct sd_config *c, const struct sd_config_dataset *d,
                           const struct sd_config_subset *s, struct sd_buf *out, struct sd_err *err)
{
    const struct sd_config_value *alpha = sd_config_get(c, d, s, SD_CONFIG_ALPHA_MASK);
    if (sd_buf_adds(out, "\n  [[datasets.subsets]]\n"))
        return sd_err_memory(err, out->len);
    if (add_settings(s->values, NULL, 0, "  ", out, err))
        return -1;
    return alpha && !sd_config_find(s->values, SD_CONFIG_ALPHA_MASK) ? add_setting(alpha, "  ", out, err) : 0;
}

static int add_toml(const struct sd_config *c, struct sd_buf *out, struct sd_err *err)
{
    size_t start = out->len;
    if (sd_buf_adds(out, "[general]\n"))
        return sd_err_memory(err, out->len);
    size_t empty = out->len;
    if (add_settings(c->general, c->options, SD_CONFIG_GENERAL, "", out, err))
        return -1;
    if (out->len == empty)
        out->len = start;
    for (const struct sd_config_dataset *d = c->datasets; d; d = d->next) {
        if (sd_buf_addf(out, "%s[[datasets]]\n", out->len > start ? "\n" : ""))
            return sd_err_memory(err, out->len);
        if (add_settings(d->values, NULL, 0, "", out, err))
            return -1;
        for (const struct sd_config_subset *s = d->subsets; s; s = s->next)
            if (add_subset_toml(c, d, s, out, err))
                return -1;
    }
    return 0;
}

int sd_config_toml(const struct sd_config *c, struct sd_buf *out, struct sd_err *err)
{
    if (!add_toml(c, out, err))
        return 0;
    return c->file ? sd_err_prefix(err, "%s", c->file) : -1;
}
