/* The opcodes of a pickle that push one number, text or constant. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/pickle_private.h"

#define LONG_BYTES 256 /* of an integer; what is beyond 8 nobody computes with here */

/* ---- reading ---- */

const unsigned char *sd_unpickle_take(struct sd_unpickler *u, uint64_t n)
{
    if (n > u->size - u->at) {
        sd_err_set(u->err, SD_ERR_DATA, "cut short: %llu bytes wanted, %zu are left", (unsigned long long)n,
                   u->size - u->at);
        return NULL;
    }
    u->at += n;
    return u->bytes + u->at - n;
}

int sd_unpickle_uint(struct sd_unpickler *u, int bytes, uint64_t *v)
{
    const unsigned char *p = sd_unpickle_take(u, (uint64_t)bytes);
    *v = 0;
    for (int i = bytes - 1; p && i >= 0; i--)
        *v = *v << 8 | p[i];
    return p ? 0 : -1;
}

/* A line without its end, of protocol 0. */
int sd_unpickle_line(struct sd_unpickler *u, const char **line, size_t *len)
{
    *line = (const char *)u->bytes + u->at;
    *len = 0;
    const char *end = memchr(*line, '\n', u->size - u->at);
    if (!end)
        return sd_err_set(u->err, SD_ERR_DATA, "cut short: a line without an end");
    *len = (size_t)(end - *line);
    u->at += *len + 1;
    return 0;
}

/* A short line with a NUL behind it. */
int sd_unpickle_number(struct sd_unpickler *u, char text[64])
{
    const char *line;
    size_t len;
    if (sd_unpickle_line(u, &line, &len))
        return -1;
    if (!len || len >= 64 || memchr(line, 0, len))
        return sd_err_set(u->err, SD_ERR_DATA, "a number of %zu characters", len);
    memcpy(text, line, len);
    text[len] = 0;
    return 0;
}

/* ---- values ---- */

static int push_int(struct sd_unpickler *u, int64_t i)
{
    bool small = i >= 0 && i < 256;
    struct sd_pickle_value *v = small ? &u->small[i] : sd_unpickle_value(u, SD_PICKLE_INT);
    if (v && !small)
        v->integer = i;
    return sd_unpickle_push(u, v);
}

static int push_float(struct sd_unpickler *u, double f)
{
    struct sd_pickle_value *v = sd_unpickle_value(u, SD_PICKLE_FLOAT);
    if (v)
        v->number = f;
    return sd_unpickle_push(u, v);
}

int sd_unpickle_text(struct sd_unpickler *u, enum sd_pickle_kind kind, const void *text, size_t len)
{
    struct sd_pickle_value *v = sd_unpickle_value(u, kind);
    if (v) {
        v->text = text;
        v->len = (uint32_t)len; /* at most SD_PICKLE_LIMIT */
    }
    return sd_unpickle_push(u, v);
}

/* INT of `bytes` bytes; of 4 it has a sign. */
static int load_int(struct sd_unpickler *u, int bytes)
{
    uint64_t v;
    if (sd_unpickle_uint(u, bytes, &v))
        return -1;
    return push_int(u, bytes == 4 ? (int32_t)v : (int64_t)v);
}

/* An integer whose length stands before it in `width` bytes. */
static int load_long(struct sd_unpickler *u, int width)
{
    uint64_t n;
    if (sd_unpickle_uint(u, width, &n))
        return -1;
    if (n > LONG_BYTES)
        return sd_err_set(u->err, SD_ERR_DATA, "an integer of %llu bytes, of which %d are allowed",
                          (unsigned long long)n, LONG_BYTES);
    const unsigned char *p = sd_unpickle_take(u, n);
    if (!p)
        return -1;
    if (n > 8)
        return sd_unpickle_text(u, SD_PICKLE_LONG, p, n);
    uint64_t v = n && p[n - 1] & 0x80 ? UINT64_MAX : 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    return push_int(u, (int64_t)v);
}

