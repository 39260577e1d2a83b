/* The table of the built-in rules, choosing among them, and notes of what they changed. */
#include "text/clean_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "text/unicode.h"

#define PAIR(name, from, to) {name, "caption", true, "\"" from "\" becomes \"" to "\""},

static const struct sd_clean_rule rules[] = {
    [CLEAN_NFC] = {"nfc", "both", false, "letters and their accents are composed: Unicode's normal form C"},
    [CLEAN_SPACES] = {"spaces", "both", false,
                      "blanks of any kind become single ones, none at the ends; empty tags go"},
    [CLEAN_RATING_TAGS] = {"rating-tags", "tags", false,
                           "tags of a rating go (rating:..., general, sensitive, questionable, explicit), "
                           "others stay; instead of rating-tail"},
    [CLEAN_WD_UNDERSCORES] = {"wd-underscores", "tags", false,
                              "underscores become blanks in tags of more than three characters, as the "
                              "WD14 tagger does: ^_^, o_o and >_< stay; instead of underscores"},
    [CLEAN_UNDERSCORES] = {"underscores", "tags", true, "underscores become blanks, except in ^_^"},
    [CLEAN_RATING_TAIL] = {"rating-tail", "tags", true,
                           "a tag that begins with rating goes with all that follow, unless it is the first"},
    [CLEAN_HAIR_LENGTH] = {"hair-length", "tags", true, "several people: contradicting lengths of hair go"},
    [CLEAN_HAIR_CUT] = {"hair-cut", "tags", true, "several people: contradicting hair cuts go"},
    [CLEAN_EYES] = {"eyes", "tags", true, "several people: contradicting eyes go"},
    [CLEAN_SLEEVES] = {"sleeves", "tags", true, "several people: contradicting sleeves go"},
    [CLEAN_HAIR_STYLE] = {"hair-style", "tags", true, "several people: contradicting hair styles go"},
    [CLEAN_HAIR] = {"hair", "tags", true, "several people: contradicting colours of hair go"},
    [CLEAN_REPEATED_WORDS] = {"repeated-words", "tags", true,
                              "a tag of one word goes where a longer tag ends in it"},
    [CLEAN_DUPLICATES] = {"duplicates", "tags", false, "a tag goes where the same stands before it"},
    CLEAN_CAPTION_RULES(PAIR)};

enum { RULES = sizeof rules / sizeof *rules };
_Static_assert(RULES <= 64, "a set of rules is a bit a rule");

const struct sd_clean_rule *sd_clean_rules(size_t *n)
{
    *n = RULES;
    return rules;
}

uint64_t sd_clean_default_set(void)
{
    uint64_t set = 0;
    for (size_t i = 0; i < RULES; i++)
        set |= (uint64_t)rules[i].on << i;
    return set;
}

static int unknown(struct sd_str name, struct sd_err *err)
{
    const char *names[RULES + 1] = {0};
    for (size_t i = 0; i < RULES; i++)
        names[i] = rules[i].name;
    const char *near = sd_nearest_name(name.data, name.len, names);
    int len = (int)(name.len < 100 ? name.len : 100);
    if (near)
        return sd_err_set(err, SD_ERR_USAGE, "no rule is named '%.*s'; did you mean %s?", len, name.data,
                          near);
    return sd_err_set(err, SD_ERR_USAGE, "no rule is named '%.*s'", len, name.data);
}

static int select_one(struct sd_str name, uint64_t *chosen, struct sd_err *err)
{
    static const char *const groups[] = {"all", "sd-scripts", "none"};
    const uint64_t sets[] = {~(uint64_t)0 >> (64 - RULES), sd_clean_default_set(), 0};
    for (size_t i = 0; i < 3; i++)
        if (name.len == strlen(groups[i]) && !memcmp(name.data, groups[i], name.len)) {
            *chosen |= sets[i];
            return 0;
        }
    for (size_t i = 0; i < RULES; i++)
        if (name.len == strlen(rules[i].name) && !memcmp(name.data, rules[i].name, name.len)) {
            *chosen |= (uint64_t)1 << i;
            return 0;
        }
    return unknown(name, err);
}

