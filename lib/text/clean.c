/* The tag patterns all read ", X, " with no comma in X, so one walk over the list finds any of them: cut X
 * out at a comma and ask a small function whether it is of the kind. Tags are doubly separated (", a, , b, ")
 * while that goes on, so that neighbours both match. */
#include "text/clean_private.h"

#include <string.h>

#include "text/rules.h"
#include "text/unicode.h"

typedef int tag_kind(struct sd_str tag);

static int is_one_of(struct sd_str tag, const char *const *list)
{
    for (; *list; list++)
        if (tag.len == strlen(*list) && !memcmp(tag.data, *list, tag.len))
            return 1;
    return 0;
}

/* Length of the \w characters at s[i], and - if dashes count too. */
static size_t word_length(struct sd_str s, size_t i, int dashes)
{
    size_t start = i;
    while (i < s.len) {
        uint32_t cp;
        size_t bytes = sd_unicode_next(s.data + i, s.len - i, &cp);
        if (!sd_unicode_is_word(cp) && !(dashes && cp == '-'))
            break;
        i += bytes;
    }
    return i - start;
}

static int is_word(struct sd_str tag)
{
    return tag.len > 0 && word_length(tag, 0, 1) == tag.len;
}

/* [\w\-]+ and then the noun, which brings its own blank. */
static int is_word_and(struct sd_str tag, const char *noun)
{
    struct sd_str end = sd_str_of(noun);
    return sd_str_ends(tag, end) && is_word((struct sd_str){.data = tag.data, .len = tag.len - end.len});
}

static int is_hair_length(struct sd_str tag)
{
    static const char *const list[] = {"long hair", "short hair", "medium hair", NULL};
    return is_one_of(tag, list);
}

static int is_hair_cut(struct sd_str tag)
{
    static const char *const list[] = {"bob cut", "hime cut", NULL};
    return is_one_of(tag, list);
}

static int is_eyes(struct sd_str tag)
{
    return is_word_and(tag, " eyes");
}

static int is_sleeves(struct sd_str tag)
{
    static const char *const list[] = {"sleeveless", NULL};
    return is_word_and(tag, " sleeves") || is_one_of(tag, list);
}

static int is_hair_style(struct sd_str tag)
{
    static const char *const list[] = {
        "ponytail",        "braid",       "ahoge",     "twintails", "single hair bun",
        "single side bun", "two side up", "two tails", "sidelocks", NULL};
    return is_one_of(tag, list) || is_word_and(tag, " bun") || is_word_and(tag, " braid");
}

static int is_hair(struct sd_str tag)
{
    return is_word_and(tag, " hair");
}

static int is_single_word(struct sd_str tag)
{
    static const char *const list[] = {"hair ornament", NULL};
    return is_word(tag) || is_one_of(tag, list);
}

/* The first ", X, " at `from` or later whose X is of the kind: X in *tag, the place of its comma returned. */
static size_t find_tag(struct sd_str s, size_t from, tag_kind *kind, struct sd_str *tag)
{
    struct sd_str between = sd_str_of(", ");
    for (;; from++) {
        from = sd_str_find(s, between, from);
        if (from == SIZE_MAX)
            return SIZE_MAX;
        const char *start = s.data + from + 2, *end = memchr(start, ',', s.len - from - 2);
        if (!end)
            return SIZE_MAX;
        *tag = (struct sd_str){.data = start, .len = (size_t)(end - start)};
        if (end + 1 < s.data + s.len && end[1] == ' ' && kind(*tag))
            return from;
    }
}

static size_t after_tag(struct sd_str s, struct sd_str tag)
{
    return (size_t)(tag.data - s.data) + tag.len + 2;
}

static size_t count_tags(struct sd_str s, tag_kind *kind)
{
    struct sd_str tag;
    size_t n = 0;
    for (size_t at = find_tag(s, 0, kind, &tag); at != SIZE_MAX;
         at = find_tag(s, after_tag(s, tag), kind, &tag))
        n++;
    return n;
}

/* Puts `instead` in the place of every ", X, ". */
static int replace_tags(struct sd_buf *text, tag_kind *kind, const char *instead)
{
    struct sd_buf out = SD_BUF_INIT;
    struct sd_str s = clean_view(text), tag;
    size_t done = 0, at;
    while ((at = find_tag(s, done, kind, &tag)) != SIZE_MAX) {
        if (sd_buf_add(&out, s.data + done, at - done) || sd_buf_adds(&out, instead))
            goto fail;
        done = after_tag(s, tag);
    }
    if (sd_buf_add(&out, s.data + done, s.len - done))
        goto fail;
    sd_buf_free(text);
    *text = out;
    return 0;
fail:
    sd_buf_free(&out);
    return -1;
}

/* With several people no hair colour, cut, eyes or sleeves can be told apart, so of kinds that come more than
 * once nothing is kept. */
