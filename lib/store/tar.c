#include "store/tar.h"

#include <stdio.h>
#include <string.h>

/* A header's fields, POSIX.1-2001. */
enum {
    NAME = 0,
    NAME_BYTES = 100,
    SIZE = 124,
    SUM = 148,
    TYPE = 156,
    MAGIC = 257,
    PREFIX = 345,
    PREFIX_BYTES = 155,
    SPARSE_MORE = 482,     /* GNU: another block of the map follows; */
    SPARSE_MORE_MORE = 504 /* the same in those */
};

enum { EXTENDED_BYTES = 1 << 20, RECORD_BYTES = 10240 };

/* What extended headers said about the entry that follows them. */
struct extended {
    const unsigned char *name;
    uint64_t name_len, size;
    bool has_size, sparse;
};

static int damaged(uint64_t at, const char *what, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_DATA, "damaged tar archive: %s at byte %llu", what, (unsigned long long)at);
}

/* An octal field, or a binary one as GNU writes large numbers. */
static int number(const unsigned char *p, size_t n, uint64_t *v)
{
    *v = 0;
    if (*p & 0x80) {
        if (*p != 0x80)
            return -1; /* negative, or larger than any file */
        for (size_t i = 1; i < n; i++) {
            if (*v >> 55)
                return -1;
            *v = *v << 8 | p[i];
        }
        return 0;
    }
    size_t i = 0;
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        *v = *v << 3 | (uint64_t)(p[i] - '0');
    return i == n || p[i] == ' ' || !p[i] ? 0 : -1;
}

static unsigned sum(const unsigned char *block)
{
    unsigned total = 8 * ' '; /* its own field counts as blanks */
    for (int i = 0; i < SD_TAR_BLOCK; i++)
        if (i < SUM || i >= SUM + 8)
            total += block[i];
    return total;
}

bool sd_tar_is_header(const unsigned char block[SD_TAR_BLOCK])
{
    uint64_t said;
    return !number(block + SUM, 8, &said) && said == sum(block);
}

static bool is_zero(const unsigned char *block)
{
    for (int i = 0; i < SD_TAR_BLOCK; i++)
        if (block[i])
            return false;
    return true;
}

static size_t field_length(const unsigned char *p, size_t n)
{
    const unsigned char *end = memchr(p, 0, n);
    return end ? (size_t)(end - p) : n;
}

/* ---- extended headers ---- */

static int decimal(const unsigned char *p, const unsigned char *end, uint64_t *v)
{
    *v = 0;
    if (p == end)
        return -1;
    for (; p < end; p++)
        if (*p < '0' || *p > '9' || __builtin_mul_overflow(*v, 10, v) ||
            __builtin_add_overflow(*v, (uint64_t)(*p - '0'), v))
            return -1;
    return 0;
}

static bool is_key(const unsigned char *key, size_t len, const char *name)
{
    return len == strlen(name) && !memcmp(key, name, len);
}

/* "LENGTH KEY=VALUE\n", one after the other; LENGTH counts itself and the newline. */
static int read_pax(const unsigned char *p, const unsigned char *end, struct extended *x)
{
    while (p < end) {
        const unsigned char *space = memchr(p, ' ', (size_t)(end - p));
        uint64_t len;
        if (!space || decimal(p, space, &len) || len > (uint64_t)(end - p) || p[len - 1] != '\n' ||
            (uint64_t)(space - p) + 2 > len)
            return -1;
        const unsigned char *key = space + 1, *stop = p + len - 1;
        const unsigned char *equals = memchr(key, '=', (size_t)(stop - key));
        if (!equals)
            return -1;
        size_t key_len = (size_t)(equals - key);
        if (is_key(key, key_len, "path")) {
            x->name = equals + 1;
            x->name_len = (uint64_t)(stop - x->name);
        } else if (is_key(key, key_len, "size")) {
            if (decimal(equals + 1, stop, &x->size))
                return -1;
            x->has_size = true;
        } else if (key_len > 11 && !memcmp(key, "GNU.sparse.", 11)) {
            x->sparse = true;
        }
        p += len;
    }
    return 0;
}

