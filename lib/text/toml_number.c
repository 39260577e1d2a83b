/* Numbers, dates and times of TOML. Each is matched as far as it goes; whatever follows must then be the end
 * of the value. */
#include "text/toml_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int sd_toml_digit(char c, int base)
{
    int d = is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 99;
    return d < base ? d : -1;
}

/* Length of digits with single underscores between them; 0 where there is none. */
static size_t match_digits(const char *p, const char *end, int base)
{
    size_t n = 0;
    while (p + n < end && sd_toml_digit(p[n], base) >= 0) {
        n++;
        if (p + n + 1 < end && p[n] == '_' && sd_toml_digit(p[n + 1], base) >= 0)
            n++;
    }
    return n;
}

/* ---- dates and times ---- */

/* Two digits at p[at], if they are there and between low and high; else -1. */
static int two(const char *p, size_t len, size_t at, int low, int high)
{
    if (at + 2 > len || !is_digit(p[at]) || !is_digit(p[at + 1]))
        return -1;
    int v = (p[at] - '0') * 10 + p[at + 1] - '0';
    return v >= low && v <= high ? v : -1;
}

/* Length of HH:MM:SS with a fraction, or 0. */
static size_t match_time(const char *p, size_t len)
{
    if (two(p, len, 0, 0, 23) < 0 || two(p, len, 3, 0, 59) < 0 || two(p, len, 6, 0, 59) < 0 || p[2] != ':' ||
        p[5] != ':')
        return 0;
    size_t n = 8;
    if (n + 1 < len && p[n] == '.' && is_digit(p[n + 1]))
        for (n++; n < len && is_digit(p[n]);)
            n++;
    return n;
}

/* Length of Z or +HH:MM, or 0. */
static size_t match_offset(const char *p, size_t len)
{
    if (len && (*p == 'Z' || *p == 'z'))
        return 1;
    bool offset = len >= 6 && (*p == '+' || *p == '-') && p[3] == ':' && two(p, len, 1, 0, 23) >= 0 &&
                  two(p, len, 4, 0, 59) >= 0;
    return offset ? 6 : 0;
}

/* Length of YYYY-MM-DD with what follows of a time, or 0. *real: the day is in the calendar. */
static size_t match_date(const char *p, size_t len, bool *real)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int century = two(p, len, 0, 0, 99), rest = two(p, len, 2, 0, 99), month = two(p, len, 5, 1, 12),
        day = two(p, len, 8, 1, 31);
    if (century < 0 || rest < 0 || month < 0 || day < 0 || p[4] != '-' || p[7] != '-')
        return 0;
    int year = century * 100 + rest;
    bool leap = (year % 4 == 0 && year % 100) || year % 400 == 0;
    *real = year > 0 && day <= days[month - 1] + (month == 2 && leap);
    if (len < 12 || !strchr("Tt ", p[10]))
        return 10;
    size_t time = match_time(p + 11, len - 11);
    return time ? 11 + time + match_offset(p + 11 + time, len - 11 - time) : 10;
}

/* 1 when one was there, 0, -1. */
static int read_time(struct sd_toml *t, struct sd_value *v)
{
    bool real = true;
    size_t len = (size_t)(t->end - t->at), n = match_date(t->at, len, &real);
    if (!n)
        n = match_time(t->at, len);
    if (!real)
        return sd_toml_fail(t, "there is no such day");
    if (!n)
        return 0;
    char *text = sd_arena_strndup(t->arena, t->at, n);
    if (!text)
        return sd_err_memory(t->err, n);
    v->type = SD_VALUE_TIME;
    v->s = (struct sd_str){text, n};
    t->at += n;
    return 1;
}

/* ---- numbers ---- */

static int set_int(struct sd_toml *t, const char *digits, size_t n, int base, bool minus, struct sd_value *v)
{
    uint64_t sum = 0, most = (uint64_t)INT64_MAX + minus;
    for (size_t i = 0; i < n; i++) {
        int d = sd_toml_digit(digits[i], base);
        if (d < 0)
            continue;
        if (sum > (most - (uint64_t)d) / (uint64_t)base)
            return sd_toml_fail(t, "a whole number that does not fit 64 bits");
        sum = sum * (uint64_t)base + (uint64_t)d;
    }
    v->type = SD_VALUE_INT;
    v->i = minus ? (int64_t)(0 - sum) : (int64_t)sum;
    return 0;
}

static int set_float(struct sd_toml *t, const char *text, size_t n, struct sd_value *v)
{
    sd_buf_clear(&t->scratch);
    for (size_t i = 0; i < n; i++)
        if (text[i] != '_' && sd_buf_addc(&t->scratch, text[i]))
            return sd_err_memory(t->err, n);
    v->type = SD_VALUE_FLOAT;
    v->f = strtod(t->scratch.data, NULL);
    return 0;
}

/* Length of the fraction and exponent at p, each of which may be missing. */
static size_t match_float_part(const char *p, const char *end)
{
    size_t n = 0;
    if (p < end && *p == '.') {
        size_t digits = match_digits(p + 1, end, 10);
        n = digits ? 1 + digits : 0;
    }
    const char *e = p + n;
    if (e < end && (*e == 'e' || *e == 'E')) {
        size_t sign = e + 1 < end && (e[1] == '+' || e[1] == '-');
        size_t digits = match_digits(e + 1 + sign, end, 10);
        n += digits ? 1 + sign + digits : 0;
    }
    return n;
}

static bool is_word(const char *p, const char *end, const char *word)
{
    return end - p >= 3 && !memcmp(p, word, 3);
}

static int read_decimal(struct sd_toml *t, struct sd_value *v)
{
    const char *p = t->at;
    bool minus = p < t->end && *p == '-';
    p += p < t->end && (*p == '+' || *p == '-');
    if (is_word(p, t->end, "inf") || is_word(p, t->end, "nan")) {
        v->type = SD_VALUE_FLOAT;
        v->f = *p == 'i' ? (minus ? -INFINITY : INFINITY) : NAN;
        t->at = p + 3;
        return 0;
    }
    size_t n = p < t->end && *p == '0' ? 1 : match_digits(p, t->end, 10);
    if (!n)
        return sd_toml_fail(t, "a value is expected");
    size_t more = match_float_part(p + n, t->end);
    if (more ? set_float(t, t->at, (size_t)(p - t->at) + n + more, v) : set_int(t, p, n, 10, minus, v))
        return -1;
    t->at = p + n + more;
    return 0;
}

int sd_toml_number(struct sd_toml *t, struct sd_value *v)
{
    int time = read_time(t, v);
    if (time)
        return time < 0 ? -1 : 0;
    if (t->end - t->at > 2 && *t->at == '0') {
        int base = t->at[1] == 'x' ? 16 : t->at[1] == 'o' ? 8 : t->at[1] == 'b' ? 2 : 0;
        size_t n = base ? match_digits(t->at + 2, t->end, base) : 0;
        if (n) {
            int bad = set_int(t, t->at + 2, n, base, false, v);
            t->at += bad ? 0 : 2 + n;
            return bad;
        }
    }
    return read_decimal(t, v);
}
