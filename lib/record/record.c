#include "record/record.h"

#include "base/json.h"
#include "record/scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sd_record_text {
    struct sd_record_text *next;
    char data[];
};

static char *new_text(struct sd_record *r, size_t len)
{
    struct sd_record_text *t = malloc(sizeof *t + len + 1);
    if (!t)
        return NULL;
    t->next = r->texts;
    r->texts = t;
    return t->data;
}

/* ---- reading ---- */

static void forget(struct sd_record *r)
{
    for (struct sd_record_text *t = r->texts, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    r->texts = NULL;
    r->count = 0;
    r->changed = false;
    r->line = "{}";
    r->line_len = 2;
    r->open_len = r->close_len = 1;
}

void sd_record_reset(struct sd_record *r)
{
    forget(r);
}

void sd_record_free(struct sd_record *r)
{
    forget(r);
    free(r->members);
    sd_buf_free(&r->scratch);
    *r = SD_RECORD_INIT;
}

static struct sd_member *new_member(struct sd_record *r)
{
    if (r->count == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 16;
        struct sd_member *m = realloc(r->members, cap * sizeof *m);
        if (!m)
            return NULL;
        r->members = m;
        r->cap = cap;
    }
    struct sd_member *m = &r->members[r->count];
    *m = (struct sd_member){0};
    return m;
}

/* Reads `"name" : value` up to the comma or brace that follows it. 0, -1 for bad text, -2 when memory is out.
 */
static int read_member(struct sd_record *r, struct sd_scan *s)
{
    struct sd_member *m = new_member(r);
    bool escaped;
    if (!m)
        return -2;
    m->lead = s->at;
    sd_scan_space(s);
    const char *quote = s->at;
    if (sd_scan_string(s, &escaped))
        return -1;
    m->name = quote + 1;
    m->name_len = (size_t)(s->at - quote) - 2;
    if (escaped) {
        char *name = new_text(r, m->name_len);
        if (!name)
            return -2;
        m->name_len = sd_scan_unescape(name, m->name, m->name_len);
        m->name = name;
    }
    if (sd_scan_colon(s))
        return -1;
    m->value = s->at;
    m->lead_len = (size_t)(m->value - m->lead);
    if (sd_scan_value(s))
        return -1;
    m->value_len = (size_t)(s->at - m->value);
    m->tail = s->at;
    sd_scan_space(s);
    m->tail_len = (size_t)(s->at - m->tail);
    r->count++;
    return 0;
}

static int read_object(struct sd_record *r, struct sd_scan *s)
{
    sd_scan_space(s);
    if (s->at >= s->end || *s->at != '{') {
        s->why = "not a JSON object";
        return -1;
    }
    s->at++;
    r->open_len = (size_t)(s->at - r->line);
    const char *inside = s->at;
    sd_scan_space(s);
    if (s->at < s->end && *s->at != '}')
        for (s->at = inside;; s->at++) {
            int bad = read_member(r, s);
            if (bad)
                return bad;
            if (s->at >= s->end || *s->at != ',')
                break;
        }
    if (s->at >= s->end || *s->at != '}') {
        s->why = s->at >= s->end ? "the object does not end" : "',' or '}' is expected";
        return -1;
    }
    r->close_len = (size_t)(s->end - s->at);
    s->at++;
    sd_scan_space(s);
    if (s->at != s->end) {
        s->why = "more text after the object";
        return -1;
    }
    return 0;
}

int sd_record_parse(struct sd_record *r, const char *line, size_t len, struct sd_err *err)
{
    forget(r);
    r->line = line;
    r->line_len = len;
    struct sd_scan s = {.at = line, .end = line + len};
    int bad = read_object(r, &s);
    if (!bad)
        return 0;
    forget(r);
    if (bad == -2)
        return sd_err_memory(err, len);
    return sd_err_set(err, SD_ERR_DATA, "%s at byte %zu", s.why, (size_t)(s.at - line) + 1);
}

int sd_record_parse_copy(struct sd_record *r, const char *line, size_t len, struct sd_err *err)
{
    struct sd_record_text *t = malloc(sizeof *t + len + 1);
    if (!t)
        return sd_err_memory(err, len);
    memcpy(t->data, line, len);
    t->next = NULL;
    if (sd_record_parse(r, t->data, len, err)) {
        free(t);
        return -1;
    }
    t->next = r->texts;
    r->texts = t;
    return 0;
}

int sd_record_write(const struct sd_record *r, struct sd_buf *out)
{
    if (!r->line)
        return sd_buf_adds(out, "{}");
    if (!r->changed)
        return sd_buf_add(out, r->line, r->line_len);
    int bad = sd_buf_add(out, r->line, r->open_len);
    for (size_t i = 0; i < r->count; i++) {
        const struct sd_member *m = &r->members[i];
        if (i)
            bad |= sd_buf_addc(out, ',');
        bad |= sd_buf_add(out, m->lead, m->lead_len);
        bad |= sd_buf_add(out, m->value, m->value_len);
        bad |= sd_buf_add(out, m->tail, m->tail_len);
    }
    bad |= sd_buf_add(out, r->line + r->line_len - r->close_len, r->close_len);
    return bad ? -1 : 0;
}

/* ---- getting ---- */

static struct sd_member *find(const struct sd_record *r, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = r->count; i-- > 0;)
        if (r->members[i].name_len == len && !memcmp(r->members[i].name, name, len))
            return &r->members[i];
    return NULL;
}

