/* Cleaning of generated tags and captions, as finetune/clean_captions_and_tags.py of kohya-ss/sd-scripts. */
#ifndef SD_TEXT_CLEAN_H
#define SD_TEXT_CLEAN_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Appends to out the tags[len], a list with ", " between them, after cleaning: underscores to blanks (but for
 * ^_^), nothing after a rating, hair and eyes that contradict each other dropped where there are several
 * people, and tags dropped that a longer tag ending in the same word repeats. Where everything went (the
 * original stops there) nothing is appended. */
int sd_clean_tags(const char *tags, size_t len, struct sd_buf *out, struct sd_err *err);

/* Appends to out the caption[len] with the words of a style ("anime woman", "cartoon lady") made plain. */
int sd_clean_caption(const char *caption, size_t len, struct sd_buf *out, struct sd_err *err);

#endif
