#include "record/index.h"

#include "base/hash.h"
#include "base/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_AHEAD = 64 << 10, COPY_BYTES = 256 << 10, MAX_LEN = INT32_MAX };

#define USED (UINT32_C(1) << 31)

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
        const char *other;
        *slot = at;
        if (!x->slots[at])
            return 0;
        size_t entry = x->slots[at] - 1;
        if (x->entries[entry].hash != hash)
            continue;
        if (sd_index_read(x, r, entry, err))
            return -1;
        size_t other_len = r->item.name_len;
        if (x->members)
            other = r->item.name;
        else if (sd_record_string(&r->record, "path", &other, &other_len, err) != 1)
            return sd_err_set(err, SD_ERR_DATA, "%s: has changed while it was read", x->file);
        if (other_len == len && !memcmp(other, key, len))
            return 1;
    }
}

static int add(struct sd_index *x, struct sd_index_reader *r, const char *key, size_t key_len, uint64_t at,
               size_t len, struct sd_err *err)
{
    size_t slot;
    if (len > MAX_LEN)
        return sd_err_set(err, SD_ERR_DATA, "longer than %d bytes", MAX_LEN);
    if (grow(x, err))
        return -1;
    int got = find_slot(x, r, key, key_len, &slot, err);
    if (got < 0)
        return -1;
    struct sd_index_entry *e = &x->entries[got ? x->slots[slot] - 1 : x->n];
    *e = (struct sd_index_entry){.at = at, .hash = hash_of(key, key_len), .len = (uint32_t)len};
    if (got)
        x->repeated++;
    else
        x->slots[slot] = (uint32_t)++x->n;
    return 0;
}

/* ---- reading entries ---- */

/* The len bytes at `at`: from the block that was read last, or with what follows where that is being read
 * through. */
static int fetch(const struct sd_index *x, struct sd_index_reader *r, uint64_t at, size_t len,
                 const char **text, struct sd_err *err)
{
    uint64_t end = r->at + r->block.len;
    if (at < r->at || at + len > end) {
        bool follows = at >= r->at && at <= end + READ_AHEAD;
        size_t want = follows && len < READ_AHEAD ? READ_AHEAD : len, got = 0;
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

int sd_index_read(const struct sd_index *x, struct sd_index_reader *r, size_t entry, struct sd_err *err)
{
    struct sd_index_entry *e = &x->entries[entry];
    const char *text = NULL;
    size_t len = __atomic_load_n(&e->len, __ATOMIC_RELAXED) & ~USED;
    if (fetch(x, r, e->at, len, &text, err))
        return -1;
    if (x->members ? sd_members_scan(text, len, &r->name, &r->item)
                   : sd_record_parse(&r->record, text, len, err))
        return sd_err_set(err, SD_ERR_DATA, "%s: has changed while it was read", x->file);
    return 0;
}

int sd_index_find(const struct sd_index *x, struct sd_index_reader *r, const char *key, size_t len,
                  size_t *entry, struct sd_err *err)
{
    size_t slot;
    int got = x->n ? find_slot(x, r, key, len, &slot, err) : 0;
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

void sd_index_reader_free(struct sd_index_reader *r)
{
    sd_record_free(&r->record);
    sd_buf_free(&r->block);
    sd_buf_free(&r->name);
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
    char *block = malloc(COPY_BYTES);
    int temp = block ? sd_temp_open(err) : sd_err_memory(err, COPY_BYTES), bad = temp < 0;
    ssize_t got;
    while (!bad && (got = read_some(*fd, s, block, COPY_BYTES))) {
        if (got < 0)
            bad = sd_err_errno(err, file);
        for (ssize_t put = 0, n; put < got && !bad; put += n)
            if ((n = write(temp, block + put, (size_t)(got - put))) < 0 && errno != EINTR)
                bad = sd_temp_failed(err, "cannot write the temporary file");
            else if (n < 0)
                n = 0;
    }
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
    x->fd = strcmp(x->file, "-") ? open(x->file, O_RDONLY | O_CLOEXEC | O_NOCTTY)
                                 : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    bool folder = x->fd >= 0 && !fstat(x->fd, &st) && S_ISDIR(st.st_mode);
    if (x->fd < 0 || folder) {
        errno = folder ? EISDIR : errno;
        sd_err_errno(err, "cannot open");
        return sd_err_prefix(err, "%s", x->file);
    }
    /* Standard input may stand anywhere in a file that others read too. */
    if (S_ISREG(st.st_mode) && strcmp(x->file, "-"))
        return 0;
    return copy(&x->fd, x->file, s, err);
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
        if (add(x, r, item.name, item.name_len, item.at, item.len, err)) {
            got = -1;
            break;
        }
    sd_members_free(&members);
    if (got < 0)
        sd_err_prefix(err, "%s", x->file);
    return stopped(setup) ? 0 : got;
}

static int index_line(struct sd_index *x, struct sd_index_reader *r, struct sd_record *record,
                      const char *line, size_t len, uint64_t at, struct sd_err *err)
{
    const char *path;
    size_t path_len;
    if (sd_record_parse(record, line, len, err))
        return -1;
    int got = sd_record_string(record, "path", &path, &path_len, err);
    if (got < 1)
        return got < 0 ? -1 : sd_err_set(err, SD_ERR_DATA, "the record has no \"path\"");
    return add(x, r, path, path_len, at, len, err);
}

static bool is_blank(const char *line, size_t len)
{
    return strspn(line, " \t\r\n") >= len;
}

static int index_lines(struct sd_index *x, struct sd_index_reader *r, const struct sd_index_setup *setup,
                       struct sd_err *err)
{
    struct sd_record record = SD_RECORD_INIT;
    char *line = NULL;
    size_t cap = 0;
    uint64_t at = 0;
    ssize_t len = 0;
    int fd = fcntl(x->fd, F_DUPFD_CLOEXEC, 3), bad = 0;
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    if (!file) {
        if (fd >= 0)
            close(fd);
        return sd_err_errno(err, x->file);
    }
    for (uint64_t no = 1; !bad && !stopped(setup) && (len = getline(&line, &cap, file)) > 0; no++) {
        struct sd_err why = {0};
        size_t mark = no == 1 && len >= 3 && !memcmp(line, "\xef\xbb\xbf", 3) ? 3 : 0;
        size_t n = (size_t)len - mark - (line[len - 1] == '\n');
        if (!is_blank(line + mark, n) && index_line(x, r, &record, line + mark, n, at + mark, &why)) {
            sd_err_prefix(&why, "%s: line %llu", x->file, (unsigned long long)no);
            if (why.code == SD_ERR_MACHINE) {
                *err = why;
                bad = -1;
            } else {
                setup->report(setup->ctx, why.msg);
            }
        }
        at += (uint64_t)len;
    }
    if (!bad && len < 0 && ferror(file))
        bad = sd_err_errno(err, x->file);
    free(line);
    fclose(file);
    sd_record_free(&record);
    return bad;
}

int sd_index_open(struct sd_index *x, const char *file, const struct sd_index_setup *setup,
                  struct sd_err *err)
{
    struct sd_index_reader reader = {0};
    *x = (struct sd_index){.file = file, .fd = -1, .members = setup->members};
    int bad = open_file(x, setup, err) ||
              (setup->members ? index_members(x, &reader, setup, err) : index_lines(x, &reader, setup, err));
    sd_index_reader_free(&reader);
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
