#include "text/toml_private.h"

#include <string.h>

#include "text/unicode.h"

/* ---- strings ---- */

static bool starts(const struct sd_toml *t, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(t->end - t->at) >= n && !memcmp(t->at, with, n);
}

static int memory(struct sd_toml *t)
{
    return sd_err_memory(t->err, t->scratch.len);
}

/* \uXXXX, \UXXXXXXXX; t->at is behind the letter. */
static int read_code_point(struct sd_toml *t, int digits)
{
    uint32_t cp = 0;
    char text[4];
    for (int i = 0; i < digits; i++, t->at++) {
        int d = t->at < t->end ? sd_toml_digit(*t->at, 16) : -1;
        if (d < 0)
            return sd_toml_fail(t, "%d hexadecimal digits are expected behind \\%c", digits,
                                digits == 4 ? 'u' : 'U');
        cp = cp << 4 | (uint32_t)d;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return sd_toml_fail(t, "U+%04X is no character", (unsigned)cp);
    return sd_buf_add(&t->scratch, text, sd_unicode_encode(cp, text)) ? memory(t) : 0;
}

/* A backslash before the end of a line takes away all blanks and line ends up to the next character. */
static int join_lines(struct sd_toml *t)
{
    sd_toml_skip_blanks(t);
    if (!sd_toml_newline(t))
        return sd_toml_fail(t, "an escape is expected behind the backslash, or the end of the line");
    do
        sd_toml_skip_blanks(t);
    while (sd_toml_newline(t));
    return 0;
}

static int read_escape(struct sd_toml *t, bool lines)
{
    static const char letters[] = "btnfr\"\\", means[] = "\b\t\n\f\r\"\\";
    t->at++;
    if (t->at == t->end)
        return sd_toml_fail(t, "the string does not end");
    if (lines && strchr(" \t\r\n", *t->at) && *t->at)
        return join_lines(t);
    char c = *t->at;
    const char *known = c ? strchr(letters, c) : NULL;
    if (!known && c != 'u' && c != 'U')
        return sd_toml_fail(t, "no such escape; known are \\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX \\UXXXXXXXX");
    t->at++;
    if (!known)
        return read_code_point(t, c == 'u' ? 4 : 8);
    return sd_buf_addc(&t->scratch, means[known - letters]) ? memory(t) : 0;
}

/* The bytes up to the next that means something. */
static int copy_plain(struct sd_toml *t, char quote)
{
    const char *from = t->at;
    while (t->at < t->end && *t->at != quote && !(quote == '"' && *t->at == '\\') &&
           ((unsigned char)*t->at >= 0x20 || *t->at == '\t') && *t->at != 0x7f)
        t->at++;
    return sd_buf_add(&t->scratch, from, (size_t)(t->at - from)) ? memory(t) : 0;
}

/* One to five quotes in a string of lines: 1 when the last three of them end it, else they belong to it. */
static int take_quotes(struct sd_toml *t, char quote)
{
    size_t n = 0;
    while (n < 5 && t->at + n < t->end && t->at[n] == quote)
        n++;
    size_t inside = n >= 3 ? n - 3 : n;
    if (sd_buf_add(&t->scratch, t->at, inside))
        return memory(t);
    t->at += n;
    return n >= 3;
}

int sd_toml_string(struct sd_toml *t, bool lines, struct sd_str *s)
{
    char quote = *t->at;
    lines = lines && starts(t, quote == '"' ? "\"\"\"" : "'''");
    struct sd_place start = sd_toml_place(t);
    t->at += lines ? 3 : 1;
    sd_buf_clear(&t->scratch);
    if (sd_buf_reserve(&t->scratch, 0))
        return memory(t);
    if (lines)
        sd_toml_newline(t);
    for (int ended = 0; !ended;) {
        if (copy_plain(t, quote))
            return -1;
        if (t->at == t->end)
            return sd_toml_fail_at(t, start, "the string does not end");
        if (*t->at == quote) {
            ended = lines ? take_quotes(t, quote) : 1;
            if (ended < 0)
                return -1;
            t->at += !lines;
        } else if (*t->at == '\\') {
            if (read_escape(t, lines))
                return -1;
        } else if (lines && sd_toml_newline(t)) {
            if (sd_buf_addc(&t->scratch, '\n'))
                return memory(t);
        } else if (*t->at == '\n' || *t->at == '\r') {
            return sd_toml_fail_at(t, start, "the string does not end in its line");
        } else {
            return sd_toml_fail(t, "a control character in a string");
        }
    }
    char *copy = sd_arena_strndup(t->arena, t->scratch.len ? t->scratch.data : "", t->scratch.len);
    *s = (struct sd_str){copy, t->scratch.len};
    return copy ? 0 : memory(t);
}

/* ---- arrays, inline tables ---- */

static int read_array(struct sd_toml *t, struct sd_value *v)
{
    v->type = SD_VALUE_ARRAY;
    v->state = SD_TOML_CLOSED;
    t->at++;
    for (;;) {
        if (sd_toml_skip_lines(t))
            return -1;
        if (t->at < t->end && *t->at == ']')
            break;
        struct sd_value_item *item = sd_toml_append(t, v, NULL);
        if (!item || sd_toml_value(t, &item->value) || sd_toml_skip_lines(t))
            return -1;
        item->place = item->value.place;
        if (t->at < t->end && *t->at == ',')
            t->at++;
        else if (t->at == t->end || *t->at != ']')
            return sd_toml_fail(t, "',' or ']' is expected in the array");
    }
    t->at++;
    return 0;
}

static int read_inline_table(struct sd_toml *t, struct sd_value *v)
{
    uint32_t outer = t->section;
    t->section = UINT32_MAX - t->tables; /* its dotted names are of one another only; headers count from 0 */
    sd_toml_new_table(t, v, SD_TOML_CLOSED);
    t->at++;
    sd_toml_skip_blanks(t);
    bool empty = t->at < t->end && *t->at == '}';
    while (!empty) {
        if (sd_toml_pair(t, v))
            return -1;
        sd_toml_skip_blanks(t);
        if (t->at < t->end && *t->at == '}')
            break;
        if (t->at == t->end || *t->at != ',')
            return sd_toml_fail(t, "',' or '}' is expected in the inline table");
        t->at++;
        sd_toml_skip_blanks(t);
    }
    t->at++;
    t->section = outer;
    return 0;
}

/* ---- any ---- */

static int read_word(struct sd_toml *t, const char *word, bool b, struct sd_value *v)
{
    if (!starts(t, word))
        return sd_toml_number(t, v);
    t->at += strlen(word);
    v->type = SD_VALUE_BOOL;
    v->b = b;
    return 0;
}

static int read_any(struct sd_toml *t, struct sd_value *v)
{
    switch (t->at < t->end ? *t->at : 0) {
    case '"':
    case '\'':
        v->type = SD_VALUE_STRING;
        return sd_toml_string(t, true, &v->s);
    case '[':
        return read_array(t, v);
    case '{':
        return read_inline_table(t, v);
    case 't':
        return read_word(t, "true", true, v);
    case 'f':
        return read_word(t, "false", false, v);
    default:
        return sd_toml_number(t, v);
    }
}

int sd_toml_value(struct sd_toml *t, struct sd_value *v)
{
    v->place = sd_toml_place(t);
    if (t->depth >= SD_TOML_DEPTH)
        return sd_toml_fail(t, "nested deeper than %d", SD_TOML_DEPTH);
    t->depth++;
    int bad = read_any(t, v);
    t->depth--;
    if (!bad && v->type != SD_VALUE_TABLE)
        v->state = SD_TOML_CLOSED;
    return bad;
}
