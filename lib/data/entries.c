#include "data/entries.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/seen.h"
#include "record/members.h"
#include "record/record.h"
#include "record/scan.h"

enum { BLOCK_BYTES = 1 << 16 };

struct sd_entry {
    uint64_t at;
    uint32_t len, chars : 31, again : 1;
};

struct finder {
    struct sd_entries *e;
    struct sd_seen seen;
    struct sd_err *err;
};

static size_t characters(const char *s, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += (s[i] & 0xc0) != 0x80;
    return n;
}

static int add(struct finder *f, uint64_t at, size_t len, const char *name, size_t name_len)
{
    struct sd_entries *e = f->e;
    int seen = sd_seen_add(&f->seen, name, name_len, f->err);
    if (seen < 0)
        return -1;
    if (e->n == e->cap) {
        size_t cap = e->cap ? 2 * e->cap : 1024;
        struct sd_entry *v = realloc(e->v, cap * sizeof *v);
        if (!v)
            return sd_err_memory(f->err, cap * sizeof *v);
        e->v = v;
        e->cap = cap;
    }
    /* neither is longer than SD_MEMBERS_LIMIT */
    e->v[e->n++] =
        (struct sd_entry){at, (uint32_t)len, (uint32_t)characters(name, name_len) & 0x7fffffff, seen & 1};
    return 0;
}

static ssize_t read_some(void *ctx, void *bytes, size_t n)
{
    ssize_t got;
    do
        got = read(*(int *)ctx, bytes, n);
    while (got < 0 && errno == EINTR);
    return got;
}

/* ---- an object ---- */

static int find_members(struct finder *f)
{
    struct sd_members m;
    struct sd_members_item item;
    int got;
    sd_members_init(&m, read_some, &f->e->fd, 0);
    while ((got = sd_members_next(&m, &item, f->err)) == 1)
        if (add(f, item.at, item.len, item.name, item.name_len)) {
            got = -1;
            break;
        }
    sd_members_free(&m);
    return got;
}

/* ---- an object a line ---- */

/* The line's image_path, borrowed from r. */
static int line_name(struct sd_record *r, const char *line, size_t len, const char **name, size_t *name_len,
                     struct sd_err *err)
{
    if (sd_record_parse(r, line, len, err))
        return -1;
    int got = sd_record_string(r, "image_path", name, name_len, err);
    return got == 0 ? sd_err_set(err, SD_ERR_DATA, "no image_path") : got == 1 ? 0 : -1;
}

static bool is_blank(const char *s, size_t len)
{
    return len == strspn(s, " \t\r") || !len;
}

static int add_line(struct finder *f, struct sd_record *r, struct sd_buf *line, uint64_t at, uint64_t number)
{
    const char *name;
    size_t len;
    if (!line->len || is_blank(line->data, line->len))
        return 0;
    if (line_name(r, line->data, line->len, &name, &len, f->err))
        return sd_err_prefix(f->err, "line %llu", (unsigned long long)number);
    return add(f, at, line->len, name, len);
}

static int find_lines(struct finder *f)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_buf line = SD_BUF_INIT;
    char *block = malloc(BLOCK_BYTES);
    uint64_t at = 0, number = 1; /* of the line */
    int bad = block ? 0 : sd_err_memory(f->err, BLOCK_BYTES);
    ssize_t n = 1;
    while (!bad && (n = read_some(&f->e->fd, block, BLOCK_BYTES)) > 0)
        for (const char *p = block, *end = block + n; p < end && !bad;) {
            const char *newline = memchr(p, '\n', (size_t)(end - p));
            size_t len = (size_t)((newline ? newline : end) - p);
            if (line.len + len > SD_MEMBERS_LIMIT)
                bad = sd_err_set(f->err, SD_ERR_DATA, "line %llu is longer than %d bytes",
                                 (unsigned long long)number, SD_MEMBERS_LIMIT);
            else if (sd_buf_add(&line, p, len))
                bad = sd_err_memory(f->err, len);
            p += len + (newline != NULL);
            if (newline && !bad) {
                bad = add_line(f, &r, &line, at, number++);
                at += line.len + 1;
                sd_buf_clear(&line);
            }
        }
    if (n < 0)
        bad = sd_err_errno(f->err, "cannot read");
    bad = bad || add_line(f, &r, &line, at, number);
    free(block);
    sd_buf_free(&line);
    sd_record_free(&r);
    return bad;
}

