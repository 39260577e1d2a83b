#include "record/index.h"

#include "base/hash.h"
#include "base/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_AHEAD = 64 << 10, READ_BYTES = 256 << 10 };

/* Above an entry's length, which is at most SD_MEMBERS_LIMIT. */
#define USED (UINT32_C(1) << 31)
#define REPEATED (UINT32_C(1) << 30)
#define LEN_MASK (REPEATED - 1)

/* ---- the table ---- */

static uint32_t hash_of(const char *key, size_t len)
{
    return (uint32_t)sd_fnv1a_low(key, len);
}

static int grow(struct sd_index *x, struct sd_err *err)
{
    size_t cap = x->cap ? 2 * x->cap : 1024;
    if (x->n < x->cap)
        return 0;
    struct sd_index_entry *entries = realloc(x->entries, cap * sizeof *entries);
    if (entries)
        x->entries = entries;
    free(x->slots); /* made anew below: both at once would be the most this ever holds */
    x->slots = calloc(2 * cap, sizeof *x->slots);
    if (!entries || !x->slots || cap > UINT32_MAX / 2)
        return sd_err_memory(err, cap * sizeof *entries);
    x->cap = cap;
    x->mask = 2 * cap - 1;
    for (size_t i = 0; i < x->n; i++) {
        size_t at = x->entries[i].hash & x->mask;
        while (x->slots[at])
            at = (at + 1) & x->mask;
        x->slots[at] = (uint32_t)i + 1;
    }
    return 0;
}

/* The slot of the key: 1 when it has an entry, which the reader then holds; 0 when the slot is free; -1. */
static int find_slot(const struct sd_index *x, struct sd_index_reader *r, const char *key, size_t len,
                     size_t *slot, struct sd_err *err)
{
    uint32_t hash = hash_of(key, len);
    for (size_t at = hash & x->mask;; at = (at + 1) & x->mask) {
        *slot = at;
        if (!x->slots[at])
            return 0;
        size_t entry = x->slots[at] - 1;
        if (x->entries[entry].hash != hash)
            continue;
        if (sd_index_read(x, r, entry, err))
            return -1;
        if (r->item.name_len == len && !memcmp(r->item.name, key, len))
            return 1;
    }
}

static int add(struct sd_index *x, struct sd_index_reader *r, const struct sd_index_setup *setup,
               const struct sd_members_item *item, struct sd_err *err)
{
    size_t slot;
    if (grow(x, err))
        return -1;
    int got = find_slot(x, r, item->name, item->name_len, &slot, err);
    if (got < 0)
        return -1;
    struct sd_index_entry e = {
        .at = item->at, .hash = hash_of(item->name, item->name_len), .len = (uint32_t)item->len};
    x->repeated += (uint64_t)got;
    if (got && !setup->all) {
        x->entries[x->slots[slot] - 1] = e;
        return 0;
    }
    e.len |= got ? REPEATED : 0;
    x->entries[x->n++] = e;
    if (!got)
        x->slots[slot] = (uint32_t)x->n;
    return setup->added ? setup->added(setup->ctx, item->name, item->name_len, err) : 0;
}

/* ---- reading entries ---- */

/* The len bytes at `at`: from the block that was read last, or with what follows them where that is being
 * read through: twice as much each time, so that reading here and there reads little in vain. */
static int fetch(const struct sd_index *x, struct sd_index_reader *r, uint64_t at, size_t len,
                 const char **text, struct sd_err *err)
{
    uint64_t end = r->at + r->block.len;
    if (at < r->at || at + len > end) {
        bool follows = at >= r->at && at - r->at <= 2 * r->block.len;
        size_t ahead = !follows ? 0 : 2 * r->block.len < READ_AHEAD ? 2 * r->block.len : READ_AHEAD;
        size_t want = ahead > len ? ahead : len, got = 0;
        sd_buf_clear(&r->block);
        if (sd_buf_reserve(&r->block, want))
            return sd_err_memory(err, want);
        while (got < len) {
            ssize_t n = pread(x->fd, r->block.data + got, want - got, (off_t)(at + got));
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return sd_err_errno(err, x->file);
            if (n == 0)
                return sd_err_set(err, SD_ERR_DATA, "%s: has become shorter while it was read", x->file);
            got += (size_t)n;
        }
        r->block.len = got;
        r->at = at;
    }
    *text = r->block.data + (at - r->at);
    return 0;
}

/* The line's record, and as an item: its key, and all of it as the value. 1, 0 when there is no key, -1. */
static int parse_line(const struct sd_index *x, struct sd_record *record, const char *line, size_t len,
                      struct sd_members_item *item, struct sd_err *err)
{
    *item = (struct sd_members_item){.value = line, .value_len = len, .len = len};
    return sd_record_parse(record, line, len, err)
               ? -1
               : sd_record_string(record, x->key, &item->name, &item->name_len, err);
}

