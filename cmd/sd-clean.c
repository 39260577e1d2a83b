/* sd-clean: captions and tags as sd-scripts' cleaning rules leave them. */
#include "cmd.h"

#include "text/clean.h"

#include <stdlib.h>
#include <string.h>

struct worker {
    struct sd_buf text, cleaned;
    struct sd_strings parts;
    uint64_t captions, tags; /* changed */
};

struct clean {
    struct sd_cmd cmd;
    bool captions, tags;
    struct worker *workers;
};

typedef int clean_fn(const char *text, size_t len, struct sd_buf *out, struct sd_err *err);

static bool is_string(const struct sd_record *r, const char *name)
{
    const struct sd_member *m = sd_record_find(r, name);
    return m && *m->value == '"';
}

/* Cleans w->text into w->cleaned: 1 when they differ, 0, or -1. */
static int clean_text(struct worker *w, clean_fn *clean, struct sd_err *err)
{
    sd_buf_clear(&w->cleaned);
    if (sd_buf_reserve(&w->cleaned, w->text.len) || clean(w->text.data, w->text.len, &w->cleaned, err))
        return sd_err_memory(err, w->text.len);
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
        int differs = rc ? rc : clean_text(w, sd_clean_caption, err);
        changed |= differs == 1;
        if (differs < 0 || !(cleaned[at] = strdup(w->cleaned.data)))
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
    int changed = clean_text(w, sd_clean_tags, err);
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
    return clean == sd_clean_tags ? clean_list(w, r, name, err) : clean_lines(w, r, name, err);
}

static int clean(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct clean *c = ctx;
    struct worker *w = &c->workers[worker];
    int caption = c->captions ? clean_member(w, r, "caption", sd_clean_caption, err) : 0;
    int tags = c->tags && caption >= 0 ? clean_member(w, r, "tags", sd_clean_tags, err) : 0;
    if (caption < 0 || tags < 0)
        return -1;
    w->captions += (uint64_t)caption;
    w->tags += (uint64_t)tags;
    return SD_RECORD_KEEP;
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
    }
    free(c->workers);
    if (c->cmd.common.verbose)
        cmd_say(&c->cmd, "captions changed in %llu records, tags in %llu", (unsigned long long)captions,
                (unsigned long long)tags);
}

int main(int argc, char **argv)
{
    struct clean c = {.captions = true, .tags = true};
    const struct sd_option options[] = {
        {SD_OPT_BOOL("captions", 0, &c.captions, "clean the member caption")},
        {SD_OPT_BOOL("tags", 0, &c.tags, "clean the member tags")},
        SD_OPT_END,
    };
    c.cmd.program = (struct sd_program){
        .name = "sd-clean",
        .summary = "Clean the captions and tags that models wrote, by sd-scripts' rules",
        .options = options,
    };
    cmd_start(&c.cmd, &argc, argv);
    c.workers = calloc((size_t)c.cmd.common.jobs, sizeof *c.workers);
    if (!c.workers) {
        struct sd_err err;
        sd_err_memory(&err, (size_t)c.cmd.common.jobs * sizeof *c.workers);
        cmd_die(&c.cmd, &err);
    }
    cmd_each(&c.cmd, clean, &c);
    finish(&c);
    return cmd_finish(&c.cmd);
}