int sd_clean_select(const char *names, bool on, uint64_t *set, struct sd_err *err)
{
    struct sd_str rest = sd_str_of(names), name;
    uint64_t chosen = 0;
    while (sd_str_cut(&rest, sd_str_of(","), &name))
        if (select_one(sd_str_strip(name), &chosen, err))
            return -1;
    *set = on ? *set | chosen : *set & ~chosen;
    return 0;
}

/* ---- notes ---- */

int sd_clean_note(struct sd_clean_notes *notes, const char *rule, struct sd_str from, struct sd_str to)
{
    if (!notes)
        return 0;
    if (notes->n == notes->cap) {
        size_t cap = notes->cap ? 2 * notes->cap : 16;
        if (cap > SIZE_MAX / sizeof *notes->v)
            return -1;
        struct sd_clean_note *v = realloc(notes->v, cap * sizeof *v);
        if (!v)
            return -1;
        notes->v = v;
        notes->cap = cap;
    }
    struct sd_clean_note note = {.rule = rule,
                                 .member = notes->member,
                                 .from = notes->text.len,
                                 .from_len = from.len,
                                 .to_len = to.len,
                                 .gone = !to.data};
    if ((from.len && sd_buf_add(&notes->text, from.data, from.len)))
        return -1;
    note.to = notes->text.len;
    if (to.len && sd_buf_add(&notes->text, to.data, to.len))
        return -1;
    notes->v[notes->n++] = note;
    return 0;
}

void sd_clean_notes_free(struct sd_clean_notes *notes)
{
    free(notes->v);
    sd_buf_free(&notes->text);
    *notes = (struct sd_clean_notes){0};
}

/* The next piece that is not empty. */
static int next_piece(struct sd_str *rest, struct sd_str *piece)
{
    while (sd_str_cut(rest, sd_str_of(", "), piece))
        if (piece->len)
            return 1;
    return 0;
}

static size_t count_pieces(struct sd_str list)
{
    struct sd_str piece;
    size_t n = 0;
    while (next_piece(&list, &piece))
        n++;
    return n;
}

static int same(struct sd_str a, struct sd_str b)
{
    return a.len == b.len && !memcmp(a.data, b.data, a.len);
}

/* A rule either changes tags one by one, so that the lists are as long as each other, or drops some. */
int clean_note_list(struct sd_clean_notes *notes, const char *rule, struct sd_str before, struct sd_str after)
{
    if (!notes || same(before, after))
        return 0;
    int one_by_one = count_pieces(before) == count_pieces(after);
    struct sd_str old, new;
    int left = next_piece(&after, &new);
    while (next_piece(&before, &old)) {
        int kept = left && same(old, new);
        if (!kept && sd_clean_note(notes, rule, old, one_by_one && left ? new : (struct sd_str){0}))
            return -1;
        if (kept || one_by_one)
            left = next_piece(&after, &new);
    }
    return 0;
}

int clean_note_text(struct sd_clean_notes *notes, const char *rule, struct sd_str before, struct sd_str after)
{
    if (!notes || same(before, after))
        return 0;
    size_t shorter = before.len < after.len ? before.len : after.len, start = 0, end = 0;
    while (start < shorter && before.data[start] == after.data[start])
        start++;
    while (start > 0 && before.data[start - 1] != ' ')
        start--;
    while (end < shorter - start && before.data[before.len - 1 - end] == after.data[after.len - 1 - end])
        end++;
    while (end > 0 && before.data[before.len - end] != ' ')
        end--;
    return sd_clean_note(notes, rule, (struct sd_str){before.data + start, before.len - start - end},
                         (struct sd_str){after.data + start, after.len - start - end});
}

int clean_run(const struct sd_cleaning *c, enum sd_clean_id id, clean_step *step, struct sd_buf *text)
{
    if (!clean_has(c, id))
        return 0;
    if (!c->notes)
        return step(c, id, text);
    struct sd_buf before = SD_BUF_INIT;
    struct sd_str s = clean_view(text);
    int rc = sd_buf_add(&before, s.data, s.len) || step(c, id, text);
    if (!rc)
        rc = (*c->notes->member == 't' ? clean_note_list : clean_note_text)(
            c->notes, rules[id].name, clean_view(&before), clean_view(text));
    sd_buf_free(&before);
    return rc;
}
