/* The user's cleaning rules, and the built-in ones that sd-scripts has not. */
#include "text/rules.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "text/clean.h"

/* "rule from>to", one after the other. */
static void tell(const struct sd_clean_notes *notes, struct sd_buf *b)
{
    sd_buf_clear(b);
    sd_buf_add(b, "", 0);
    for (size_t i = 0; i < notes->n; i++) {
        const struct sd_clean_note *n = &notes->v[i];
        sd_buf_addf(b, "%s%s %.*s>%.*s%s", i ? "; " : "", n->rule, (int)n->from_len,
                    notes->text.data + n->from, (int)n->to_len, notes->text.data + n->to, n->gone ? "-" : "");
    }
}

/* What becomes of a text: in `out`, or the message; or, where there are notes, what they tell. */
static const char *cleaned(const char *rules, uint64_t set, int caption, const char *text, struct sd_buf *out,
                           struct sd_clean_notes *notes)
{
    struct sd_err err = {0};
    struct sd_rules *r = sd_rules_new(&err);
    struct sd_rules_use *u = NULL;
    sd_buf_clear(out);
    sd_buf_add(out, "", 0);
    int rc = !r || sd_rules_parse(r, "f", rules, strlen(rules), &err) || sd_rules_finish(r, &err) ||
             !(u = sd_rules_use_new(r, &err));
    struct sd_cleaning by = {.set = set, .user = u, .notes = notes};
    rc = rc || (caption ? sd_clean_caption_by : sd_clean_tags_by)(&by, text, strlen(text), out, &err);
    if (rc) {
        sd_buf_clear(out);
        sd_buf_adds(out, err.msg);
    }
    if (notes)
        tell(notes, out);
    sd_rules_use_free(u);
    sd_rules_free(r);
    return out->data;
}

static uint64_t named(const char *names)
{
    struct sd_err err;
    uint64_t set = 0;
    return sd_clean_select(names, true, &set, &err) ? 0 : set;
}

static void is(const char *got, const char *want, const char *name)
{
    if (!ok(!strcmp(got, want), "%s", name))
        printf("# got  %s\n# want %s\n", got, want);
}