int sd_index_read(const struct sd_index *x, struct sd_index_reader *r, size_t entry, struct sd_err *err)
{
    struct sd_index_entry *e = &x->entries[entry];
    const char *text = NULL;
    size_t len = __atomic_load_n(&e->len, __ATOMIC_RELAXED) & LEN_MASK;
    if (fetch(x, r, e->at, len, &text, err))
        return -1;
    if (x->key ? parse_line(x, &r->record, text, len, &r->item, err) != 1
               : sd_members_scan(text, len, &r->name, &r->item))
        return sd_err_set(err, SD_ERR_DATA, "%s: has changed while it was read", x->file);
    return 0;
}

int sd_index_find(const struct sd_index *x, struct sd_index_reader *r, const char *key, size_t len,
                  size_t *entry, struct sd_err *err)
{
    size_t slot;
    int got = x->slots ? find_slot(x, r, key, len, &slot, err) : 0;
    if (got == 1)
        *entry = x->slots[slot] - 1;
    return got;
}

void sd_index_use(struct sd_index *x, size_t entry)
{
    __atomic_fetch_or(&x->entries[entry].len, USED, __ATOMIC_RELAXED);
}

bool sd_index_used(const struct sd_index *x, size_t entry)
{
    return __atomic_load_n(&x->entries[entry].len, __ATOMIC_RELAXED) & USED;
}

bool sd_index_repeated(const struct sd_index *x, size_t entry)
{
    return __atomic_load_n(&x->entries[entry].len, __ATOMIC_RELAXED) & REPEATED;
}

void sd_index_reader_free(struct sd_index_reader *r)
{
    sd_record_free(&r->record);
    sd_buf_free(&r->block);
    sd_buf_free(&r->name);
    *r = (struct sd_index_reader){0};
}

/* ---- reading the file ---- */

static bool stopped(const struct sd_index_setup *s)
{
    return s->stopped && s->stopped(s->ctx);
}

/* Reads up to n bytes: how many, 0 at the end or when stopped, -1 with errno. */
static ssize_t read_some(int fd, const struct sd_index_setup *s, void *bytes, size_t n)
{
    ssize_t got;
    do
        if (stopped(s))
            return 0;
    while ((got = read(fd, bytes, n)) < 0 && errno == EINTR);
    return got;
}

/* Puts a copy of what fd gives in its place. */
static int copy(int *fd, const char *file, const struct sd_index_setup *s, struct sd_err *err)
{
    char *block = malloc(READ_BYTES);
    int temp = block ? sd_temp_open(err) : sd_err_memory(err, READ_BYTES), bad = temp < 0;
    ssize_t got;
    while (!bad && (got = read_some(*fd, s, block, READ_BYTES)))
        bad = got < 0 ? sd_err_errno(err, file) : sd_temp_write(temp, block, (size_t)got, err);
    free(block);
    if (bad && temp >= 0)
        close(temp);
    if (bad)
        return -1;
    close(*fd);
    *fd = temp;
    return lseek(temp, 0, SEEK_SET) < 0 ? sd_temp_failed(err, "a temporary file") : 0;
}

static int open_file(struct sd_index *x, const struct sd_index_setup *s, struct sd_err *err)
{
    struct stat st = {0};
    bool standard = !s->regular && !strcmp(x->file, "-");
    /* a pipe that must not be one is not waited for */
    x->fd = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                     : open(x->file, O_RDONLY | O_CLOEXEC | O_NOCTTY | (s->regular ? O_NONBLOCK : 0));
    bool there = x->fd >= 0 && !fstat(x->fd, &st), folder = there && S_ISDIR(st.st_mode) && !s->regular;
    if (!there || folder) {
        errno = folder ? EISDIR : errno;
        sd_err_errno(err, "cannot open");
        return sd_err_prefix(err, "%s", x->file);
    }
    /* Standard input may stand anywhere in a file that others read too. */
    if (S_ISREG(st.st_mode) && !standard)
        return 0;
    return s->regular ? sd_err_set(err, SD_ERR_DATA, "%s: not a regular file", x->file)
                      : copy(&x->fd, x->file, s, err);
}

struct source {
    int fd;
    const struct sd_index_setup *setup;
};

static ssize_t read_members(void *ctx, void *bytes, size_t n)
{
    struct source *s = ctx;
    return read_some(s->fd, s->setup, bytes, n);
}

