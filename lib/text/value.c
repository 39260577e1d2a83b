#include "text/value.h"

#include <math.h>
#include <string.h>

#include "base/json.h"

const struct sd_value_item *sd_value_find(const struct sd_value *table, const char *name)
{
    size_t len = strlen(name);
    for (const struct sd_value_item *i = table->first; i; i = i->next)
        if (i->name.len == len && !memcmp(i->name.data, name, len))
            return i;
    return NULL;
}

const char *sd_value_type_name(enum sd_value_type type)
{
    static const char *const names[] = {
        "null",     "true or false",  "a whole number", "a number with a point",
        "a string", "a date or time", "an array",       "a table"};
    return names[type];
}

static int add_items(const struct sd_value *v, struct sd_buf *out, struct sd_err *err)
{
    bool table = v->type == SD_VALUE_TABLE;
    int bad = sd_buf_addc(out, table ? '{' : '[');
    for (const struct sd_value_item *i = v->first; i && !bad; i = i->next) {
        bad = (i != v->first && sd_buf_addc(out, ',')) ||
              (table && (sd_json_add_string(out, i->name.data, i->name.len) || sd_buf_addc(out, ':')));
        if (!bad && sd_value_json(&i->value, out, err))
            return -1;
    }
    return bad || sd_buf_addc(out, table ? '}' : ']') ? sd_err_memory(err, out->len) : 0;
}

int sd_value_json(const struct sd_value *v, struct sd_buf *out, struct sd_err *err)
{
    char number[SD_JSON_DOUBLE_BYTES];
    int bad = 0;
    switch (v->type) {
    case SD_VALUE_NULL:
        bad = sd_buf_adds(out, "null");
        break;
    case SD_VALUE_BOOL:
        bad = sd_buf_adds(out, v->b ? "true" : "false");
        break;
    case SD_VALUE_INT:
        bad = sd_buf_addf(out, "%lld", (long long)v->i);
        break;
    case SD_VALUE_FLOAT:
        if (!isfinite(v->f))
            return sd_err_set(err, SD_ERR_USAGE, "line %u, column %u: a number that JSON cannot hold",
                              v->place.line, v->place.column);
        bad = sd_buf_adds(out, sd_json_double(number, v->f));
        break;
    case SD_VALUE_STRING:
    case SD_VALUE_TIME:
        bad = sd_json_add_string(out, v->s.data, v->s.len);
        break;
    case SD_VALUE_ARRAY:
    case SD_VALUE_TABLE:
        return add_items(v, out, err);
    }
    return bad ? sd_err_memory(err, out->len) : 0;
}