/* ---- all ---- */

static int longest_first(const void *pa, const void *pb)
{
    const struct sd_entry *a = pa, *b = pb;
    return a->chars != b->chars ? (a->chars < b->chars) - (a->chars > b->chars)
                                : (a->at > b->at) - (a->at < b->at);
}

static int open_file(struct sd_entries *e, const char *path, struct sd_err *err)
{
    struct stat st;
    e->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (e->fd < 0)
        return sd_err_errno(err, path);
    if (!fstat(e->fd, &st) && S_ISREG(st.st_mode))
        return 0;
    close(e->fd);
    return sd_err_set(err, SD_ERR_DATA, "%s: not a regular file", path);
}

int sd_entries_open(struct sd_entries *e, const char *path, enum sd_entries_order order, struct sd_err *err)
{
    size_t len = strlen(path);
    *e = (struct sd_entries){.lines = len >= 6 && !strcmp(path + len - 6, ".jsonl")};
    struct finder f = {.e = e, .err = err};
    if (open_file(e, path, err))
        return -1;
    int bad = e->lines ? find_lines(&f) : find_members(&f);
    sd_seen_free(&f.seen);
    if (bad) {
        sd_entries_close(e);
        return sd_err_prefix(err, "%s", path);
    }
    if (order == SD_ENTRIES_LONGEST_FIRST && e->n)
        qsort(e->v, e->n, sizeof *e->v, longest_first);
    return 0;
}

static int read_at(int fd, uint64_t at, size_t len, struct sd_buf *to, struct sd_err *err)
{
    sd_buf_clear(to);
    if (sd_buf_reserve(to, len))
        return sd_err_memory(err, len);
    while (to->len < len) {
        ssize_t n = pread(fd, to->data + to->len, len - to->len, (off_t)(at + to->len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sd_err_errno(err, "cannot read the metadata again");
        if (!n)
            return sd_err_set(err, SD_ERR_DATA, "the metadata file became shorter");
        to->len += (size_t)n;
    }
    to->data[to->len] = 0;
    return 0;
}

static int changed(struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_DATA, "the metadata file changed while it was read");
}

/* `"name": value` */
static int part_member(struct sd_entry_text *t, struct sd_err *err)
{
    struct sd_scan s = {.at = t->text.data, .end = t->text.data + t->text.len};
    bool escaped;
    if (sd_scan_string(&s, &escaped))
        return changed(err);
    size_t len = (size_t)(s.at - t->text.data) - 2;
    if (sd_buf_reserve(&t->name, len))
        return sd_err_memory(err, len);
    t->name.len = sd_scan_unescape(t->name.data, t->text.data + 1, len);
    t->name.data[t->name.len] = 0;
    if (sd_scan_colon(&s))
        return changed(err);
    t->value = s.at;
    t->value_len = (size_t)(s.end - s.at);
    return 0;
}

static int part_line(struct sd_entry_text *t, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    const char *name;
    size_t len;
    t->value = t->text.data;
    t->value_len = t->text.len;
    int bad = line_name(&r, t->value, t->value_len, &name, &len, NULL) ? changed(err)
              : sd_buf_add(&t->name, name, len)                        ? sd_err_memory(err, len)
                                                                       : 0;
    sd_record_free(&r);
    return bad;
}

int sd_entries_get(const struct sd_entries *e, size_t i, struct sd_entry_text *t, struct sd_err *err)
{
    sd_buf_clear(&t->name);
    t->again = e->v[i].again;
    if (sd_buf_reserve(&t->name, 0) || read_at(e->fd, e->v[i].at, e->v[i].len, &t->text, err))
        return -1;
    t->name.data[0] = 0;
    return e->lines ? part_line(t, err) : part_member(t, err);
}

void sd_entries_close(struct sd_entries *e)
{
    if (e->fd >= 0)
        close(e->fd);
    free(e->v);
    *e = (struct sd_entries){.fd = -1};
}

void sd_entry_text_free(struct sd_entry_text *t)
{
    sd_buf_free(&t->text);
    sd_buf_free(&t->name);
}