static void test_tags(struct sd_buf *b)
{
    static const struct {
        const char *rules, *tags, *want, *name;
    } rows[] = {
        {"replace a -> b, c", "a, x, a", "b, c, x, b, c", "replace: one tag by several"},
        {"replace a ->", "a, ab", "ab", "replace by nothing"},
        {"replace a -> b\nreplace b -> c", "a", "c", "replacements one after the other"},
        {"replace b -> c\nreplace a -> b", "a", "b", "in the order of the lines"},
        {"caption replace a -> b", "a", "a", "held to captions"},
        {"regex ^x(.)$ -> \\1\\1\\\\\\s.", "xa, xab", "aa\\ ., xab", "regex: groups, backslash, blank"},
        {"regex o -> 0", "foo, bar", "f00, bar", "regex: every match"},
        {"regex ^a -> ", "aab", "ab", "regex: the start is only once"},
        {"regex \\bb -> x", "bb b, a b", "xb x, a x", "regex: words"},
        {"regex z* -> -", "ab", "-a-b-", "regex: empty matches"},
        {"regex ^.$ -> one", "\xe7\x8c\xab, ab", "one, ab", "regex: characters, not bytes"},
        {"regex [\xc3\xa4\xc3\xb6] -> o", "\xc3\xb6l", "ol", "regex: letters beyond ASCII in brackets"},
        {"remove a, b\nremove c", "a, b, c, d", "d", "remove"},
        {"remove a", "a", "", "remove: nothing left"},
        {"alias b -> c\nalias a -> b", "a, x", "c, x", "alias of an alias"},
        {"alias a -> b", "a, x, b", "x, b", "alias: its name is there already"},
        {"alias a -> c\nalias b -> c", "a, b", "c", "two aliases of one"},
        {"imply a -> b, c\nimply c -> d", "a, x", "a, x, b, c, d", "imply, and what is implied"},
        {"imply a -> b\nimply c -> b", "a, c, b", "a, c, b", "imply: there already"},
        {"imply b -> d\nimply a -> e\nalias a -> b", "a", "b, d, e", "imply: an alias hands over its own"},
        {"imply a -> z\nalias z -> y", "a", "a, y", "imply: an alias behind the arrow"},
        {"imply a -> b\nremove b\nimply b -> c", "a", "a, c", "removals after implications"},
        {"order c, a\norder b", "x, a, b, y, c, a", "c, a, a, b, x, y", "order"},
        {"\xef\xbb\xbf# x\r\n\r\n  remove a  \r\n", "a, b", "b", "mark, comment, blanks, CR"},
        {"", "a,  b", "a,  b", "no rules"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        is(cleaned(rows[i].rules, 0, 0, rows[i].tags, b, NULL), rows[i].want, rows[i].name);
}

static void test_captions(struct sd_buf *b)
{
    static const struct {
        const char *rules, *caption, *want, *name;
    } rows[] = {
        {"replace cat -> dog", "cat cats concat cat-cat cat", "dog cats concat dog-dog dog", "whole words"},
        {"replace \xc3\xa9t\xc3\xa9 -> summer", "\xc3\xa9t\xc3\xa9 \xc3\xa9t\xc3\xa9s",
         "summer \xc3\xa9t\xc3\xa9s", "words of letters beyond ASCII"},
        {"replace (x) -> y", "a(x)b", "ayb", "no letter at the end: anywhere"},
        {"replace aa -> b", "aaaa", "aaaa", "no half of a word"},
        {"tags replace a -> b", "a", "a", "held to tags"},
        {"regex ([a-z]+) ([a-z]+) -> \\2 \\1", "one two three four", "two one four three", "regex"},
        {"remove a\nalias a -> b\nimply b -> c\norder a", "a", "a", "the others leave captions alone"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        is(cleaned(rows[i].rules, 0, 1, rows[i].caption, b, NULL), rows[i].want, rows[i].name);
}

static void test_refused(struct sd_buf *b)
{
    static const struct {
        const char *rules, *want;
    } rows[] = {
        {"\nremov a", "f:2: 'remov' is no kind of rule, did you mean remove; expected: "
                      "replace, regex, remove, alias, imply or order"},
        {"replace a", "f:1: no ' -> '; expected: replace FROM -> TO"},
        {"replace -> a", "f:1: no ' -> '; expected: replace FROM -> TO"},
        {"remove", "f:1: nothing behind the kind; expected: remove TAG, TAG..."},
        {"alias a -> b, c", "f:1: not one tag on each side; expected: alias TAG -> TAG"},
        {"imply a, b -> c", "f:1: more than one tag before ' -> '; expected: imply TAG -> TAG, TAG..."},
        {"alias a -> a", "f:1: aliases of 'a' lead back to it; expected no circle"},
        {"alias x -> a\nalias a -> b\nalias b -> a",
         "f:2: aliases of 'a' lead back to it; expected no circle"},
        {"imply a -> b\nimply b -> c\nimply c -> a",
         "f:3: implications of 'a' lead back to it; expected no circle"},
        {"alias b -> a\nimply a -> b", "f:2: implications of 'a' lead back to it; expected no circle"},
        {"regex a{101} -> b", "f:1: the counts in the pattern multiply to more than 100"},
        {"regex \\\\{11}{11} -> b", "f:1: the counts in the pattern multiply to more than 100"},
        {"regex [[:alpha:]]{11}[]{]{11} -> b", "f:1: the counts in the pattern multiply to more than 100"},
        {"regex (a)\\1 -> b", "f:1: the pattern refers back with \\1, which is not supported"},
        {"remove a\xff", "f:1: not UTF-8 text"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        is(cleaned(rows[i].rules, 0, 0, "a", b, NULL), rows[i].want, rows[i].want);
    struct sd_buf text = SD_BUF_INIT;
    for (int i = 0; i < SD_RULES_PATTERN + 1; i++)
        sd_buf_addc(&text, 'a');
    struct sd_buf rule = SD_BUF_INIT;
    sd_buf_addf(&rule, "regex %s -> b", text.data);
    is(cleaned(rule.data, 0, 0, "a", b, NULL), "f:1: a pattern of 501 bytes; expected at most 500",
       "a long pattern");
    while (text.len <= SD_RULES_REGEX_TEXT)
        sd_buf_addc(&text, 'a');
    is(cleaned("regex [{\\1] -> b", 0, 1, text.data, b, NULL),
       "f:1: a text of 4097 bytes; a pattern takes at most 4096", "a long text");
    is(cleaned("regex . -> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nreplace b -> c", 0, 1, "bb", b, NULL),
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "growth is fine");
    sd_buf_free(&text);
    sd_buf_free(&rule);
}

static void test_built_in(struct sd_buf *b)
{
    is(cleaned("", named("nfc"), 1, "e\xcc\x81t\xff", b, NULL), "e\xcc\x81t\xff", "nfc: not on other bytes");
    is(cleaned("", named("nfc"), 1, "e\xcc\x81t", b, NULL), "\xc3\xa9t", "nfc: captions");
    is(cleaned("", named("nfc"), 0, "a, e\xcc\x81", b, NULL), "a, \xc3\xa9", "nfc: tags");
    is(cleaned("", named("spaces"), 1, " a\t\n b\xe3\x80\x80 c ", b, NULL), "a b c", "spaces: captions");
    is(cleaned("", named("spaces"), 0, " a, , b  c ,  ", b, NULL), "a, b c", "spaces: tags");
    is(cleaned("replace b ->", named("spaces"), 1, "a b c", b, NULL), "a c",
       "spaces: after the user's rules");
    is(cleaned("", named("rating-tags,rating-tail"), 0, "rating:safe, a, general, rating: x, b", b, NULL),
       "a, b", "rating-tags: what follows stays");
    is(cleaned("", named("rating-tags"), 0, "general interest, explicit", b, NULL), "general interest",
       "rating-tags: sole tags");
    is(cleaned("", named("wd-underscores,underscores"), 0, "a_b, ^_^, >_<, o_o, a_bc, \xc3\xa9_\xc3\xa9", b,
               NULL),
       "a_b, ^_^, >_<, o_o, a bc, \xc3\xa9_\xc3\xa9", "wd-underscores: more than three characters");
    is(cleaned("", named("duplicates"), 0, "a, b, a, b, c", b, NULL), "a, b, c", "duplicates");
    is(cleaned("alias x -> a", named("duplicates"), 0, "a, b, a, x", b, NULL), "a, b", "duplicates, aliased");
    const char *people = "2girls, long hair, short hair, red hair, blue hair, red eyes, blue eyes";
    uint64_t set = sd_clean_default_set();
    is(cleaned("", set & ~named("hair-length"), 0, people, b, NULL), "2girls, long hair, short hair",
       "without hair-length");
    is(cleaned("", set & ~named("hair"), 0, people, b, NULL), "2girls, red hair, blue hair", "without hair");
    is(cleaned("", set & ~named("eyes"), 0, people, b, NULL), "2girls, red eyes, blue eyes", "without eyes");
    is(cleaned("", set & ~named("person"), 1, "a woman's persona", b, NULL), "a girl's persona",
       "without person");
    is(cleaned("", 0, 0, "a_b, rating:x, 2girls, red eyes, blue eyes, eyes", b, NULL),
       "a_b, rating:x, 2girls, red eyes, blue eyes, eyes", "without any");
}

static void test_names(void)
{
    size_t n;
    struct sd_err err;
    const struct sd_clean_rule *rules = sd_clean_rules(&n);
    int good = n <= 64;
    for (size_t i = 0; i < n; i++)
        good &= named(rules[i].name) == (uint64_t)1 << i;
    ok(good, "every rule has a name of its own");
    uint64_t set = 0;
    ok(named("all") >> (n - 1) == 1 && named("sd-scripts") == sd_clean_default_set(), "groups");
    ok(!sd_clean_select("none", true, &set, &err) && set == 0, "none");
    ok(sd_clean_select("woman, ladi", true, &set, &err) == -1 && set == 0 &&
           !strcmp(err.msg, "no rule is named 'ladi'; did you mean lady?"),
       "an unknown one");
}

static void test_notes(struct sd_buf *b)
{
    struct sd_clean_notes notes = {0};
    uint64_t set = named("sd-scripts,spaces,duplicates");
    cleaned("remove x", set, 0, "2girls, red_eyes,  blue_eyes, red shirt, shirt, x, a, a, rating:s, b", b,
            &notes);
    is(b->data,
       "spaces  blue_eyes>blue_eyes; underscores red_eyes>red eyes; underscores blue_eyes>blue eyes; "
       "rating-tail rating:s>-; rating-tail b>-; eyes red eyes>-; eyes blue eyes>-; repeated-words shirt>-; "
       "f:1 x>-; duplicates a>-",
       "each tag with its rule");
    notes.n = 0;
    cleaned("imply a -> b\norder b", 0, 0, "c, a", b, &notes);
    is(b->data, "f:1 a>a, b; f:2 c, a, b>b, c, a", "implications and orders");
    notes.n = 0;
    cleaned("replace x -> y\nregex [0-9] -> <\\0>\nregex q -> q", named("sd-scripts,nfc"), 1,
            "a woman woman q e\xcc\x81t 1 2 x", b, &notes);
    is(b->data,
       "nfc e\xcc\x81t>\xc3\xa9t; woman woman>girl; girl-girl girl girl>girl; f:1 x>y; "
       "f:2 1><1>; f:2 2><2>",
       "words of captions");
    notes.n = 0;
    cleaned("replace x -> y", set, 0, "a, b", b, &notes);
    ok(notes.n == 0, "nothing changed, nothing told");
    sd_clean_notes_free(&notes);
}

/* A hundred thousand of each are found at once. */
static void test_many(struct sd_buf *b)
{
    struct sd_buf rules = SD_BUF_INIT;
    for (int i = 0; i < 100000; i++)
        sd_buf_addf(&rules, "alias a%d -> a%d\nimply b%d -> b%d\nremove r%d\norder o%d\n", i, i + 1, i, i + 1,
                    i, i);
    cleaned(rules.data, 0, 0, "a0, b99990, r5, o7, o3", b, NULL);
    is(b->data,
       "o3, o7, a100000, b99990, b99991, b99992, b99993, b99994, b99995, b99996, b99997, b99998, "
       "b99999, b100000",
       "long chains");
    sd_buf_free(&rules);
}

int main(void)
{
    struct sd_buf b = SD_BUF_INIT;
    test_tags(&b);
    test_captions(&b);
    test_refused(&b);
    test_built_in(&b);
    test_names();
    test_notes(&b);
    test_many(&b);
    sd_buf_free(&b);
    return tap_end();
}
