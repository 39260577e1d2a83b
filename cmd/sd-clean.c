/* sd-clean: captions and tags as sd-scripts' cleaning rules leave them, and the user's own. */
#include "cmd.h"

#include "data/clean_record.h"
#include "text/rules.h"

#include <stdio.h>
#include <stdlib.h>

struct clean {
    struct sd_cmd cmd;
    bool captions, tags, explain, list_rules;
    const char *only;
    struct sd_strings with, without, files;
    uint64_t set;
    struct sd_rules *rules; /* of files; NULL without any */
    struct sd_clean_worker *workers;
};

static int clean(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct clean *c = ctx;
    return sd_clean_record(&c->workers[worker], r, err) ? -1 : SD_RECORD_KEEP;
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
        struct sd_clean_worker *w = &c->workers[i];
        w->captions = c->captions;
        w->tags = c->tags;
        w->by = (struct sd_cleaning){.set = c->set, .notes = c->explain ? &w->notes : NULL};
        if (c->rules && !(w->by.user = sd_rules_use_new(c->rules, &err)))
            cmd_die(&c->cmd, &err);
    }
}

static void finish(struct clean *c)
{
    uint64_t captions = 0, tags = 0;
    for (int i = 0; i < c->cmd.common.jobs; i++) {
        struct sd_clean_worker *w = &c->workers[i];
        captions += w->changed_captions;
        tags += w->changed_tags;
        sd_rules_use_free(w->by.user);
        sd_clean_worker_free(w);
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