/* INT and LONG of protocol 0: decimal digits; 00 and 01 are the truth values. */
static int load_decimal(struct sd_unpickler *u)
{
    char text[64], *end;
    if (sd_unpickle_number(u, text))
        return -1;
    if (!strcmp(text, "00") || !strcmp(text, "01"))
        return sd_unpickle_push(u, text[1] == '1' ? u->yes : u->no);
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || (*end && strcmp(end, "L")))
        return sd_err_set(u->err, SD_ERR_DATA, "\"%.40s\" is not an integer of 64 bits", text);
    return push_int(u, v);
}

static int load_float_text(struct sd_unpickler *u)
{
    char text[64], *end;
    if (sd_unpickle_number(u, text))
        return -1;
    double v = strtod(text, &end);
    return *end ? sd_err_set(u->err, SD_ERR_DATA, "\"%.40s\" is not a number", text) : push_float(u, v);
}

static int load_float(struct sd_unpickler *u)
{
    const unsigned char *p = sd_unpickle_take(u, 8);
    if (!p)
        return -1;
    uint64_t bits = 0;
    double v;
    for (int i = 0; i < 8; i++) /* the one number of a pickle with its high byte first */
        bits = bits << 8 | p[i];
    memcpy(&v, &bits, sizeof v);
    return push_float(u, v);
}

/* Text or bytes whose length stands before them in `width` bytes. */
static int load_text(struct sd_unpickler *u, enum sd_pickle_kind kind, int width)
{
    uint64_t n;
    if (sd_unpickle_uint(u, width, &n))
        return -1;
    const unsigned char *p = sd_unpickle_take(u, n);
    return p ? sd_unpickle_text(u, kind, p, n) : -1;
}

/* STRING and UNICODE of protocol 0. Escapes are not undone: nothing that matters here has them. */
static int load_line(struct sd_unpickler *u, bool quoted)
{
    const char *line;
    size_t len;
    if (sd_unpickle_line(u, &line, &len))
        return -1;
    if (quoted) {
        if (len < 2 || (*line != '\'' && *line != '"') || line[len - 1] != *line)
            return sd_err_set(u->err, SD_ERR_DATA, "a string without its quotes");
        line++;
        len -= 2;
    }
    if (memchr(line, '\\', len))
        return sd_err_set(u->err, SD_ERR_DATA, "a string with escapes, which torch.save does not write");
    return sd_unpickle_text(u, SD_PICKLE_STR, line, len);
}

int sd_unpickle_scalar(struct sd_unpickler *u, unsigned char op)
{
    switch (op) {
    case 'N':
        return sd_unpickle_push(u, u->none);
    case 0x88:
        return sd_unpickle_push(u, u->yes);
    case 0x89:
        return sd_unpickle_push(u, u->no);
    case 'K':
        return load_int(u, 1);
    case 'M':
        return load_int(u, 2);
    case 'J':
        return load_int(u, 4);
    case 0x8a:
        return load_long(u, 1);
    case 0x8b:
        return load_long(u, 4);
    case 'I':
    case 'L':
        return load_decimal(u);
    case 'F':
        return load_float_text(u);
    case 'G':
        return load_float(u);
    case 'S':
        return load_line(u, true);
    case 'V':
        return load_line(u, false);
    case 'T':
        return load_text(u, SD_PICKLE_STR, 4); /* Python 2's strings */
    case 'U':
        return load_text(u, SD_PICKLE_STR, 1);
    case 'X':
        return load_text(u, SD_PICKLE_STR, 4);
    case 0x8c:
        return load_text(u, SD_PICKLE_STR, 1);
    case 0x8d:
        return load_text(u, SD_PICKLE_STR, 8);
    case 'B':
        return load_text(u, SD_PICKLE_BYTES, 4);
    case 'C':
        return load_text(u, SD_PICKLE_BYTES, 1);
    case 0x8e:
    case 0x96:
        return load_text(u, SD_PICKLE_BYTES, 8); /* 0x96: a bytearray */
    }
    return sd_err_set(u->err, SD_ERR_DATA, "opcode 0x%02x is not one that model files have", op);
}