const struct sd_member *sd_record_find(const struct sd_record *r, const char *name)
{
    const struct sd_member *m = find(r, name);
    return m && *m->value == 'n' ? NULL : m;
}

static int wrong_type(const char *name, const char *value, const char *expected, struct sd_err *err)
{
    const char *found = *value == '"'   ? "a string"
                        : *value == '{' ? "an object"
                        : *value == '[' ? "an array"
                        : *value == 't' ? "true"
                        : *value == 'f' ? "false"
                        : *value == 'n' ? "null"
                                        : "a number";
    return sd_err_set(err, SD_ERR_DATA, "member \"%s\": %s where %s is expected", name, found, expected);
}

/* Decodes the JSON string text[0..len) (with quotes) into memory of the record. */
static const char *decode(struct sd_record *r, const char *text, size_t len, size_t *out_len)
{
    char *s = new_text(r, len);
    if (!s)
        return NULL;
    *out_len = sd_scan_unescape(s, text + 1, len - 2);
    s[*out_len] = 0;
    return s;
}

int sd_record_string(struct sd_record *r, const char *name, const char **s, size_t *len, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    if (*m->value != '"')
        return wrong_type(name, m->value, "a string", err);
    size_t n;
    const char *text = decode(r, m->value, m->value_len, &n);
    if (!text)
        return sd_err_memory(err, m->value_len);
    if (!len && strlen(text) != n)
        return sd_err_set(err, SD_ERR_DATA, "member \"%s\": a NUL character in it", name);
    *s = text;
    if (len)
        *len = n;
    return 1;
}

/* The number at text, which ends at a byte that is no part of one. */
static int number(const char *text, size_t len, double *d)
{
    char copy[64];
    if (len >= sizeof copy || !(*text == '-' || (*text >= '0' && *text <= '9')))
        return -1;
    memcpy(copy, text, len);
    copy[len] = 0;
    *d = strtod(copy, NULL);
    return 0;
}

/* Whole numbers exactly; 512.0 and 1e3 too, as long as a double holds them exactly. */
static int whole_number(const char *text, size_t len, int64_t *v)
{
    const char *p = text, *end = text + len;
    bool minus = p < end && *p == '-';
    uint64_t most = (uint64_t)INT64_MAX + minus, n = 0;
    for (p += minus; p < end && *p >= '0' && *p <= '9'; p++) {
        unsigned d = (unsigned)(*p - '0');
        if (n > (most - d) / 10)
            return -1;
        n = n * 10 + d;
    }
    if (p == end && len > minus) {
        *v = minus ? (int64_t)(0 - n) : (int64_t)n;
        return 0;
    }
    double d;
    if (number(text, len, &d) || d != floor(d) || fabs(d) > 0x1p53)
        return -1;
    *v = (int64_t)d;
    return 0;
}

