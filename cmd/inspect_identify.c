/* sd-inspect --identify: a line that says what a file or model folder is. */
#include <string.h>

#include "adapter/identify.h"
#include "inspect.h"

static int set_text(struct sd_record *r, const char *name, const char *value)
{
    return value ? sd_record_set_string(r, name, value) : sd_record_set_raw(r, name, "null", 4);
}

/* The type that most bytes are of, and how many are of each. */
static int set_precision(struct sd_record *r, const struct sd_identity *id)
{
    struct sd_buf b = SD_BUF_INIT;
    int most = 0, bad = sd_buf_addc(&b, '{');
    for (int d = 0; d < SD_STORE_DTYPES; d++) {
        if (!id->bytes[d])
            continue;
        bad |= sd_buf_addf(&b, "%s\"%s\":%llu", b.len > 1 ? "," : "",
                           sd_store_dtype_name((enum sd_store_dtype)d), (unsigned long long)id->bytes[d]);
        if (id->bytes[d] > id->bytes[most])
            most = d;
    }
    bad = bad || sd_buf_addc(&b, '}') ||
          set_text(r, "precision", id->bytes[most] ? sd_store_dtype_name((enum sd_store_dtype)most) : NULL) ||
          sd_record_set_raw(r, "bytes", b.data, b.len);
    sd_buf_free(&b);
    return bad;
}

static int set_list(struct sd_record *r, const char *name, const char *count, const struct sd_name_list *list)
{
    size_t n = list->count < SD_IDENTIFY_NAMES ? list->count : SD_IDENTIFY_NAMES;
    return sd_record_set_int(r, count, (int64_t)list->count) ||
           sd_record_set_strings(r, name, list->names, n);
}

static int set_model(struct sd_record *r, const struct sd_identity *id)
{
    return sd_record_set_strings(r, "parts", id->parts, id->part_count) ||
           sd_record_set_bool(r, "ema", id->ema) || sd_record_set_bool(r, "supported", id->supported) ||
           (id->why_not && sd_record_set_string(r, "why_not", id->why_not)) ||
           (id->checked && (set_list(r, "missing", "missing_count", &id->missing) ||
                            set_list(r, "misshapen", "misshapen_count", &id->misshapen) ||
                            set_list(r, "extra", "extra_count", &id->extra)));
}

void inspect_identify(struct inspect *in, const char *path)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_identity id;
    struct sd_err err = {0};
    if (sd_identify(&id, path, &err)) {
        inspect_fail(in, path, &err);
        return;
    }
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", path) || set_text(&r, "kind", id.kind) ||
        set_text(&r, "family", id.family) || set_text(&r, "variant", id.variant) ||
        set_text(&r, "layout", id.layout) || set_text(&r, "prediction", id.prediction) ||
        set_precision(&r, &id) || sd_record_set_int(&r, "tensors", (int64_t)id.tensors) ||
        sd_record_set_int(&r, "parameters", (int64_t)id.parameters) || (id.model && set_model(&r, &id)))
        cmd_status(&in->c, SD_ERR_MACHINE);
    cmd_put_next(&in->c, &r);
    sd_record_free(&r);
    sd_identity_free(&id);
}
