/* sd-clean: captions and tags as sd-scripts' cleaning rules leave them, and the user's own. */
#include "cmd.h"

#include "record/scan.h"
#include "text/clean.h"
#include "text/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct worker {
    struct sd_buf text, cleaned;
    struct sd_strings parts;
    struct sd_cleaning by;
    struct sd_clean_notes notes;
    struct sd_buf json;
    uint64_t captions, tags; /* changed */
};

struct clean {
    struct sd_cmd cmd;
    bool captions, tags, explain, list_rules;
    const char *only;
    struct sd_strings with, without, files;
    uint64_t set;
    struct sd_rules *rules; /* of files; NULL without any */
    struct worker *workers;
};

typedef int clean_fn(const struct sd_cleaning *c, const char *text, size_t len, struct sd_buf *out,
                     struct sd_err *err);

static bool is_string(const struct sd_record *r, const char *name)
{
    const struct sd_member *m = sd_record_find(r, name);
    return m && *m->value == '"';
}

/* Cleans w->text into w->cleaned: 1 when they differ, 0, or -1. */
static int clean_text(struct worker *w, clean_fn *clean, struct sd_err *err)
{
    sd_buf_clear(&w->cleaned);
    if (sd_buf_reserve(&w->cleaned, w->text.len))
        return sd_err_memory(err, w->text.len);
    if (clean(&w->by, w->text.data, w->text.len, &w->cleaned, err))
        return -1;
    return w->cleaned.len != w->text.len || memcmp(w->cleaned.data, w->text.data, w->text.len);
}

static int clean_string(struct worker *w, struct sd_record *r, const char *name, clean_fn *clean,
                        struct sd_err *err)
{
    const char *s;
    size_t len;
    if (sd_record_string(r, name, &s, &len, err) < 0)
        return -1;
    sd_buf_clear(&w->text);
    if (sd_buf_add(&w->text, s, len))
        return sd_err_memory(err, len);
    int changed = clean_text(w, clean, err);
    if (changed == 1 && sd_record_set_bytes(r, name, w->cleaned.data, w->cleaned.len))
        return sd_err_memory(err, w->cleaned.len);
    return changed;
}

/* Several captions, each by itself. */
static int clean_lines(struct worker *w, struct sd_record *r, const char *name, struct sd_err *err)
{
    size_t n = w->parts.n, at = 0;
    char **cleaned = calloc(n + 1, sizeof *cleaned);
    int changed = 0, rc = cleaned ? 0 : sd_err_memory(err, n * sizeof *cleaned);
    for (; !rc && at < n; at++) {
        sd_buf_clear(&w->text);
        rc = sd_buf_adds(&w->text, w->parts.v[at]) ? sd_err_memory(err, strlen(w->parts.v[at])) : 0;
        int differs = rc ? rc : clean_text(w, sd_clean_caption_by, err);
        changed |= differs == 1;
        if (differs < 0)
            rc = -1;
        else if (!(cleaned[at] = strdup(w->cleaned.data)))
            rc = sd_err_memory(err, w->cleaned.len);
    }
    if (!rc && changed && sd_record_set_strings(r, name, (const char *const *)cleaned, n))
        rc = sd_err_memory(err, n);
    while (at > 0)
        free(cleaned[--at]);
    free(cleaned);
    return rc ? rc : changed;
}

/* The rules are about the tags as one text, with ", " between them. */
static int clean_list(struct worker *w, struct sd_record *r, const char *name, struct sd_err *err)
{
    int rc = 0;
    sd_buf_clear(&w->text);
    rc |= sd_buf_reserve(&w->text, 0);
    for (size_t i = 0; i < w->parts.n; i++)
        rc |= (i ? sd_buf_adds(&w->text, ", ") : 0) | sd_buf_adds(&w->text, w->parts.v[i]);
    if (rc)
        return sd_err_memory(err, w->text.len);
    int changed = clean_text(w, sd_clean_tags_by, err);
    if (changed < 1)
        return changed;
    w->parts.n = 0;
    for (char *s = w->cleaned.len ? w->cleaned.data : NULL, *next; s; s = next) {
        if ((next = strstr(s, ", "))) {
            *next = 0;
            next += 2;
        }
        rc |= sd_strings_add(&w->parts, s);
    }
    return rc || sd_record_set_strings(r, name, w->parts.v, w->parts.n) ? sd_err_memory(err, w->cleaned.len)
                                                                        : 1;
}

