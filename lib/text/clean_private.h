/* What the files of the built-in cleaning rules share. */
#ifndef SD_TEXT_CLEAN_PRIVATE_H
#define SD_TEXT_CLEAN_PRIVATE_H

#include "text/clean.h"

/* The rules in the order of their table; those of captions follow. */
enum sd_clean_id {
    CLEAN_NFC,
    CLEAN_SPACES,
    CLEAN_RATING_TAGS,
    CLEAN_WD_UNDERSCORES,
    CLEAN_UNDERSCORES,
    CLEAN_RATING_TAIL,
    CLEAN_HAIR_LENGTH,
    CLEAN_HAIR_CUT,
    CLEAN_EYES,
    CLEAN_SLEEVES,
    CLEAN_HAIR_STYLE,
    CLEAN_HAIR,
    CLEAN_REPEATED_WORDS,
    CLEAN_DUPLICATES,
    CLEAN_CAPTION, /* the first of the caption's */
};

/* The caption's rules, applied from the top: name, what is replaced, by what. */
#define CLEAN_CAPTION_RULES(X)                                         \
    X("anime-anime", "anime anime", "anime")                           \
    X("young", "young ", "")                                           \
    X("anime-girl", "anime girl", "girl")                              \
    X("cartoon-female", "cartoon female", "girl")                      \
    X("cartoon-lady", "cartoon lady", "girl")                          \
    X("cartoon-character", "cartoon character", "girl")                \
    X("cartoon-woman", "cartoon woman", "girl")                        \
    X("cartoon-women", "cartoon women", "girls")                       \
    X("cartoon-girl", "cartoon girl", "girl")                          \
    X("anime-female", "anime female", "girl")                          \
    X("anime-lady", "anime lady", "girl")                              \
    X("anime-character", "anime character", "girl")                    \
    X("anime-woman", "anime woman", "girl")                            \
    X("anime-women", "anime women", "girls")                           \
    X("lady", "lady", "girl")                                          \
    X("female", "female", "girl")                                      \
    X("woman", "woman", "girl")                                        \
    X("women", "women", "girls")                                       \
    X("people", "people", "girls")                                     \
    X("person", "person", "girl")                                      \
    X("cartoon-figure", "a cartoon figure", "a figure")                \
    X("cartoon-image", "a cartoon image", "an image")                  \
    X("cartoon-picture", "a cartoon picture", "a picture")             \
    X("anime-cartoon-image", "an anime cartoon image", "an image")     \
    X("cartoon-anime-drawing", "a cartoon anime drawing", "a drawing") \
    X("cartoon-drawing", "a cartoon drawing", "a drawing")             \
    X("girl-girl", "girl girl", "girl")

static inline bool clean_has(const struct sd_cleaning *c, enum sd_clean_id id)
{
    return c->set >> id & 1;
}

/* The text of a buffer that may be empty. */
static inline struct sd_str clean_view(const struct sd_buf *b)
{
    return (struct sd_str){.data = b->data ? b->data : "", .len = b->len};
}

/* One rule changes the text. 0, or -1 when memory is out. */
typedef int clean_step(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text);

/* Runs the step where its rule is in the set, and notes what it changed. */
int clean_run(const struct sd_cleaning *c, enum sd_clean_id id, clean_step *step, struct sd_buf *text);

/* Notes the pieces between ", " of before that are others after. Empty ones do not count. */
int clean_note_list(struct sd_clean_notes *notes, const char *rule, struct sd_str before,
                    struct sd_str after);

/* Notes the words where before and after differ, from the first to the last of them. */
int clean_note_text(struct sd_clean_notes *notes, const char *rule, struct sd_str before,
                    struct sd_str after);

/* clean_extra.c: the rules that sd-scripts has not. */
clean_step clean_nfc, clean_tag_spaces, clean_caption_spaces, clean_rating_tags, clean_wd_underscores,
    clean_duplicates;

#endif