int sd_record_int(const struct sd_record *r, const char *name, int64_t *v, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    if (whole_number(m->value, m->value_len, v))
        return wrong_type(name, m->value, "a whole number of 64 bits", err);
    return 1;
}

int sd_record_double(const struct sd_record *r, const char *name, double *v, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    if (number(m->value, m->value_len, v) || !isfinite(*v))
        return wrong_type(name, m->value, "a number", err);
    return 1;
}

int sd_record_bool(const struct sd_record *r, const char *name, bool *v, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    if (*m->value != 't' && *m->value != 'f')
        return wrong_type(name, m->value, "true or false", err);
    *v = *m->value == 't';
    return 1;
}

/* Steps to the next element of the array s stands in: 1 with *value set, 0 behind the last. The text is
 * valid. */
static int next_element(struct sd_scan *s, struct sd_scan *value)
{
    s->at += s->at < s->end && (*s->at == '[' || *s->at == ',');
    sd_scan_space(s);
    if (s->at >= s->end || *s->at == ']')
        return 0;
    value->at = s->at;
    if (sd_scan_value(s))
        return 0;
    value->end = s->at;
    sd_scan_space(s);
    return 1;
}

int sd_record_ints(const struct sd_record *r, const char *name, int64_t *v, size_t n, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    if (*m->value != '[')
        return wrong_type(name, m->value, "an array of integers", err);
    struct sd_scan s = {.at = m->value, .end = m->value + m->value_len}, e;
    size_t i = 0;
    for (; next_element(&s, &e); i++) {
        int64_t x;
        if (whole_number(e.at, (size_t)(e.end - e.at), &x))
            return wrong_type(name, e.at, "a whole number of 64 bits", err);
        if (i < n)
            v[i] = x;
    }
    if (i != n)
        return sd_err_set(err, SD_ERR_DATA, "member \"%s\": %zu numbers where %zu are expected", name, i, n);
    return 1;
}

int sd_record_strings(struct sd_record *r, const char *name, struct sd_strings *list, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    if (!m)
        return 0;
    if (*m->value != '[' && *m->value != '"')
        return wrong_type(name, m->value, "an array of strings", err);
    struct sd_scan s = {.at = m->value, .end = m->value + m->value_len}, e = s;
    for (bool more = *s.at == '"' || next_element(&s, &e); more;
         more = *m->value == '[' && next_element(&s, &e)) {
        size_t len;
        if (*e.at != '"')
            return wrong_type(name, e.at, "a string", err);
        const char *text = decode(r, e.at, (size_t)(e.end - e.at), &len);
        if (!text || sd_strings_add(list, text))
            return sd_err_memory(err, m->value_len);
        if (strlen(text) != len)
            return sd_err_set(err, SD_ERR_DATA, "member \"%s\": a NUL character in it", name);
    }
    return 1;
}

static int need(int got, const char *name, struct sd_err *err)
{
    if (!got)
        return sd_err_set(err, SD_ERR_DATA, "the record has no \"%s\"", name);
    return got < 0 ? -1 : 0;
}

int sd_record_need_string(struct sd_record *r, const char *name, const char **s, struct sd_err *err)
{
    return need(sd_record_string(r, name, s, NULL, err), name, err);
}

int sd_record_need_int(const struct sd_record *r, const char *name, int64_t *v, struct sd_err *err)
{
    return need(sd_record_int(r, name, v, err), name, err);
}

int sd_record_need_ints(const struct sd_record *r, const char *name, int64_t *v, size_t n, struct sd_err *err)
{
    return need(sd_record_ints(r, name, v, n, err), name, err);
}

bool sd_record_failed(const struct sd_record *r)
{
    return sd_record_find(r, "error") != NULL;
}

/* ---- setting ---- */