/* 1 when the member changed, 0 when it was clean or is not there, -1. */
static int clean_member(struct worker *w, struct sd_record *r, const char *name, clean_fn *clean,
                        struct sd_err *err)
{
    if (is_string(r, name))
        return clean_string(w, r, name, clean, err);
    w->parts.n = 0;
    int got = sd_record_strings(r, name, &w->parts, err);
    if (got < 1)
        return got;
    return clean == sd_clean_tags_by ? clean_list(w, r, name, err) : clean_lines(w, r, name, err);
}

static int add_quoted(struct sd_buf *b, const char *name, const char *s, size_t len)
{
    return sd_buf_adds(b, name) || sd_scan_quote(b, s, len);
}

/* "cleaned":[{"member":...,"rule":...,"from":...,"to":...},...] */
static int explain(struct worker *w, struct sd_record *r, struct sd_err *err)
{
    struct sd_buf *b = &w->json;
    const char *text = w->notes.text.data;
    sd_buf_clear(b);
    int bad = sd_buf_addc(b, '[');
    for (size_t i = 0; i < w->notes.n && !bad; i++) {
        const struct sd_clean_note *n = &w->notes.v[i];
        bad = (i && sd_buf_addc(b, ',')) || add_quoted(b, "{\"member\":", n->member, strlen(n->member)) ||
              add_quoted(b, ",\"rule\":", n->rule, strlen(n->rule)) ||
              add_quoted(b, ",\"from\":", text ? text + n->from : "", n->from_len) ||
              (n->gone ? sd_buf_adds(b, ",\"to\":null")
                       : add_quoted(b, ",\"to\":", text ? text + n->to : "", n->to_len)) ||
              sd_buf_addc(b, '}');
    }
    if (bad || sd_buf_addc(b, ']') || sd_record_set_raw(r, "cleaned", b->data, b->len))
        return sd_err_memory(err, b->len);
    return 0;
}

static int clean(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct clean *c = ctx;
    struct worker *w = &c->workers[worker];
    w->notes.n = 0;
    sd_buf_clear(&w->notes.text);
    int caption = c->captions ? clean_member(w, r, "caption", sd_clean_caption_by, err) : 0;
    int tags = c->tags && caption >= 0 ? clean_member(w, r, "tags", sd_clean_tags_by, err) : 0;
    if (caption < 0 || tags < 0 || (c->explain && caption + tags > 0 && explain(w, r, err)))
        return -1;
    w->captions += (uint64_t)caption;
    w->tags += (uint64_t)tags;
    return SD_RECORD_KEEP;
}

/* ---- the rules ---- */

static void list_rules(struct clean *c)
{
    size_t n;
    const struct sd_clean_rule *rules = sd_clean_rules(&n);
    for (size_t i = 0; i < n; i++)
        printf("%s\t%s\t%s\t%s\n", rules[i].name, rules[i].member, c->set >> i & 1 ? "on" : "off",
               rules[i].help);
    if (fflush(stdout) || ferror(stdout))
        cmd_die(&c->cmd, &(struct sd_err){SD_ERR_MACHINE, "standard output could not be written"});
    exit(0);
}

