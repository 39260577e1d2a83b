/* Any bytes as TOML: what is accepted is a tree of text, which can be written as JSON that reads back, and
 * whose strings survive being written as TOML. fuzz-seeds: t/data/config/seeds t/data/toml/all.toml */
#include "base/json.h"
#include "text/toml.h"

#include <stdlib.h>
#include <string.h>

static void must(int good)
{
    if (!good)
        abort();
}

static void check_string(struct sd_str s)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_buf text = SD_BUF_INIT;
    struct sd_value root;
    struct sd_err err = {0};
    must(sd_utf8_valid(s.data, s.len) && !s.data[s.len]);
    must(!sd_toml_add_string(&text, s.data, s.len) && !sd_buf_adds(&text, "=0"));
    must(!sd_toml_parse(&arena, text.data, text.len, &root, &err) && root.n == 1);
    must(root.first->name.len == s.len && !memcmp(root.first->name.data, s.data, s.len));
    sd_buf_free(&text);
    sd_arena_free(&arena);
}

static void check(const struct sd_value *v, int depth)
{
    must(depth <= SD_TOML_DEPTH + 1 && v->place.line && v->place.column);
    if (v->type == SD_VALUE_STRING)
        check_string(v->s);
    if (v->type != SD_VALUE_ARRAY && v->type != SD_VALUE_TABLE)
        return;
    size_t n = 0;
    for (const struct sd_value_item *i = v->first; i; i = i->next, n++) {
        if (v->type == SD_VALUE_TABLE)
            check_string(i->name);
        check(&i->value, depth + 1);
    }
    must(n == v->n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_buf text = SD_BUF_INIT;
    struct sd_value root;
    struct sd_err err = {0};
    if (sd_toml_parse(&arena, (const char *)data, size, &root, &err)) {
        must(err.msg[0]);
    } else {
        check(&root, 0);
        if (sd_value_json(&root, &text, &err)) {
            must(err.msg[0]);
        } else {
            cJSON *tree = sd_json_parse(text.data, text.len, &err);
            must(tree || strstr(err.msg, "NUL"));
            cJSON_Delete(tree);
        }
    }
    sd_buf_free(&text);
    sd_arena_free(&arena);
    return 0;
}
