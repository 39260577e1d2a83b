/* Patterns of the user's rules: POSIX extended expressions, matched in UTF-8 whatever the program's locale.
 *
 * The C library's matcher takes time and memory without bound for some patterns. So what makes it do so is
 * refused (references back, counts that multiply), texts are short, and the automaton, whose states it keeps
 * for ever, is built anew from time to time. */
#include "text/rules_private.h"

#include <string.h>

#include "text/clean.h"
#include "text/unicode.h"

enum {
    GROUPS = 10,
    FED_BYTES = 16 * 1024, /* bytes between two times an automaton is built */
};

/* The end of the bracket expression whose '[' stands at i. */
static size_t skip_bracket(struct sd_str p, size_t i)
{
    i++;
    if (i < p.len && p.data[i] == '^')
        i++;
    if (i < p.len && p.data[i] == ']')
        i++;
    while (i < p.len && p.data[i] != ']') {
        char kind = i + 1 < p.len && p.data[i] == '[' ? p.data[i + 1] : 0;
        i++;
        if (kind != ':' && kind != '.' && kind != '=')
            continue;
        size_t end = i + 1;
        while (end + 1 < p.len && !(p.data[end] == kind && p.data[end + 1] == ']'))
            end++;
        i = end + 1 < p.len ? end + 2 : p.len;
    }
    return i;
}

/* The larger number of the {m,n} whose '{' stands at i; at most a little over the limit. */
static size_t count_at(struct sd_str p, size_t i)
{
    size_t most = 1, n = 0;
    for (i++; i < p.len && p.data[i] != '}'; i++) {
        if (p.data[i] >= '0' && p.data[i] <= '9')
            n = n > SD_RULES_REPEATS ? n : n * 10 + (size_t)(p.data[i] - '0');
        else
            n = 0;
        most = n > most ? n : most;
    }
    return most;
}

static int check_pattern(struct sd_str p, struct sd_err *err)
{
    size_t repeats = 1;
    if (p.len > SD_RULES_PATTERN)
        return sd_err_set(err, SD_ERR_USAGE, "a pattern of %zu bytes; expected at most %d", p.len,
                          SD_RULES_PATTERN);
    for (size_t i = 0; i < p.len; i++) {
        if (p.data[i] == '\\') {
            if (++i < p.len && p.data[i] >= '1' && p.data[i] <= '9')
                return sd_err_set(err, SD_ERR_USAGE,
                                  "the pattern refers back with \\%c, which is not supported", p.data[i]);
        } else if (p.data[i] == '[') {
            i = skip_bracket(p, i);
        } else if (p.data[i] == '{') {
            repeats *= count_at(p, i);
        }
        if (repeats > SD_RULES_REPEATS)
            return sd_err_set(err, SD_ERR_USAGE, "the counts in the pattern multiply to more than %d",
                              SD_RULES_REPEATS);
    }
    return 0;
}

static int check_replacement(struct sd_str to, size_t groups, struct sd_err *err)
{
    for (size_t i = 0; i < to.len; i++) {
        if (to.data[i] != '\\')
            continue;
        char c = ++i < to.len ? to.data[i] : 0;
        if (c >= '0' && c <= '9' && (size_t)(c - '0') > groups)
            return sd_err_set(err, SD_ERR_USAGE, "\\%c in the replacement, but the pattern has %zu groups", c,
                              groups);
        if (!c || !strchr("0123456789\\s", c))
            return sd_err_set(err, SD_ERR_USAGE,
                              "a lone backslash in the replacement; expected \\0 to \\9, \\s or \\\\");
    }
    return 0;
}

static int compile(locale_t utf8, struct sd_str pattern, struct rule_regex *regex, struct sd_err *err)
{
    char text[SD_RULES_PATTERN + 1], why[128];
    memcpy(text, pattern.data, pattern.len);
    text[pattern.len] = 0;
    locale_t before = uselocale(utf8);
    int code = regcomp(&regex->re, text, REG_EXTENDED);
    if (code)
        regerror(code, &regex->re, why, sizeof why);
    uselocale(before);
    if (code == REG_ESPACE)
        return sd_err_set(err, SD_ERR_MACHINE, "out of memory for a pattern");
    if (code)
        return sd_err_set(err, SD_ERR_USAGE, "not an extended regular expression: %s", why);
    regex->compiled = true;
    regex->fed = 0;
    return 0;
}

