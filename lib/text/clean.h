/* Cleaning of generated tags and captions, as finetune/clean_captions_and_tags.py of kohya-ss/sd-scripts,
 * with rules beyond its own that are off until asked for. */
#ifndef SD_TEXT_CLEAN_H
#define SD_TEXT_CLEAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/str.h"

/* Appends to out the tags[len], a list with ", " between them, after cleaning: underscores to blanks (but for
 * ^_^), nothing after a rating, hair and eyes that contradict each other dropped where there are several
 * people, and tags dropped that a longer tag ending in the same word repeats. Where everything went (the
 * original stops there) nothing is appended. */
int sd_clean_tags(const char *tags, size_t len, struct sd_buf *out, struct sd_err *err);

/* Appends to out the caption[len] with the words of a style ("anime woman", "cartoon lady") made plain. */
int sd_clean_caption(const char *caption, size_t len, struct sd_buf *out, struct sd_err *err);

/* ---- the same rule by rule ---- */

struct sd_clean_rule {
    const char *name, *member; /* member: "tags", "caption" or "both" */
    bool on;                   /* one of sd-scripts' */
    const char *help;
};

/* All built-in rules in the order they are applied. */
const struct sd_clean_rule *sd_clean_rules(size_t *n);

/* A set of rules: a bit a rule, in the order of sd_clean_rules. */
uint64_t sd_clean_default_set(void);

/* Adds the named rules to the set, or takes them out of it: names[] with commas between them, or "all", or
 * "sd-scripts" for those that are on by default. "none" names nothing. */
int sd_clean_select(const char *names, bool on, uint64_t *set, struct sd_err *err);

/* What was changed by which rule. */
struct sd_clean_note {
    const char *rule;      /* borrowed from the rule */
    const char *member;    /* "tags" or "caption" */
    size_t from, from_len; /* places in text */
    size_t to, to_len;
    bool gone; /* nothing came in its place */
};

struct sd_clean_notes {      /* {0} is an empty one */
    struct sd_clean_note *v; /* owned */
    size_t n, cap;
    struct sd_buf text;
    const char *member; /* for the notes to come */
};

/* One note; a `to` whose data is NULL tells that it is gone. notes may be NULL: then there is nothing to do.
 * 0, or -1 when memory is out. */
int sd_clean_note(struct sd_clean_notes *notes, const char *rule, struct sd_str from, struct sd_str to);
void sd_clean_notes_free(struct sd_clean_notes *notes);

struct sd_rules_use;

struct sd_cleaning {
    uint64_t set;
    struct sd_rules_use *user;    /* the user's rules (text/rules.h), or NULL */
    struct sd_clean_notes *notes; /* or NULL */
};

/* As sd_clean_tags and sd_clean_caption, by the rules chosen. */
int sd_clean_tags_by(const struct sd_cleaning *c, const char *tags, size_t len, struct sd_buf *out,
                     struct sd_err *err);
int sd_clean_caption_by(const struct sd_cleaning *c, const char *caption, size_t len, struct sd_buf *out,
                        struct sd_err *err);

#endif
