/* The user's rules for tags and captions: files of one rule a line (sd-clean(1) describes them).
 *
 *     replace FROM -> TO          a whole tag, or whole words of a caption
 *     regex PATTERN -> TEXT       POSIX extended; \0 to \9 in TEXT, \s a blank, \\ a backslash
 *     remove TAG, TAG...
 *     alias TAG -> TAG
 *     imply TAG -> TAG, TAG...
 *     order TAG, TAG...
 *
 * `tags` or `caption` before replace and regex holds them to that member. Whatever the order of the lines,
 * replace and regex come first, one after the other as they stand; then aliases (an alias of an alias too),
 * implications (and what the implied imply), removals, the order. */
#ifndef SD_TEXT_RULES_H
#define SD_TEXT_RULES_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    SD_RULES_BYTES = 64 << 20,       /* the most a file may have */
    SD_RULES_PATTERN = 500,          /* bytes of a pattern */
    SD_RULES_REPEATS = 100,          /* all counts {m,n} of a pattern multiplied */
    SD_RULES_REGEX_TEXT = 4 * 1024,  /* bytes of a tag or caption that meets a pattern */
    SD_RULES_TEXT = 4 * 1024 * 1024, /* bytes of a text that rules have made longer */
};

struct sd_rules;     /* what was read */
struct sd_rules_use; /* what a thread needs to use them */
struct sd_clean_notes;

struct sd_rules *sd_rules_new(struct sd_err *err);
void sd_rules_free(struct sd_rules *r); /* NULL is fine */

/* Adds the rules in text[len]. Messages begin with "name:line: ". */
int sd_rules_parse(struct sd_rules *r, const char *name, const char *text, size_t len, struct sd_err *err);
int sd_rules_read(struct sd_rules *r, const char *path, struct sd_err *err);

/* After the last of them: resolves aliases, refuses circles. */
int sd_rules_finish(struct sd_rules *r, struct sd_err *err);

/* One for each thread; r must outlive it. */
struct sd_rules_use *sd_rules_use_new(const struct sd_rules *r, struct sd_err *err);
void sd_rules_use_free(struct sd_rules_use *u); /* NULL is fine */

/* Change text, a list of tags with ", " between them or a caption, in place. notes may be NULL. */
int sd_rules_tags(struct sd_rules_use *u, struct sd_clean_notes *notes, struct sd_buf *text,
                  struct sd_err *err);
int sd_rules_caption(struct sd_rules_use *u, struct sd_clean_notes *notes, struct sd_buf *text,
                     struct sd_err *err);

#endif
