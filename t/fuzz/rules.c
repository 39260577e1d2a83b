/* Any bytes as a file of cleaning rules: what is accepted changes tags and captions within bounds, and leaves
 * them text. fuzz-seeds: t/data/text/rules */
#include "base/json.h"
#include "text/clean.h"
#include "text/rules.h"

#include <stdlib.h>

static void must(int good)
{
    if (!good)
        abort();
}

static void use(const struct sd_rules *r, int explain)
{
    static const char tags[] = "1girl, solo, long hair, cat ears, kitty, smile (cosplay), \xe7\x8c\xab, a, b";
    static const char caption[] = "a girl of 3 years with a cat, \xc3\xa9t\xc3\xa9";
    struct sd_clean_notes notes = {0};
    struct sd_buf out = SD_BUF_INIT;
    struct sd_err err = {0};
    struct sd_rules_use *u = sd_rules_use_new(r, &err);
    must(u != NULL);
    struct sd_cleaning by = {.set = sd_clean_default_set(), .user = u, .notes = explain ? &notes : NULL};
    if (sd_clean_tags_by(&by, tags, sizeof tags - 1, &out, &err))
        must(err.msg[0]);
    else
        must(out.len <= SD_RULES_TEXT && sd_utf8_valid(out.data ? out.data : "", out.len));
    sd_buf_clear(&out);
    if (sd_clean_caption_by(&by, caption, sizeof caption - 1, &out, &err))
        must(err.msg[0]);
    else
        must(out.len <= SD_RULES_TEXT && sd_utf8_valid(out.data ? out.data : "", out.len));
    for (size_t i = 0; i < notes.n; i++)
        must(notes.v[i].from + notes.v[i].from_len <= notes.text.len &&
             notes.v[i].to + notes.v[i].to_len <= notes.text.len);
    sd_clean_notes_free(&notes);
    sd_rules_use_free(u);
    sd_buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_err err = {0};
    struct sd_rules *r = sd_rules_new(&err);
    must(r != NULL);
    if (!sd_rules_parse(r, "fuzz", (const char *)data, size, &err) && !sd_rules_finish(r, &err))
        use(r, size & 1);
    else
        must(err.msg[0]);
    sd_rules_free(r);
    return 0;
}
