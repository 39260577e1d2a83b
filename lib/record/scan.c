#include "record/scan.h"

#include <string.h>

static int fail(struct sd_scan *s, const char *why)
{
    s->why = why;
    return -1;
}

void sd_scan_space(struct sd_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

size_t sd_utf8_sequence(const char *p, const char *end)
{
    const unsigned char *u = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    if (!left)
        return 0;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return 0;
    size_t n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    if (left < n || (u[1] & 0xc0) != 0x80 || (n > 2 && (u[2] & 0xc0) != 0x80) ||
        (n > 3 && (u[3] & 0xc0) != 0x80))
        return 0;
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) || (u[0] == 0xf0 && u[1] < 0x90) ||
        (u[0] == 0xf4 && u[1] > 0x8f)) /* overlong, surrogate, beyond U+10FFFF */
        return 0;
    return n;
}

#define ONES UINT64_C(0x0101010101010101)
#define HIGH UINT64_C(0x8080808080808080)

/* The high bit of each byte that is zero (bytes above the first such may be wrong, which does not matter
 * here). */
static uint64_t zero_bytes(uint64_t w)
{
    return (w - ONES) & ~w & HIGH;
}

/* Skips bytes that a JSON string holds as they are: ASCII but control characters, quote and backslash. */
static const char *skip_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        uint64_t odd = (w & HIGH) | ((w - ONES * 0x20) & HIGH) | zero_bytes(w ^ ONES * '"') |
                       zero_bytes(w ^ ONES * '\\');
        if (odd)
            break;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' && *p != '\\')
        p++;
    return p;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)p[i];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

int sd_scan_string(struct sd_scan *s, bool *escaped)
{
    if (s->at >= s->end || *s->at != '"')
        return fail(s, "a string is expected");
    s->at++;
    *escaped = false;
    for (;;) {
        s->at = skip_plain(s->at, s->end);
        if (s->at >= s->end)
            return fail(s, "the string does not end");
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') {
            s->at++;
            return 0;
        }
        if (c < 0x20)
            return fail(s, "a control character in a string");
        if (c == '\\') {
            *escaped = true;
            if (s->end - s->at < 2)
                return fail(s, "the string does not end");
            if (s->at[1] == 'u') {
                if (s->end - s->at < 6 || hex4(s->at + 2) < 0)
                    return fail(s, "\\u without four hexadecimal digits");
                s->at += 6;
            } else if (s->at[1] && strchr("\"\\/bfnrt", s->at[1])) {
                s->at += 2;
            } else {
                return fail(s, "an unknown escape in a string");
            }
        } else {
            size_t n = sd_utf8_sequence(s->at, s->end);
            if (!n)
                return fail(s, "invalid UTF-8");
            s->at += n;
        }
    }
}

static bool digit(const struct sd_scan *s)
{
    return s->at < s->end && *s->at >= '0' && *s->at <= '9';
}

static int scan_number(struct sd_scan *s)
{
    if (s->at < s->end && *s->at == '-')
        s->at++;
    if (!digit(s))
        return fail(s, "a value is expected");
    if (*s->at == '0')
        s->at++;
    else
        while (digit(s))
            s->at++;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!digit(s))
            return fail(s, "a digit is expected");
        while (digit(s))
            s->at++;
    }
    if (s->at < s->end && (*s->at | 32) == 'e') {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
            s->at++;
        if (!digit(s))
            return fail(s, "a digit is expected");
        while (digit(s))
            s->at++;
    }
    return 0;
}

static int scan_word(struct sd_scan *s, const char *word, size_t len)
{
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len))
        return fail(s, "a value is expected");
    s->at += len;
    return 0;
}

static int scan_scalar(struct sd_scan *s)
{
    bool escaped;
    switch (*s->at) {
    case '"':
        return sd_scan_string(s, &escaped);
    case 't':
        return scan_word(s, "true", 4);
    case 'f':
        return scan_word(s, "false", 5);
    case 'n':
        return scan_word(s, "null", 4);
    default:
        return scan_number(s);
    }
}

int sd_scan_colon(struct sd_scan *s)
{
    sd_scan_space(s);
    if (s->at >= s->end || *s->at != ':')
        return fail(s, "':' is expected");
    s->at++;
    sd_scan_space(s);
    return 0;
}

