/* Any bytes as a data set configuration, TOML or JSON: what is accepted becomes members of records, and
 * written as TOML it reads back as what it was. fuzz-seeds: t/data/config/seeds */
#include "data/config.h"
#include "record/record.h"

#include <stdlib.h>
#include <string.h>

static void must(int good)
{
    if (!good)
        abort();
}

static void check_members(const struct sd_config *c)
{
    struct sd_buf text = SD_BUF_INIT;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    for (const struct sd_config_dataset *d = c->datasets; d; d = d->next)
        for (const struct sd_config_subset *s = d->subsets; s; s = s->next) {
            sd_buf_clear(&text);
            must(!sd_buf_adds(&text, "{\"a\":1"));
            if (sd_config_members(c, d, s, &text, &err)) {
                must(strstr(err.msg, "JSON cannot hold") != NULL);
                continue;
            }
            must(!sd_buf_addc(&text, '}'));
            must(!sd_record_parse(&r, text.data, text.len, &err) && sd_record_find(&r, "dataset"));
        }
    sd_record_free(&r);
    sd_buf_free(&text);
}

static void check_toml(const struct sd_config *c)
{
    struct sd_config again = SD_CONFIG_INIT;
    struct sd_buf one = SD_BUF_INIT, two = SD_BUF_INIT;
    struct sd_err err = {0};
    if (sd_config_toml(c, &one, &err)) {
        must(strstr(err.msg, "null") != NULL);
    } else {
        must(!sd_config_parse(&again, one.data, one.len, false, &err));
        must(!sd_config_toml(&again, &two, &err));
        must(one.len == two.len && !memcmp(one.data, two.data, one.len));
    }
    sd_config_free(&again);
    sd_buf_free(&one);
    sd_buf_free(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_config c = SD_CONFIG_INIT;
    struct sd_err err = {0};
    bool json = size && *data == '{';
    if (sd_config_parse(&c, (const char *)data, size, json, &err)) {
        must(err.msg[0]);
    } else {
        check_toml(&c);
        if (sd_config_check(&c, &err))
            must(err.msg[0]);
        else
            check_members(&c);
    }
    sd_config_free(&c);
    return 0;
}