int rule_regex_check(struct sd_rules *r, struct sd_str pattern, struct sd_str to, struct sd_err *err)
{
    struct rule_regex regex = {0};
    if (check_pattern(pattern, err))
        return -1;
    if (!r->utf8 && !(r->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", 0)))
        return sd_err_set(err, SD_ERR_MACHINE, "the C library has no locale C.UTF-8, which patterns need");
    if (compile(r->utf8, pattern, &regex, err))
        return -1;
    int rc = check_replacement(to, regex.re.re_nsub, err);
    rule_regex_free(&regex);
    return rc;
}

void rule_regex_free(struct rule_regex *regex)
{
    if (regex->compiled)
        regfree(&regex->re);
    regex->compiled = false;
}

static int add_replacement(struct sd_buf *out, struct sd_str to, struct sd_str s, const regmatch_t *m)
{
    for (size_t i = 0; i < to.len; i++) {
        char c = to.data[i];
        if (c == '\\' && i + 1 < to.len) {
            c = to.data[++i];
            if (c >= '0' && c <= '9') {
                const regmatch_t *g = &m[c - '0'];
                if (g->rm_so >= 0 && g->rm_eo > g->rm_so &&
                    sd_buf_add(out, s.data + g->rm_so, (size_t)(g->rm_eo - g->rm_so)))
                    return -1;
                continue;
            }
            c = c == 's' ? ' ' : c;
        }
        if (sd_buf_addc(out, c))
            return -1;
    }
    return 0;
}

/* The first match at `at` or later into m; false when there is none. */
static bool search(const struct rule_regex *regex, struct sd_str s, size_t at, regmatch_t *m)
{
    m[0].rm_so = (regoff_t)at;
    m[0].rm_eo = (regoff_t)s.len;
    return regexec(&regex->re, s.data, GROUPS, m, REG_STARTEND) == 0;
}

static int replace_all(const struct rule_text *rule, const struct rule_regex *regex,
                       struct sd_clean_notes *notes, struct sd_str s, struct sd_buf *out)
{
    regmatch_t m[GROUPS];
    size_t at = 0;
    int any = 0;
    while (at <= s.len && search(regex, s, at, m)) {
        size_t start = (size_t)m[0].rm_so, end = (size_t)m[0].rm_eo, from;
        if (sd_buf_add(out, s.data + at, start - at))
            return -1;
        from = out->len;
        if (add_replacement(out, rule->to, s, m))
            return -1;
        struct sd_str old = {s.data + start, end - start}, new = {out->data + from, out->len - from};
        if ((old.len != new.len || memcmp(old.data, new.data, old.len)) &&
            sd_clean_note(notes, rule->where, old, new))
            return -1;
        any = 1;
        at = end;
        if (end == start) { /* an empty match: the character behind it stays */
            uint32_t cp;
            size_t bytes = end < s.len ? sd_unicode_next(s.data + end, s.len - end, &cp) : 0;
            if (bytes && sd_buf_add(out, s.data + end, bytes))
                return -1;
            at = end + (bytes ? bytes : 1);
        }
    }
    if (any && at < s.len && sd_buf_add(out, s.data + at, s.len - at))
        return -1;
    return any;
}

int rule_regex_apply(const struct sd_rules *r, const struct rule_text *rule, struct rule_regex *regex,
                     struct sd_clean_notes *notes, struct sd_str s, struct sd_buf *out, struct sd_err *err)
{
    if (s.len > SD_RULES_REGEX_TEXT)
        return sd_err_set(err, SD_ERR_DATA, "%s: a text of %zu bytes; a pattern takes at most %d",
                          rule->where, s.len, SD_RULES_REGEX_TEXT);
    if (regex->fed > FED_BYTES)
        rule_regex_free(regex);
    if (!regex->compiled && compile(r->utf8, rule->from, regex, err))
        return -1;
    regex->fed += s.len + 1;
    sd_buf_clear(out);
    if (sd_buf_reserve(out, s.len))
        return sd_err_memory(err, s.len);
    locale_t before = uselocale(r->utf8);
    int rc = replace_all(rule, regex, notes, s, out);
    uselocale(before);
    return rc < 0 ? sd_err_memory(err, s.len) : rc;
}