/* A new member: the name, its quoted form and the value lie behind each other in one text. */
static int add_member(struct sd_record *r, const char *name, const char *value, size_t len)
{
    struct sd_member *m = new_member(r);
    struct sd_buf lead = SD_BUF_INIT;
    size_t name_len = strlen(name);
    if (!m || sd_scan_quote(&lead, name, name_len) || sd_buf_addc(&lead, ':')) {
        sd_buf_free(&lead);
        return -1;
    }
    char *text = new_text(r, name_len + lead.len + len);
    if (text) {
        m->name = memcpy(text, name, name_len);
        m->name_len = name_len;
        m->lead = memcpy(text + name_len, lead.data, lead.len);
        m->lead_len = lead.len;
        m->value = memcpy(text + name_len + lead.len, value, len);
        m->value_len = len;
        m->tail = m->value + len;
        r->count++;
        r->changed = true;
    }
    sd_buf_free(&lead);
    return text ? 0 : -1;
}

int sd_record_set_raw(struct sd_record *r, const char *name, const char *json, size_t len)
{
    if (!r->line)
        forget(r); /* an all-zero record is an empty object */
    struct sd_member *m = find(r, name);
    if (!m)
        return add_member(r, name, json, len);
    char *text = new_text(r, len);
    if (!text)
        return -1;
    m->value = memcpy(text, json, len);
    m->value_len = len;
    r->changed = true;
    return 0;
}

static int set_scratch(struct sd_record *r, const char *name, int bad)
{
    return bad ? -1 : sd_record_set_raw(r, name, r->scratch.data, r->scratch.len);
}

int sd_record_set_bytes(struct sd_record *r, const char *name, const char *s, size_t len)
{
    sd_buf_clear(&r->scratch);
    return set_scratch(r, name, sd_scan_quote(&r->scratch, s, len));
}

int sd_record_set_string(struct sd_record *r, const char *name, const char *s)
{
    return sd_record_set_bytes(r, name, s, strlen(s));
}

int sd_record_set_int(struct sd_record *r, const char *name, int64_t v)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%lld", (long long)v);
    return sd_record_set_raw(r, name, text, (size_t)n);
}

int sd_record_set_double(struct sd_record *r, const char *name, double v)
{
    char text[SD_JSON_DOUBLE_BYTES];
    sd_json_double(text, v);
    return sd_record_set_raw(r, name, text, strlen(text));
}

int sd_record_set_bool(struct sd_record *r, const char *name, bool v)
{
    return sd_record_set_raw(r, name, v ? "true" : "false", v ? 4 : 5);
}

int sd_record_set_strings(struct sd_record *r, const char *name, const char *const *v, size_t n)
{
    struct sd_buf *b = &r->scratch;
    sd_buf_clear(b);
    int bad = sd_buf_addc(b, '[');
    for (size_t i = 0; i < n && !bad; i++)
        bad |= (i && sd_buf_addc(b, ',')) || sd_scan_quote(b, v[i], strlen(v[i]));
    return set_scratch(r, name, bad || sd_buf_addc(b, ']'));
}

int sd_record_set_ints(struct sd_record *r, const char *name, const int64_t *v, size_t n)
{
    struct sd_buf *b = &r->scratch;
    sd_buf_clear(b);
    int bad = sd_buf_addc(b, '[');
    for (size_t i = 0; i < n && !bad; i++)
        bad |= sd_buf_addf(b, i ? ",%lld" : "%lld", (long long)v[i]);
    return set_scratch(r, name, bad || sd_buf_addc(b, ']'));
}

int sd_record_remove(struct sd_record *r, const char *name)
{
    struct sd_member *m;
    while ((m = find(r, name))) {
        memmove(m, m + 1, (size_t)(r->members + r->count - m - 1) * sizeof *m);
        r->count--;
        r->changed = true;
    }
    return 0;
}

int sd_record_set_error(struct sd_record *r, const char *tool, const char *message)
{
    struct sd_buf *b = &r->scratch;
    sd_buf_clear(b);
    int bad = sd_buf_adds(b, "{\"tool\":") || sd_scan_quote(b, tool, strlen(tool)) ||
              sd_buf_adds(b, ",\"message\":") || sd_scan_quote(b, message, strlen(message)) ||
              sd_buf_addc(b, '}');
    return set_scratch(r, "error", bad);
}
