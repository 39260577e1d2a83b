/* What happens to a caption each time its image is fetched for training: prefix and suffix, drop-out,
 * wildcards, shuffling, tag drop-out, token warm-up, replacements; as BaseDataset.process_caption of
 * kohya-ss/sd-scripts, with the same random draws in the same order. */
#ifndef SD_TEXT_CAPTION_H
#define SD_TEXT_CAPTION_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/pyrandom.h"

/* How the captions of one subset are treated. Strings are borrowed; NULL and "" both mean none. */
struct sd_caption_options {
    const char *prefix, *suffix; /* put before and after with a blank */
    const char *separator;       /* between tags; NULL means "," */
    const char *secondary_separator;
    const char *keep_tokens_separator; /* fixed part, flexible part and fixed ending */
    int64_t keep_tokens;               /* tags at the start that stay; unused where that separator is found */
    double dropout_rate;               /* of whole captions, 0..1 */
    int64_t dropout_every_n_epochs;    /* 0: never */
    double tag_dropout_rate;           /* of single tags, 0..1 */
    double token_warmup_step;          /* steps; below 1, a part of max_train_steps */
    int64_t token_warmup_min;          /* tags used at step 0 */
    int shuffle, enable_wildcard;
};

/* One textual inversion replacement. `from` "" replaces the whole caption, by one of `to` if there are
 * several templates; otherwise to[0] replaces every occurrence. */
struct sd_caption_replacement {
    const char *from;
    const char *const *to;
    size_t to_len;
    int is_list; /* draw one of to[0..to_len-1], even if there is only one; only where from is "" */
};

/* Where training stands. */
struct sd_caption_context {
    int64_t epoch; /* from 1 */
    int64_t step, max_train_steps;
    const struct sd_caption_replacement *replacements;
    size_t replacements_len;
};

/* Appends a caption and tags as one text, the way fine-tuning metadata joins them: the caption, the separator
 * (NULL means ","), the tags with ", " between them. Without a caption (NULL) or without tags there is no
 * separator. 0, or -1 when memory is out. */
int sd_caption_join(const char *caption, const char *const *tags, size_t tags_len, const char *separator,
                    struct sd_buf *out);

/* Appends to out the text caption[len] becomes, which may be empty.
 * A token_warmup_step below 1 in the options is turned into steps by the first caption that gets that far, as
 * in the original, so one options struct serves one thread. An empty separator is an error. */
int sd_caption_process(struct sd_caption_options *options, const struct sd_caption_context *context,
                       struct sd_pyrandom *random, const char *caption, size_t len, struct sd_buf *out,
                       struct sd_err *err);

#endif