static int drop_kind(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    static tag_kind *const kinds[] = {is_hair_length, is_hair_cut, is_eyes, is_sleeves, is_hair_style};
    (void)c;
    tag_kind *kind = kinds[id - CLEAN_HAIR_LENGTH];
    return count_tags(clean_view(text), kind) > 1 ? replace_tags(text, kind, "") : 0;
}

static int is_hair_but_length(struct sd_str tag)
{
    return is_hair(tag) && !is_hair_length(tag);
}

/* One kind of hair length is kept, when all share it; all of them, where nobody asked to drop any. */
static int drop_hair(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)id;
    if (!clean_has(c, CLEAN_HAIR_LENGTH))
        return count_tags(clean_view(text), is_hair_but_length) > 1
                   ? replace_tags(text, is_hair_but_length, "")
                   : 0;
    struct sd_str tag;
    struct sd_buf length = SD_BUF_INIT;
    int rc = 0;
    size_t at = find_tag(clean_view(text), 0, is_hair_length, &tag);
    if (at != SIZE_MAX)
        rc = sd_buf_add(&length, text->data + at, tag.len + 4) ||
             replace_tags(text, is_hair_length, ", @@@, ");
    if (rc == 0 && count_tags(clean_view(text), is_hair) > 1)
        rc = replace_tags(text, is_hair, "");
    if (rc == 0 && length.len > 0)
        rc = sd_str_replace(text, sd_str_of(", @@@, "), clean_view(&length));
    sd_buf_free(&length);
    return rc;
}

/* Whether some tag is one or more words, each with a blank after it, and then `word`. */
static int is_repeated(struct sd_str s, struct sd_str word)
{
    struct sd_str between = sd_str_of(", ");
    for (size_t at = sd_str_find(s, between, 0); at != SIZE_MAX; at = sd_str_find(s, between, at + 1)) {
        size_t i = at + 2, len;
        while ((len = word_length(s, i, 0)) > 0 && i + len < s.len && s.data[i + len] == ' ') {
            i += len + 1;
            struct sd_str rest = {.data = s.data + i, .len = s.len - i};
            if (!sd_str_starts(rest, word))
                continue;
            rest.data += word.len;
            rest.len -= word.len;
            if (sd_str_starts(rest, between))
                return 1;
        }
    }
    return 0;
}

/* Drops "shirt" where there is a "white shirt". The list of words is the one before anything is dropped. */
static int drop_repeated(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    struct sd_buf before = SD_BUF_INIT, whole = SD_BUF_INIT;
    struct sd_str tag;
    int rc = sd_buf_add(&before, text->data, text->len);
    struct sd_str s = clean_view(&before);
    size_t at = rc ? SIZE_MAX : find_tag(s, 0, is_single_word, &tag);
    for (; at != SIZE_MAX && rc == 0; at = find_tag(s, after_tag(s, tag), is_single_word, &tag)) {
        if (!is_repeated(clean_view(text), tag))
            continue;
        sd_buf_clear(&whole);
        rc = sd_buf_add(&whole, tag.data - 2, tag.len + 4) ||
             sd_str_replace(text, clean_view(&whole), sd_str_of(""));
    }
    sd_buf_free(&before);
    sd_buf_free(&whole);
    return rc;
}

static int replace(struct sd_buf *text, const char *from, const char *to)
{
    return sd_str_replace(text, sd_str_of(from), sd_str_of(to));
}

static int blank_underscores(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    return replace(text, "^_^", "^@@@^") || replace(text, "_", " ") || replace(text, "^@@@^", "^_^") ? -1 : 0;
}

static int cut_at_rating(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    size_t rating = sd_str_find(clean_view(text), sd_str_of(", rating"), 0);
    if (rating != SIZE_MAX) {
        text->len = rating;
        text->data[rating] = 0;
    }
    return 0;
}

/* ", a, , b, " */
static int put_commas_around(struct sd_buf *text)
{
    struct sd_buf list = SD_BUF_INIT;
    int rc = replace(text, ", ", ", , ") || sd_buf_reserve(&list, text->len + 4) ||
             sd_buf_adds(&list, ", ") || sd_buf_add(&list, clean_view(text).data, text->len) ||
             sd_buf_adds(&list, ", ");
    if (rc) {
        sd_buf_free(&list);
        return -1;
    }
    sd_buf_free(text);
    *text = list;
    return 0;
}

