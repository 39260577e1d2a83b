/* What reading and using the user's rules share. */
#ifndef SD_TEXT_RULES_PRIVATE_H
#define SD_TEXT_RULES_PRIVATE_H

#include <locale.h>
#include <regex.h>
#include <stdbool.h>

#include "base/arena.h"
#include "text/rules.h"
#include "text/strmap.h"

/* replace or regex */
struct rule_text {
    const char *where; /* "file:line" */
    struct sd_str from, to;
    bool regex, tags, caption;
};

struct rule_alias {
    const char *where;
    struct sd_str from, to;
    size_t walk; /* which walk along the chain saw it; 0: none yet */
};

/* Implications are edges between tags; a node is a tag that implies others. */
struct rule_node {
    struct sd_str tag;
    size_t first, cursor; /* edges; cursor is for the search for circles */
    enum { NODE_NEW, NODE_OPEN, NODE_DONE } state;
};

struct rule_edge {
    const char *where;
    struct sd_str to;
    size_t next;
};

struct sd_rules {
    struct sd_arena arena; /* all the text */
    struct rule_text *texts;
    struct rule_alias *aliases;
    struct rule_node *nodes;
    struct rule_edge *edges;
    const char **removed_where; /* of the numbers in removed */
    size_t texts_n, texts_cap, aliases_n, aliases_cap, nodes_n, nodes_cap, edges_n, edges_cap, removed_n,
        removed_cap;
    struct sd_strmap alias, node, removed, rank;
    const char *order_where; /* the first line of them */
    locale_t utf8;           /* for patterns; 0 until there is one */
};

/* A compiled pattern of one thread. */
struct rule_regex {
    regex_t re;
    bool compiled;
    size_t fed; /* bytes matched since; the states that regexec keeps grow with them */
};

/* Whether the pattern can be compiled and used without harm and `to` fits it. The message does not name the
 * place. */
int rule_regex_check(struct sd_rules *r, struct sd_str pattern, struct sd_str to, struct sd_err *err);

/* Puts into out what becomes of s: 1 when it matched, 0, or -1. */
int rule_regex_apply(const struct sd_rules *r, const struct rule_text *rule, struct rule_regex *regex,
                     struct sd_clean_notes *notes, struct sd_str s, struct sd_buf *out, struct sd_err *err);
void rule_regex_free(struct rule_regex *regex);

#endif