/* The data of an extended header of this type. */
static int read_extended(char type, const unsigned char *data, uint64_t size, struct extended *x)
{
    if (type == 'L') {
        x->name = data;
        x->name_len = field_length(data, size);
    }
    return type == 'x' || type == 'X' ? read_pax(data, data + size, x) : 0;
}

/* ---- entries ---- */

static int take_name(const unsigned char *header, const struct extended *x, struct sd_buf *name)
{
    if (x->name)
        return sd_buf_add(name, x->name, (size_t)x->name_len);
    const unsigned char *prefix = header + PREFIX;
    size_t n = memcmp(header + MAGIC, "ustar", 6) ? 0 : field_length(prefix, PREFIX_BYTES);
    if (n && (sd_buf_add(name, prefix, n) || sd_buf_addc(name, '/')))
        return -1;
    return sd_buf_add(name, header + NAME, field_length(header + NAME, NAME_BYTES));
}

static const char *problem_of(char type, const struct extended *x)
{
    if (type == '1' || type == '2')
        return "a link, which is not followed";
    if (type == '3' || type == '4' || type == '6')
        return "a device or pipe";
    if (type == 'S' || x->sparse)
        return "a sparse file, which is not supported";
    if (type && !strchr("057", type))
        return "of a type that is not supported";
    if (x->name_len > SD_TAR_NAME)
        return "its name is too long";
    return NULL;
}

/* Where the data of the entry with this header begins: behind a sparse file's map. */
static int find_data(const unsigned char *bytes, uint64_t size, struct sd_tar_entry *e, struct sd_err *err)
{
    const unsigned char *header = bytes + e->data;
    bool more = header[TYPE] == 'S' && header[SPARSE_MORE];
    e->data += SD_TAR_BLOCK;
    while (more) {
        if (size - e->data < SD_TAR_BLOCK)
            return damaged(e->start, "an entry that is cut short", err);
        more = bytes[e->data + SPARSE_MORE_MORE];
        e->data += SD_TAR_BLOCK;
    }
    return 0;
}

static int finish_entry(const unsigned char *bytes, uint64_t size, struct sd_tar_entry *e,
                        const struct extended *x, struct sd_buf *name, struct sd_err *err)
{
    const unsigned char *header = bytes + e->data;
    char type = (char)header[TYPE];
    struct extended shown = *x;
    e->problem = problem_of(type, x);
    if (x->name_len > SD_TAR_NAME)
        shown.name_len = SD_TAR_NAME;
    if (take_name(header, &shown, name))
        return sd_err_memory(err, SD_TAR_NAME);
    bool slash = name->len && name->data[name->len - 1] == '/';
    e->folder = type == '5' || (slash && (!type || type == '0'));
    if (find_data(bytes, size, e, err))
        return -1;
    if (type && strchr("123456", type))
        e->size = 0; /* whatever the header says, no data follows */
    if (e->size > size - e->data)
        return damaged(e->start, "an entry that is cut short", err);
    uint64_t padded = (e->size + SD_TAR_BLOCK - 1) / SD_TAR_BLOCK * SD_TAR_BLOCK;
    e->next = padded > size - e->data ? size : e->data + padded;
    return 1;
}

int sd_tar_next(const unsigned char *bytes, uint64_t size, uint64_t at, struct sd_tar_entry *e,
                struct sd_buf *name, struct sd_err *err)
{
    struct extended x = {0};
    *e = (struct sd_tar_entry){.start = at};
    sd_buf_clear(name);
    if (at == size)
        return damaged(at, "no end mark: it is cut short", err);
    for (;;) {
        if (at > size || size - at < SD_TAR_BLOCK)
            return damaged(at, "a header that is cut short", err);
        const unsigned char *header = bytes + at;
        char type = (char)header[TYPE];
        if (is_zero(header) && at == e->start)
            return 0;
        if (!sd_tar_is_header(header))
            return damaged(at, "a header with a wrong checksum", err);
        if (number(header + SIZE, 12, &e->size))
            return damaged(at, "a header with a wrong size", err);
        if (!type || !strchr("xXgLKV", type))
            break;
        if (e->size > EXTENDED_BYTES || e->size > size - at - SD_TAR_BLOCK ||
            read_extended(type, header + SD_TAR_BLOCK, e->size, &x))
            return damaged(at, "a wrong extended header", err);
        at += SD_TAR_BLOCK + (e->size + SD_TAR_BLOCK - 1) / SD_TAR_BLOCK * SD_TAR_BLOCK;
    }
    if (x.has_size)
        e->size = x.size;
    e->data = at;
    return finish_entry(bytes, size, e, &x, name, err);
}

