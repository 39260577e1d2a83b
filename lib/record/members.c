#include "record/members.h"

#include "base/path.h"
#include "record/scan.h"

#include <string.h>

enum { READ_BYTES = 256 << 10, SHOWN_BYTES = 200 };
enum { BEFORE, FIRST, NEXT, DONE };

void sd_members_init(struct sd_members *m, sd_members_read_fn *read, void *ctx, size_t limit)
{
    *m = (struct sd_members){.read = read, .ctx = ctx, .limit = limit ? limit : SD_MEMBERS_LIMIT};
}

void sd_members_free(struct sd_members *m)
{
    sd_buf_free(&m->in);
    sd_buf_free(&m->name);
}

static int wrong(const struct sd_members *m, const char *why, size_t at, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_DATA, "%s at byte %llu", why, (unsigned long long)(m->past + at + 1));
}

/* Reads more, behind what is not used yet, which moves to the front. At the end eof is set. */
static int fill(struct sd_members *m, struct sd_err *err)
{
    if (m->at) {
        memmove(m->in.data, m->in.data + m->at, m->in.len - m->at);
        m->in.len -= m->at;
        m->past += m->at;
        m->at = 0;
    }
    if (sd_buf_reserve(&m->in, READ_BYTES))
        return sd_err_memory(err, m->in.len + READ_BYTES);
    ssize_t n = m->read(m->ctx, m->in.data + m->in.len, READ_BYTES);
    if (n < 0)
        return sd_err_errno(err, "cannot read");
    m->in.len += (size_t)n;
    m->in.data[m->in.len] = 0;
    m->eof = n == 0;
    return 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Steps over white space to the next byte: 1 with it in *c, 0 at the end, -1. */
static int next_byte(struct sd_members *m, char *c, struct sd_err *err)
{
    for (;;) {
        while (m->at < m->in.len && is_space(m->in.data[m->at]))
            m->at++;
        if (m->at < m->in.len) {
            *c = m->in.data[m->at];
            return 1;
        }
        if (m->eof)
            return 0;
        if (fill(m, err))
            return -1;
    }
}

static int read_opening(struct sd_members *m, struct sd_err *err)
{
    char c;
    while (!m->eof && m->in.len < 3)
        if (fill(m, err))
            return -1;
    if (m->in.len >= 3 && !memcmp(m->in.data, "\xef\xbb\xbf", 3))
        m->at = 3;
    int got = next_byte(m, &c, err);
    if (got < 0)
        return -1;
    if (!got)
        return sd_err_set(err, SD_ERR_DATA, "nothing but white space where a JSON object is expected");
    if (c != '{')
        return wrong(m, "not a JSON object", m->at, err);
    m->at++;
    return 0;
}

/* How far the search for a member's end has come. */
struct search {
    size_t seen; /* bytes from m->at */
    size_t depth;
    bool string, escape;
};

/* True when the comma or bracket behind the member is at m->at + seen. Only strings and depth are looked at:
 * what is wrong inside is left to the scanner, which then has all of it. */
static bool find_end(const struct sd_members *m, struct search *f)
{
    const char *p = m->in.data + m->at + f->seen, *end = m->in.data + m->in.len;
    for (; p < end; p++) {
        char c = *p;
        if (f->escape) {
            f->escape = false;
        } else if (f->string) {
            f->escape = c == '\\';
            f->string = c != '"';
        } else if (c == '"') {
            f->string = true;
        } else if (c == '{' || c == '[') {
            f->depth++;
        } else if (f->depth ? c == '}' || c == ']' : c == ',' || c == '}' || c == ']') {
            if (!f->depth)
                break;
            f->depth--;
        }
    }
    f->seen = (size_t)(p - m->in.data) - m->at;
    return p < end;
}

/* Brings the whole member into the buffer; *len receives its length, which ends at its delimiter or, in a
 * file cut short, at the end. */
static int gather(struct sd_members *m, size_t *len, struct sd_err *err)
{
    struct search f = {0};
    bool found;
    while (!(found = find_end(m, &f)) && !m->eof && f.seen <= m->limit)
        if (fill(m, err))
            return -1;
    if (f.seen > m->limit)
        return sd_err_set(
            err, SD_ERR_DATA,
            "the entry that begins at byte %llu does not end within %zu bytes, the most that are read",
            (unsigned long long)(m->past + m->at + 1), m->limit);
    *len = f.seen;
    return 0;
}

/* `"name" : value` at s->at; behind it there may be white space up to s->end. -2 when memory is out. */
static int scan_member(struct sd_scan *s, struct sd_buf *name, struct sd_members_item *item)
{
    bool escaped;
    item->name = NULL;
    const char *quote = s->at;
    if (sd_scan_string(s, &escaped))
        return -1;
    item->name_len = (size_t)(s->at - quote) - 2;
    sd_buf_clear(name);
    if (sd_buf_reserve(name, item->name_len))
        return -2;
    item->name_len = sd_scan_unescape(name->data, quote + 1, item->name_len);
    name->data[item->name_len] = 0;
    item->name = name->data;
    if (sd_scan_colon(s))
        return -1;
    item->value = s->at;
    if (sd_scan_value(s))
        return -1;
    item->value_len = (size_t)(s->at - item->value);
    item->len = (size_t)(s->at - quote);
    sd_scan_space(s);
    if (s->at < s->end) {
        s->why = "',' or '}' is expected";
        return -1;
    }
    return 0;
}

int sd_members_scan(const char *text, size_t len, struct sd_buf *name, struct sd_members_item *item)
{
    struct sd_scan s = {.at = text, .end = text + len};
    item->at = 0;
    return scan_member(&s, name, item) ? -1 : 0;
}

static int name_member(const struct sd_members_item *item, struct sd_err *err)
{
    struct sd_buf shown = SD_BUF_INIT;
    size_t n = item->name_len < SHOWN_BYTES ? item->name_len : SHOWN_BYTES;
    if (!sd_path_visible(&shown, item->name, n) && shown.data)
        sd_err_prefix(err, "entry \"%s\"", shown.data);
    sd_buf_free(&shown);
    return -1;
}

static int read_member(struct sd_members *m, struct sd_members_item *item, struct sd_err *err)
{
    size_t len = 0;
    if (gather(m, &len, err))
        return -1;
    struct sd_scan s = {.at = m->in.data + m->at, .end = m->in.data + m->at + len};
    item->at = m->past + m->at;
    int bad = scan_member(&s, &m->name, item);
    if (bad == -2)
        return sd_err_memory(err, len);
    if (bad) {
        wrong(m, s.why, (size_t)(s.at - m->in.data), err);
        return item->name ? name_member(item, err) : -1;
    }
    m->at += len;
    return 0;
}

/* Behind the closing brace there may be nothing but white space. */
static int read_rest(struct sd_members *m, struct sd_err *err)
{
    char c;
    int got = next_byte(m, &c, err);
    return got == 1 ? wrong(m, "more text after the object", m->at, err) : got;
}

static int advance(struct sd_members *m, struct sd_members_item *item, struct sd_err *err)
{
    char c;
    if (m->state == BEFORE && read_opening(m, err))
        return -1;
    if (m->state == BEFORE)
        m->state = FIRST;
    int got = next_byte(m, &c, err);
    if (got < 0)
        return -1;
    if (!got)
        return wrong(m, "the object does not end", m->at, err);
    if (c == '}') {
        m->at++;
        return read_rest(m, err);
    }
    if (m->state == NEXT) {
        if (c != ',')
            return wrong(m, "',' or '}' is expected", m->at, err);
        m->at++;
        got = next_byte(m, &c, err);
        if (got < 0)
            return -1;
    }
    m->state = NEXT;
    return read_member(m, item, err) ? -1 : 1;
}

int sd_members_next(struct sd_members *m, struct sd_members_item *item, struct sd_err *err)
{
    if (m->state == DONE)
        return 0;
    int got = advance(m, item, err);
    if (got != 1)
        m->state = DONE;
    return got;
}
