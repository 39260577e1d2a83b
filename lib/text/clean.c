/* The tag patterns all read ", X, " with no comma in X, so one walk over the list finds any of them: cut X
 * out at a comma and ask a small function whether it is of the kind. Tags are doubly separated (", a, , b, ")
 * while that goes on, so that neighbours both match. */
#include "text/clean.h"

#include <string.h>

#include "text/str.h"
#include "text/unicode.h"

typedef int tag_kind(struct sd_str tag);

static struct sd_str view(const struct sd_buf *b)
{
    return (struct sd_str){.data = b->data ? b->data : "", .len = b->len};
}

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
    struct sd_str s = view(text), tag;
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
 * once nothing is kept. One kind of hair length is, when all share it. */
static int clean_several_people(struct sd_buf *text)
{
    static tag_kind *const kinds[] = {is_hair_length, is_hair_cut, is_eyes, is_sleeves, is_hair_style};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (count_tags(view(text), kinds[i]) > 1 && replace_tags(text, kinds[i], ""))
            return -1;
    struct sd_str tag;
    struct sd_buf length = SD_BUF_INIT;
    int rc = 0;
    size_t at = find_tag(view(text), 0, is_hair_length, &tag);
    if (at != SIZE_MAX)
        rc = sd_buf_add(&length, text->data + at, tag.len + 4) ||
             replace_tags(text, is_hair_length, ", @@@, ");
    if (rc == 0 && count_tags(view(text), is_hair) > 1)
        rc = replace_tags(text, is_hair, "");
    if (rc == 0 && length.len > 0)
        rc = sd_str_replace(text, sd_str_of(", @@@, "), view(&length));
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
static int drop_repeated(struct sd_buf *text)
{
    struct sd_buf before = SD_BUF_INIT, whole = SD_BUF_INIT;
    struct sd_str tag;
    int rc = sd_buf_add(&before, text->data, text->len);
    struct sd_str s = view(&before);
    size_t at = rc ? SIZE_MAX : find_tag(s, 0, is_single_word, &tag);
    for (; at != SIZE_MAX && rc == 0; at = find_tag(s, after_tag(s, tag), is_single_word, &tag)) {
        if (!is_repeated(view(text), tag))
            continue;
        sd_buf_clear(&whole);
        rc = sd_buf_add(&whole, tag.data - 2, tag.len + 4) ||
             sd_str_replace(text, view(&whole), sd_str_of(""));
    }
    sd_buf_free(&before);
    sd_buf_free(&whole);
    return rc;
}

static int replace(struct sd_buf *text, const char *from, const char *to)
{
    return sd_str_replace(text, sd_str_of(from), sd_str_of(to));
}

static int clean_tags(struct sd_buf *text, struct sd_buf *out)
{
    if (replace(text, "^_^", "^@@@^") || replace(text, "_", " ") || replace(text, "^@@@^", "^_^"))
        return -1;
    size_t rating = sd_str_find(view(text), sd_str_of(", rating"), 0);
    struct sd_buf list = SD_BUF_INIT;
    struct sd_str s = {.data = view(text).data, .len = rating == SIZE_MAX ? text->len : rating};
    int rc = sd_buf_add(&list, s.data, s.len) || replace(&list, ", ", ", , ");
    sd_buf_clear(text);
    rc = rc || sd_buf_adds(text, ", ") || sd_buf_add(text, list.data, list.len) || sd_buf_adds(text, ", ");
    sd_buf_free(&list);
    if (rc)
        return -1;
    if ((sd_str_find(view(text), sd_str_of("girls"), 0) != SIZE_MAX ||
         sd_str_find(view(text), sd_str_of("boys"), 0) != SIZE_MAX) &&
        clean_several_people(text))
        return -1;
    if (drop_repeated(text) || replace(text, ", , ", ", "))
        return -1;
    return text->len > 4 ? sd_buf_add(out, text->data + 2, text->len - 4) : 0;
}

int sd_clean_tags(const char *tags, size_t len, struct sd_buf *out, struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    int rc = sd_buf_add(&text, tags, len) || clean_tags(&text, out);
    sd_buf_free(&text);
    return rc ? sd_err_memory(err, len) : 0;
}

int sd_clean_caption(const char *caption, size_t len, struct sd_buf *out, struct sd_err *err)
{
    static const char *const pairs[][2] = {
        {"anime anime", "anime"},
        {"young ", ""},
        {"anime girl", "girl"},
        {"cartoon female", "girl"},
        {"cartoon lady", "girl"},
        {"cartoon character", "girl"},
        {"cartoon woman", "girl"},
        {"cartoon women", "girls"},
        {"cartoon girl", "girl"},
        {"anime female", "girl"},
        {"anime lady", "girl"},
        {"anime character", "girl"},
        {"anime woman", "girl"},
        {"anime women", "girls"},
        {"lady", "girl"},
        {"female", "girl"},
        {"woman", "girl"},
        {"women", "girls"},
        {"people", "girls"},
        {"person", "girl"},
        {"a cartoon figure", "a figure"},
        {"a cartoon image", "an image"},
        {"a cartoon picture", "a picture"},
        {"an anime cartoon image", "an image"},
        {"a cartoon anime drawing", "a drawing"},
        {"a cartoon drawing", "a drawing"},
        {"girl girl", "girl"},
    };
    struct sd_buf text = SD_BUF_INIT;
    int rc = sd_buf_add(&text, caption, len);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs && rc == 0; i++)
        while (rc == 0 && sd_str_find(view(&text), sd_str_of(pairs[i][0]), 0) != SIZE_MAX)
            rc = replace(&text, pairs[i][0], pairs[i][1]);
    rc = rc || sd_buf_add(out, text.data, text.len);
    sd_buf_free(&text);
    return rc ? sd_err_memory(err, len) : 0;
}
