/* sd-scripts' options for captions, augmentation and their loss, as all programs that treat records as
 * training does spell them: what counts for pictures whose record says nothing else (data/subset.h). */
#ifndef CMD_SUBSET_OPTIONS_H
#define CMD_SUBSET_OPTIONS_H

#include "cmd.h"

#include "data/subset.h"

struct cmd_subset {
    struct sd_subset base; /* complete after cmd_subset_settle */
    bool shuffle, wildcard;
    double prior_loss_weight;
    const char *face_crop, *filter;
};

#define CMD_SUBSET_DEFAULTS \
    ((struct cmd_subset){.base.bucketed = true, .prior_loss_weight = 1, .filter = "auto"})

/* Rows of an option table; s is a struct cmd_subset *. */
#define CMD_SUBSET_OPTIONS(s)                                                                                \
    {SD_OPT_BOOL("shuffle-caption", 0, &(s)->shuffle, "shuffle the comma-separated parts at each use")},     \
        {SD_OPT_INT("keep-tokens", 0, &(s)->base.caption.keep_tokens, "N", "leading parts that stay"),       \
         .max = 1e6},                                                                                        \
        {SD_OPT_STRING("keep-tokens-separator", 0, &(s)->base.caption.keep_tokens_separator, "TEXT",         \
                       "what ends the parts that stay")},                                                    \
        {SD_OPT_STRING("caption-separator", 0, &(s)->base.caption.separator, "TEXT",                         \
                       "what parts captions; a comma")},                                                     \
        {SD_OPT_STRING("secondary-separator", 0, &(s)->base.caption.secondary_separator, "TEXT",             \
                       "becomes the separator after shuffling")},                                            \
        {SD_OPT_STRING("caption-prefix", 0, &(s)->base.caption.prefix, "TEXT",                               \
                       "goes before every caption")},                                                        \
        {SD_OPT_STRING("caption-suffix", 0, &(s)->base.caption.suffix, "TEXT", "goes after every caption")}, \
        {SD_OPT_BOOL("enable-wildcard", 0, &(s)->wildcard, "draw one of {a|b|c}, and one line of several")}, \
        {SD_OPT_DOUBLE("caption-dropout-rate", 0, &(s)->base.caption.dropout_rate, "X",                      \
                       "share of captions left out"),                                                        \
         .max = 1},                                                                                          \
        {SD_OPT_INT("caption-dropout-every-n-epochs", 0, &(s)->base.caption.dropout_every_n_epochs, "N",     \
                    "no captions in every N-th epoch"),                                                      \
         .max = 1e9},                                                                                        \
        {SD_OPT_DOUBLE("caption-tag-dropout-rate", 0, &(s)->base.caption.tag_dropout_rate, "X",              \
                       "share of parts left out"),                                                           \
         .max = 1},                                                                                          \
        {SD_OPT_DOUBLE("token-warmup-step", 0, &(s)->base.caption.token_warmup_step, "N",                    \
                       "use parts one by one up to here")},                                                  \
        {SD_OPT_INT("token-warmup-min", 0, &(s)->base.caption.token_warmup_min, "N",                         \
                    "parts used from the first step"),                                                       \
         .max = 1e6},                                                                                        \
        {SD_OPT_BOOL("flip-aug", 0, &(s)->base.augment.flip,                                                 \
                     "mirror half of the pictures, by chance at each use")},                                 \
        {SD_OPT_BOOL("color-aug", 0, &(s)->base.augment.color,                                               \
                     "change the colours of a third of the pictures a little (no cached latents)")},         \
        {SD_OPT_BOOL("random-crop", 0, &(s)->base.augment.random_crop,                                       \
                     "cut pictures at a place drawn at each use (no cached latents)")},                      \
        {SD_OPT_STRING("face-crop-aug-range", 0, &(s)->face_crop, "LOW,HIGH",                                \
                       "cut around the face that the file's name tells, without buckets; its size")},        \
        {SD_OPT_CHOICE("resize-interpolation", 0, &(s)->filter, SD_RESIZE_NAMES,                             \
                       "how pictures without cached latents are resized")},                                  \
    {                                                                                                        \
        SD_OPT_DOUBLE("prior-loss-weight", 0, &(s)->prior_loss_weight, "X",                                  \
                      "weight of regularisation pictures")                                                   \
    }

/* After the options were read; ends the program on wrong ones. */
void cmd_subset_settle(struct sd_cmd *c, struct cmd_subset *s);

#endif
