/* Any bytes as a record: what is accepted is written back the same, can be edited, and is then still a
 * record. fuzz-seeds: t/data/record */
#include "record/record.h"

#include <stdlib.h>
#include <string.h>

static void must(int good)
{
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_record r = SD_RECORD_INIT, again = SD_RECORD_INIT;
    struct sd_buf out = SD_BUF_INIT;
    struct sd_strings list = {0};
    struct sd_err err = {0};
    const char *s;
    size_t len;
    int64_t v[2];
    double d;
    bool b;
    if (!sd_record_parse(&r, (const char *)data, size, &err)) {
        must(!sd_record_write(&r, &out) && out.len == size && !memcmp(out.data, data, size));
        sd_record_string(&r, "path", &s, &len, &err);
        sd_record_strings(&r, "tags", &list, &err);
        sd_record_ints(&r, "bucket", v, 2, &err);
        sd_record_double(&r, "score", &d, &err);
        sd_record_bool(&r, "reg", &b, &err);
        if (sd_record_string(&r, "path", &s, &len, &err) == 1)
            must(!sd_record_set_bytes(&r, "copy", s, len));
        must(!sd_record_set_int(&r, "width", -5) && !sd_record_set_error(&r, "fuzz", "\xff\x01") &&
             !sd_record_remove(&r, "path"));
        sd_buf_clear(&out);
        must(!sd_record_write(&r, &out) && !sd_record_parse(&again, out.data, out.len, &err));
        must(sd_record_int(&again, "width", v, &err) == 1 && v[0] == -5 && sd_record_failed(&again));
        if (sd_record_string(&again, "copy", &s, &len, &err) == 1)
            must(!sd_record_set_bytes(&again, "copy", s, len));
    } else {
        must(err.msg[0] && r.count == 0);
    }
    sd_strings_free(&list);
    sd_buf_free(&out);
    sd_record_free(&r);
    sd_record_free(&again);
    return 0;
}