/* What the original does. */
static int clean_tags(const struct sd_cleaning *c, struct sd_buf *text, struct sd_buf *out)
{
    int wd = clean_has(c, CLEAN_WD_UNDERSCORES), rating = clean_has(c, CLEAN_RATING_TAGS);
    if ((!wd && clean_run(c, CLEAN_UNDERSCORES, blank_underscores, text)) ||
        (!rating && clean_run(c, CLEAN_RATING_TAIL, cut_at_rating, text)) || put_commas_around(text))
        return -1;
    if (sd_str_find(clean_view(text), sd_str_of("girls"), 0) != SIZE_MAX ||
        sd_str_find(clean_view(text), sd_str_of("boys"), 0) != SIZE_MAX) {
        for (int id = CLEAN_HAIR_LENGTH; id <= CLEAN_HAIR_STYLE; id++)
            if (clean_run(c, (enum sd_clean_id)id, drop_kind, text))
                return -1;
        if (clean_run(c, CLEAN_HAIR, drop_hair, text))
            return -1;
    }
    if (clean_run(c, CLEAN_REPEATED_WORDS, drop_repeated, text) || replace(text, ", , ", ", "))
        return -1;
    return text->len > 4 ? sd_buf_add(out, text->data + 2, text->len - 4) : 0;
}

/* err where the user's rules failed; otherwise memory is out. */
static int clean_all_tags(const struct sd_cleaning *c, struct sd_buf *text, struct sd_buf *out,
                          struct sd_err *err)
{
    struct sd_buf list = SD_BUF_INIT;
    if (clean_run(c, CLEAN_NFC, clean_nfc, text) || clean_run(c, CLEAN_SPACES, clean_tag_spaces, text) ||
        clean_run(c, CLEAN_RATING_TAGS, clean_rating_tags, text) ||
        clean_run(c, CLEAN_WD_UNDERSCORES, clean_wd_underscores, text))
        return -1;
    if (!c->user && !clean_has(c, CLEAN_SPACES) && !clean_has(c, CLEAN_DUPLICATES))
        return clean_tags(c, text, out);
    int rc = clean_tags(c, text, &list) || (c->user && sd_rules_tags(c->user, c->notes, &list, err)) ||
             clean_run(c, CLEAN_SPACES, clean_tag_spaces, &list) ||
             clean_run(c, CLEAN_DUPLICATES, clean_duplicates, &list) ||
             (list.len && sd_buf_add(out, list.data, list.len));
    sd_buf_free(&list);
    return rc;
}

int sd_clean_tags_by(const struct sd_cleaning *c, const char *tags, size_t len, struct sd_buf *out,
                     struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    struct sd_err why = {0};
    if (c->notes)
        c->notes->member = "tags";
    int rc = sd_buf_add(&text, tags, len) || clean_all_tags(c, &text, out, &why);
    sd_buf_free(&text);
    if (rc && why.code)
        return sd_err_set(err, (enum sd_err_code)why.code, "%s", why.msg);
    return rc ? sd_err_memory(err, len) : 0;
}

int sd_clean_tags(const char *tags, size_t len, struct sd_buf *out, struct sd_err *err)
{
    const struct sd_cleaning c = {.set = sd_clean_default_set()};
    return sd_clean_tags_by(&c, tags, len, out, err);
}

#define PAIR(name, from, to) {name, from, to},

static int replace_words(const struct sd_cleaning *c, struct sd_buf *text)
{
    static const char *const pairs[][3] = {CLEAN_CAPTION_RULES(PAIR)};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct sd_str from = sd_str_of(pairs[i][1]), to = sd_str_of(pairs[i][2]);
        if (!(c->set >> CLEAN_CAPTION >> i & 1) || sd_str_find(clean_view(text), from, 0) == SIZE_MAX)
            continue;
        do {
            if (sd_str_replace(text, from, to))
                return -1;
        } while (sd_str_find(clean_view(text), from, 0) != SIZE_MAX);
        if (sd_clean_note(c->notes, pairs[i][0], from, to))
            return -1;
    }
    return 0;
}

int sd_clean_caption_by(const struct sd_cleaning *c, const char *caption, size_t len, struct sd_buf *out,
                        struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    struct sd_err why = {0};
    if (c->notes)
        c->notes->member = "caption";
    int rc = sd_buf_add(&text, caption, len) || clean_run(c, CLEAN_NFC, clean_nfc, &text) ||
             clean_run(c, CLEAN_SPACES, clean_caption_spaces, &text) || replace_words(c, &text) ||
             (c->user && sd_rules_caption(c->user, c->notes, &text, &why)) ||
             clean_run(c, CLEAN_SPACES, clean_caption_spaces, &text) ||
             sd_buf_add(out, clean_view(&text).data, text.len);
    sd_buf_free(&text);
    if (rc && why.code)
        return sd_err_set(err, (enum sd_err_code)why.code, "%s", why.msg);
    return rc ? sd_err_memory(err, len) : 0;
}

int sd_clean_caption(const char *caption, size_t len, struct sd_buf *out, struct sd_err *err)
{
    const struct sd_cleaning c = {.set = sd_clean_default_set()};
    return sd_clean_caption_by(&c, caption, len, out, err);
}