/* ---- writing ---- */

static int add_header(struct sd_buf *out, const char *name, size_t len, size_t prefix, uint64_t size,
                      char type)
{
    char block[SD_TAR_BLOCK] = {0}, field[16];
    size_t rest = prefix ? prefix + 1 : 0;
    memcpy(block + PREFIX, name, prefix);
    memcpy(block + NAME, name + rest, len - rest);
    memcpy(block + 100, "0000644", 7);
    memcpy(block + 108, "0000000", 7);
    memcpy(block + 116, "0000000", 7);
    if (size >> 33)
        size = 0; /* a pax header has it */
    snprintf(field, sizeof field, "%011llo", (unsigned long long)size);
    memcpy(block + SIZE, field, 11);
    memcpy(block + 136, "00000000000", 11);
    block[TYPE] = type;
    memcpy(block + MAGIC,
           "ustar\0"
           "00",
           8);
    snprintf(field, sizeof field, "%06o", sum((const unsigned char *)block));
    memcpy(block + SUM, field, 7);
    block[SUM + 7] = ' ';
    return sd_buf_add(out, block, sizeof block);
}

static int pad(struct sd_buf *out, uint64_t n)
{
    static const char zeros[SD_TAR_BLOCK];
    int bad = 0;
    for (; n && !bad; n -= n < sizeof zeros ? n : sizeof zeros)
        bad = sd_buf_add(out, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros);
    return bad;
}

/* "LENGTH KEY=VALUE\n" */
static int add_pax(struct sd_buf *out, const char *key, const char *value, size_t value_len)
{
    size_t body = strlen(key) + value_len + 3, len = body, again;
    while ((again = body + (size_t)snprintf(NULL, 0, "%zu", len)) != len)
        len = again;
    return sd_buf_addf(out, "%zu %s=", len, key) || sd_buf_add(out, value, value_len) ||
           sd_buf_addc(out, '\n');
}

/* Where ustar cuts the name in two: the length of its prefix, 0 for none, or SIZE_MAX where it does not fit.
 */
static size_t find_prefix(const char *name, size_t len)
{
    if (len <= NAME_BYTES)
        return 0;
    for (size_t i = len - NAME_BYTES - 1; i < len - 1 && i <= PREFIX_BYTES; i++)
        if (i && name[i] == '/')
            return i;
    return SIZE_MAX;
}

int sd_tar_header(struct sd_buf *out, const char *name, uint64_t size)
{
    struct sd_buf pax = SD_BUF_INIT;
    char digits[24];
    size_t len = strlen(name), prefix = find_prefix(name, len);
    int bad = 0;
    if (prefix == SIZE_MAX)
        bad |= add_pax(&pax, "path", name, len);
    if (size >> 33) {
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)size);
        bad |= add_pax(&pax, "size", digits, strlen(digits));
    }
    if (pax.len && !bad)
        bad = add_header(out, "PaxHeaders/entry", 16, 0, pax.len, 'x') ||
              sd_buf_add(out, pax.data, pax.len) || pad(out, -pax.len % SD_TAR_BLOCK);
    if (prefix == SIZE_MAX) { /* for readers that do not know pax: the first bytes */
        len = NAME_BYTES;
        prefix = 0;
    }
    bad = bad || add_header(out, name, len, prefix, size, '0');
    sd_buf_free(&pax);
    return bad ? -1 : 0;
}

int sd_tar_end(struct sd_buf *out, uint64_t archive_size)
{
    uint64_t n = 2 * SD_TAR_BLOCK; /* and then up to a whole record, as all tars do */
    return pad(out, n + (RECORD_BYTES - (archive_size + n) % RECORD_BYTES) % RECORD_BYTES);
}