static void choose_rules(struct clean *c)
{
    struct sd_err err = {0};
    int bad = sd_clean_select(c->only, true, &c->set, &err);
    for (size_t i = 0; i < c->with.n && !bad; i++)
        bad = sd_clean_select(c->with.v[i], true, &c->set, &err);
    for (size_t i = 0; i < c->without.n && !bad; i++)
        bad = sd_clean_select(c->without.v[i], false, &c->set, &err);
    if (bad)
        cmd_usage(&c->cmd, "%s (--list-rules shows them)", err.msg);
    if (c->list_rules)
        list_rules(c);
    if (c->files.n && !(c->rules = sd_rules_new(&err)))
        cmd_die(&c->cmd, &err);
    for (size_t i = 0; i < c->files.n && !bad; i++)
        bad = sd_rules_read(c->rules, c->files.v[i], &err);
    if (bad || (c->rules && sd_rules_finish(c->rules, &err)))
        cmd_die(&c->cmd, &err);
}

static void start_workers(struct clean *c)
{
    struct sd_err err = {0};
    c->workers = calloc((size_t)c->cmd.common.jobs, sizeof *c->workers);
    if (!c->workers) {
        sd_err_memory(&err, (size_t)c->cmd.common.jobs * sizeof *c->workers);
        cmd_die(&c->cmd, &err);
    }
    for (int i = 0; i < c->cmd.common.jobs; i++) {
        struct worker *w = &c->workers[i];
        w->by = (struct sd_cleaning){.set = c->set, .notes = c->explain ? &w->notes : NULL};
        if (c->rules && !(w->by.user = sd_rules_use_new(c->rules, &err)))
            cmd_die(&c->cmd, &err);
    }
}

static void finish(struct clean *c)
{
    uint64_t captions = 0, tags = 0;
    for (int i = 0; i < c->cmd.common.jobs; i++) {
        struct worker *w = &c->workers[i];
        captions += w->captions;
        tags += w->tags;
        sd_buf_free(&w->text);
        sd_buf_free(&w->cleaned);
        sd_strings_free(&w->parts);
        sd_buf_free(&w->json);
        sd_clean_notes_free(&w->notes);
        sd_rules_use_free(w->by.user);
    }
    free(c->workers);
    sd_rules_free(c->rules);
    sd_strings_free(&c->with);
    sd_strings_free(&c->without);
    sd_strings_free(&c->files);
    if (c->cmd.common.verbose)
        cmd_say(&c->cmd, "captions changed in %llu records, tags in %llu", (unsigned long long)captions,
                (unsigned long long)tags);
}

int main(int argc, char **argv)
{
    struct clean c = {.captions = true, .tags = true, .only = "sd-scripts"};
    const struct sd_option options[] = {
        {SD_OPT_BOOL("captions", 0, &c.captions, "clean the member caption")},
        {SD_OPT_BOOL("tags", 0, &c.tags, "clean the member tags")},
        {SD_OPT_STRING("rules", 0, &c.only, "NAME,...",
                       "the built-in rules to apply; all, none or sd-scripts too")},
        {SD_OPT_LIST("rule", 0, &c.with, "NAME,...", "apply these built-in rules too")},
        {SD_OPT_LIST("no-rule", 0, &c.without, "NAME,...", "do not apply these built-in rules")},
        {SD_OPT_BOOL("list-rules", 0, &c.list_rules,
                     "print the built-in rules (name, member, on or off, what it does) and exit")},
        {SD_OPT_LIST("rule-file", 0, &c.files, "FILE", "apply the rules in this file too, one a line")},
        {SD_OPT_BOOL("explain", 0, &c.explain, "tell in the member cleaned which rule changed what")},
        SD_OPT_END,
    };
    c.cmd.program = (struct sd_program){
        .name = "sd-clean",
        .summary = "Clean the captions and tags that models wrote, by sd-scripts' rules and one's own",
        .options = options,
    };
    cmd_start(&c.cmd, &argc, argv);
    choose_rules(&c);
    start_workers(&c);
    cmd_each(&c.cmd, clean, &c);
    finish(&c);
    return cmd_finish(&c.cmd);
}