/* "name" : at the start of an object's member. */
static int scan_name(struct sd_scan *s)
{
    bool escaped;
    sd_scan_space(s);
    if (sd_scan_string(s, &escaped))
        return -1;
    return sd_scan_colon(s);
}

/* Behind a value: a comma (then on to the next value, 1) or the ends of what is open (0 when nothing is left
 * open). */
static int scan_after(struct sd_scan *s, char *open, int *depth)
{
    while (*depth) {
        sd_scan_space(s);
        if (s->at >= s->end)
            return fail(s, open[*depth - 1] == '{' ? "the object does not end" : "the array does not end");
        if (*s->at == ',') {
            s->at++;
            return open[*depth - 1] == '{' && scan_name(s) ? -1 : 1;
        }
        if (*s->at != (open[*depth - 1] == '{' ? '}' : ']'))
            return fail(s, open[*depth - 1] == '{' ? "',' or '}' is expected" : "',' or ']' is expected");
        s->at++;
        --*depth;
    }
    return 0;
}

int sd_scan_value(struct sd_scan *s)
{
    char open[SD_SCAN_DEPTH]; /* the brackets we are in */
    int depth = 0, more = 1;
    while (more == 1) {
        sd_scan_space(s);
        if (s->at >= s->end)
            return fail(s, "a value is expected");
        char c = *s->at;
        if (c == '{' || c == '[') {
            if (depth == SD_SCAN_DEPTH)
                return fail(s, "nested too deep");
            open[depth++] = c;
            s->at++;
            sd_scan_space(s);
            bool empty = s->at < s->end && *s->at == (c == '{' ? '}' : ']');
            if (!empty) {
                if (c == '{' && scan_name(s))
                    return -1;
                continue;
            }
        } else if (scan_scalar(s)) {
            return -1;
        }
        more = scan_after(s, open, &depth);
    }
    return more;
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* One \uXXXX at p, or a pair of them. Returns the bytes read. */
static size_t unescape_u(const char *p, const char *end, char *out, size_t *written)
{
    uint32_t c = (uint32_t)hex4(p + 2);
    if (c >= 0xd800 && c < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
        uint32_t low = (uint32_t)hex4(p + 8);
        if (low >= 0xdc00 && low < 0xe000) {
            *written = put_utf8(out, 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
            return 12;
        }
    }
    if (c >= 0xdc80 && c <= 0xdcff) {
        out[0] = (char)(c - 0xdc00);
        *written = 1;
    } else {
        *written = put_utf8(out, c >= 0xd800 && c < 0xe000 ? 0xfffd : c);
    }
    return 6;
}

size_t sd_scan_unescape(char *out, const char *text, size_t len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *p = text, *end = text + len;
    char *o = out;
    while (p < end) {
        const char *q = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((q ? q : end) - p), wrote = 1;
        memmove(o, p, plain);
        o += plain;
        p += plain;
        if (!q)
            break;
        if (p[1] == 'u') {
            p += unescape_u(p, end, o, &wrote);
        } else {
            *o = to[strchr(from, p[1]) - from];
            p += 2;
        }
        o += wrote;
    }
    return (size_t)(o - out);
}

int sd_scan_quote(struct sd_buf *b, const char *s, size_t len)
{
    const char *p = s, *end = s + len;
    int bad = sd_buf_addc(b, '"');
    while (p < end && !bad) {
        const char *q = skip_plain(p, end);
        bad |= sd_buf_add(b, p, (size_t)(q - p));
        p = q;
        if (p == end)
            break;
        unsigned char c = (unsigned char)*p;
        static const char short_form[] = "\b\t\n\f\r\"\\", letter[] = "btnfr\"\\";
        const char *hit = c ? strchr(short_form, c) : NULL;
        if (hit) {
            bad |= sd_buf_addc(b, '\\') | sd_buf_addc(b, letter[hit - short_form]);
            p++;
        } else if (c < 0x20) {
            bad |= sd_buf_addf(b, "\\u%04x", c);
            p++;
        } else {
            size_t n = sd_utf8_sequence(p, end);
            bad |= n ? sd_buf_add(b, p, n) : sd_buf_addf(b, "\\udc%02x", c);
            p += n ? n : 1;
        }
    }
    return (bad | sd_buf_addc(b, '"')) ? -1 : 0;
}
