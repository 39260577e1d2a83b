/* sd-scripts' options for captions and their loss, as all programs that treat records as training does spell
 * them: what counts for pictures whose record says nothing else. */
#ifndef CMD_CAPTION_OPTIONS_H
#define CMD_CAPTION_OPTIONS_H

#include "base/options.h"
#include "text/caption.h"

struct cmd_caption {
    struct sd_caption_options options; /* complete after cmd_caption_settle */
    bool shuffle, wildcard, flip_aug;
    double prior_loss_weight;
};

#define CMD_CAPTION_DEFAULTS ((struct cmd_caption){.prior_loss_weight = 1})

/* Rows of an option table; c is a struct cmd_caption *. */
#define CMD_CAPTION_OPTIONS(c)                                                                               \
    {SD_OPT_BOOL("shuffle-caption", 0, &(c)->shuffle, "shuffle the comma-separated parts at each use")},     \
        {SD_OPT_INT("keep-tokens", 0, &(c)->options.keep_tokens, "N", "leading parts that stay"),            \
         .max = 1e6},                                                                                        \
        {SD_OPT_STRING("keep-tokens-separator", 0, &(c)->options.keep_tokens_separator, "TEXT",              \
                       "what ends the parts that stay")},                                                    \
        {SD_OPT_STRING("caption-separator", 0, &(c)->options.separator, "TEXT",                              \
                       "what parts captions; a comma")},                                                     \
        {SD_OPT_STRING("secondary-separator", 0, &(c)->options.secondary_separator, "TEXT",                  \
                       "becomes the separator after shuffling")},                                            \
        {SD_OPT_STRING("caption-prefix", 0, &(c)->options.prefix, "TEXT", "goes before every caption")},     \
        {SD_OPT_STRING("caption-suffix", 0, &(c)->options.suffix, "TEXT", "goes after every caption")},      \
        {SD_OPT_BOOL("enable-wildcard", 0, &(c)->wildcard, "draw one of {a|b|c}, and one line of several")}, \
        {SD_OPT_DOUBLE("caption-dropout-rate", 0, &(c)->options.dropout_rate, "X",                           \
                       "share of captions left out"),                                                        \
         .max = 1},                                                                                          \
        {SD_OPT_INT("caption-dropout-every-n-epochs", 0, &(c)->options.dropout_every_n_epochs, "N",          \
                    "no captions in every N-th epoch"),                                                      \
         .max = 1e9},                                                                                        \
        {SD_OPT_DOUBLE("caption-tag-dropout-rate", 0, &(c)->options.tag_dropout_rate, "X",                   \
                       "share of parts left out"),                                                           \
         .max = 1},                                                                                          \
        {SD_OPT_DOUBLE("token-warmup-step", 0, &(c)->options.token_warmup_step, "N",                         \
                       "use parts one by one up to here")},                                                  \
        {SD_OPT_INT("token-warmup-min", 0, &(c)->options.token_warmup_min, "N",                              \
                    "parts used from the first step"),                                                       \
         .max = 1e6},                                                                                        \
        {SD_OPT_BOOL("flip-aug", 0, &(c)->flip_aug, "mirror half of the pictures, by chance at each use")},  \
    {                                                                                                        \
        SD_OPT_DOUBLE("prior-loss-weight", 0, &(c)->prior_loss_weight, "X",                                  \
                      "weight of regularisation pictures")                                                   \
    }

/* After the options were read. */
void cmd_caption_settle(struct cmd_caption *c);

#endif