static int index_members(struct sd_index *x, struct sd_index_reader *r, const struct sd_index_setup *setup,
                         struct sd_err *err)
{
    struct source source = {x->fd, setup};
    struct sd_members members;
    struct sd_members_item item;
    int got;
    sd_members_init(&members, read_members, &source, 0);
    while ((got = sd_members_next(&members, &item, err)) == 1)
        if (add(x, r, setup, &item, err)) {
            got = -1;
            break;
        }
    sd_members_free(&members);
    if (got < 0)
        sd_err_prefix(err, "%s", x->file);
    return stopped(setup) ? 0 : got;
}

struct lines {
    struct sd_index *x;
    struct sd_index_reader *r;
    const struct sd_index_setup *setup;
    struct sd_record record;
    struct sd_buf line; /* as far as it was read */
    bool too_long;      /* and no longer kept */
    uint64_t at, len;   /* of the line in the file */
    uint64_t number;
};

static bool is_blank(const char *line, size_t len)
{
    return !len || strspn(line, " \t\r") >= len;
}

static int index_line(struct lines *l, struct sd_err *err)
{
    struct sd_members_item item;
    size_t mark = l->number == 1 && l->line.len >= 3 && !memcmp(l->line.data, "\xef\xbb\xbf", 3) ? 3 : 0;
    const char *line = l->line.data + mark;
    size_t len = l->line.len - mark;
    if (is_blank(line, len))
        return 0;
    int got = parse_line(l->x, &l->record, line, len, &item, err);
    if (got < 1)
        return got < 0 ? -1 : sd_err_set(err, SD_ERR_DATA, "%s", l->setup->no_key);
    item.at = l->at + mark;
    return add(l->x, l->r, l->setup, &item, err);
}

static int end_line(struct lines *l, struct sd_err *err)
{
    struct sd_err why = {0};
    if (l->too_long)
        sd_err_set(&why, SD_ERR_DATA, "line %llu is longer than %d bytes", (unsigned long long)l->number,
                   SD_MEMBERS_LIMIT);
    else if (index_line(l, &why))
        sd_err_prefix(&why, "line %llu", (unsigned long long)l->number);
    l->at += l->len + 1;
    l->len = 0;
    l->number++;
    l->too_long = false;
    sd_buf_clear(&l->line);
    if (!why.code)
        return 0;
    sd_err_prefix(&why, "%s", l->x->file);
    if (why.code == SD_ERR_MACHINE || !l->setup->report) {
        *err = why;
        return -1;
    }
    l->setup->report(l->setup->ctx, why.msg);
    return 0;
}

static int take(struct lines *l, const char *p, size_t n, struct sd_err *err)
{
    for (const char *end = p + n; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((newline ? newline : end) - p);
        l->len += len;
        l->too_long |= l->len > SD_MEMBERS_LIMIT;
        if (!l->too_long && sd_buf_add(&l->line, p, len))
            return sd_err_memory(err, len);
        if (newline && (end_line(l, err) || stopped(l->setup)))
            return -1;
        p += len + (newline != NULL);
    }
    return 0;
}

static int index_lines(struct sd_index *x, struct sd_index_reader *r, const struct sd_index_setup *setup,
                       struct sd_err *err)
{
    struct lines l = {.x = x, .r = r, .setup = setup, .record = SD_RECORD_INIT, .number = 1};
    char *block = malloc(READ_BYTES);
    int bad = block ? 0 : sd_err_memory(err, READ_BYTES);
    ssize_t n = 0;
    while (!bad && (n = read_some(x->fd, setup, block, READ_BYTES)) > 0)
        bad = take(&l, block, (size_t)n, err);
    if (n < 0) {
        bad = sd_err_errno(err, "cannot read");
        sd_err_prefix(err, "%s", x->file);
    }
    if (!bad && !stopped(setup)) /* the last line may lack its end */
        bad = end_line(&l, err);
    free(block);
    sd_buf_free(&l.line);
    sd_record_free(&l.record);
    return stopped(setup) ? 0 : bad;
}

int sd_index_open(struct sd_index *x, const char *file, const struct sd_index_setup *setup,
                  struct sd_err *err)
{
    struct sd_index_reader reader = {0};
    *x = (struct sd_index){.file = file, .fd = -1, .key = setup->key};
    int bad = open_file(x, setup, err) ||
              (setup->key ? index_lines(x, &reader, setup, err) : index_members(x, &reader, setup, err));
    sd_index_reader_free(&reader);
    if (setup->all) { /* nothing is looked up any more */
        free(x->slots);
        x->slots = NULL;
    }
    if (bad)
        sd_index_close(x);
    return bad ? -1 : 0;
}

void sd_index_close(struct sd_index *x)
{
    if (x->fd > STDERR_FILENO) /* a descriptor of its own, never a standard one */
        close(x->fd);
    free(x->entries);
    free(x->slots);
    *x = (struct sd_index){0};
}
