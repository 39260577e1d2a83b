#include "store/npy.h"

#include <stdbool.h>
#include <string.h>

#define HEADER_LIMIT 65536 /* NumPy itself refuses more than 10000 */

static const struct {
    const char *descr;
    enum sd_store_dtype dtype;
} types[] = {
    {"|b1", SD_STORE_BOOL}, {"|u1", SD_STORE_U8},  {"|i1", SD_STORE_I8},  {"<i2", SD_STORE_I16},
    {"<u2", SD_STORE_U16},  {"<f2", SD_STORE_F16}, {"<i4", SD_STORE_I32}, {"<u4", SD_STORE_U32},
    {"<f4", SD_STORE_F32},  {"<f8", SD_STORE_F64}, {"<i8", SD_STORE_I64}, {"<u8", SD_STORE_U64},
};

int64_t sd_npy_header_length(const unsigned char *p, size_t len, struct sd_err *err)
{
    if (len < 10 || memcmp(p, "\x93NUMPY", 6))
        return sd_err_set(err, SD_ERR_DATA, "not a .npy array");
    int major = p[6];
    if (major < 1 || major > 3 || (major > 1 && len < 12))
        return sd_err_set(err, SD_ERR_DATA, ".npy format version %d, expected 1 to 3", major);
    int64_t n = major == 1 ? 10 + (p[8] | p[9] << 8)
                           : 12 + (int64_t)(p[8] | p[9] << 8 | p[10] << 16 | (uint32_t)p[11] << 24);
    if (n > HEADER_LIMIT)
        return sd_err_set(err, SD_ERR_DATA, ".npy header of %lld bytes, expected at most %d", (long long)n,
                          HEADER_LIMIT);
    return n;
}

/* A reader of the few Python literals that may occur. */
struct text {
    const char *p, *end;
};

static bool take(struct text *t, char c)
{
    while (t->p < t->end && memchr(" \t\n\r", *t->p, 4))
        t->p++;
    if (t->p == t->end || *t->p != c)
        return false;
    t->p++;
    return true;
}

static bool take_word(struct text *t, const char *word)
{
    struct text u = *t;
    if (!take(&u, *word) || (size_t)(u.end - u.p) < strlen(word + 1) ||
        memcmp(u.p, word + 1, strlen(word + 1)))
        return false;
    t->p = u.p + strlen(word + 1);
    return true;
}

/* A string in either kind of quotes, without escapes, of less than size bytes. */
static bool take_string(struct text *t, char *out, size_t size)
{
    char quote = take(t, '\'') ? '\'' : take(t, '"') ? '"' : 0;
    if (!quote)
        return false;
    const char *end = memchr(t->p, quote, (size_t)(t->end - t->p));
    if (!end || (size_t)(end - t->p) >= size || memchr(t->p, '\\', (size_t)(end - t->p)))
        return false;
    memcpy(out, t->p, (size_t)(end - t->p));
    out[end - t->p] = 0;
    t->p = end + 1;
    return true;
}

static bool take_number(struct text *t, int64_t *out)
{
    take(t, ' ');
    int64_t v = 0;
    const char *start = t->p;
    for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++) {
        if (v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (*t->p - '0');
    }
    *out = v;
    bool any = t->p > start;
    if (t->p < t->end && *t->p == 'L') /* Python 2 */
        t->p++;
    return any;
}

/* "(4, 64, 64)", "(2,)", "()". Counts first, so that the array has its size. */
static int take_shape(struct text *t, struct sd_store_entry *e, struct sd_arena *a, struct sd_err *err)
{
    size_t most = 1;
    for (const char *p = t->p; p < t->end && *p != ')'; p++)
        most += *p == ',';
    int64_t *shape = sd_arena_array(a, most, sizeof *shape);
    if (!shape)
        return sd_err_memory(err, most * sizeof *shape);
    int n = 0;
    bool good = take(t, '(');
    while (good && !take(t, ')')) {
        good = take_number(t, &shape[n++]);
        if (good && !take(t, ',')) {
            good = take(t, ')');
            break;
        }
    }
    e->ndim = n;
    e->shape = shape;
    return good ? 0 : sd_err_set(err, SD_ERR_DATA, "its shape cannot be read");
}

static int take_dtype(struct text *t, struct sd_store_entry *e, struct sd_err *err)
{
    char descr[32];
    if (!take_string(t, descr, sizeof descr))
        return sd_err_set(err, SD_ERR_DATA, "an array of structures is not supported");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(descr + 1, types[i].descr + 1) && (*descr == *types[i].descr || *descr == '=' ||
                                                       (types[i].descr[0] == '|' && strchr("<>", *descr)))) {
            e->dtype = types[i].dtype;
            return 0;
        }
    return sd_err_set(err, SD_ERR_DATA, "element type '%s' is not supported%s", descr,
                      *descr == '>'        ? " (big-endian)"
                      : strchr(descr, 'O') ? " (Python objects)"
                                           : "");
}

static int take_order(struct text *t, struct sd_err *err)
{
    if (take_word(t, "False"))
        return 0;
    if (take_word(t, "True"))
        return sd_err_set(err, SD_ERR_DATA,
                          "an array in Fortran order is not supported (save np.ascontiguousarray)");
    return sd_err_set(err, SD_ERR_DATA, "fortran_order is neither True nor False");
}

int sd_npy_parse(struct sd_store_entry *e, struct sd_arena *a, const unsigned char *p, size_t len,
                 struct sd_err *err)
{
    struct text t = {(const char *)p + (p[6] == 1 ? 10 : 12), (const char *)p + len};
    unsigned seen = 0;
    if (!take(&t, '{'))
        return sd_err_set(err, SD_ERR_DATA, "its header is no dictionary");
    while (!take(&t, '}')) {
        static const char *const names[] = {"descr", "fortran_order", "shape"};
        char key[32];
        int which = 0;
        if (!take_string(&t, key, sizeof key) || !take(&t, ':'))
            return sd_err_set(err, SD_ERR_DATA, "its header cannot be read");
        while (which < 3 && strcmp(key, names[which]))
            which++;
        if (which == 3 || seen & 1u << which)
            return sd_err_set(err, SD_ERR_DATA, "unexpected '%s' in its header", key);
        seen |= 1u << which;
        if (which == 0   ? take_dtype(&t, e, err)
            : which == 1 ? take_order(&t, err)
                         : take_shape(&t, e, a, err))
            return -1;
        if (!take(&t, ',')) {
            if (!take(&t, '}'))
                return sd_err_set(err, SD_ERR_DATA, "its header cannot be read");
            break;
        }
    }
    if (seen != 7)
        return sd_err_set(err, SD_ERR_DATA, "its header lacks descr, fortran_order or shape");
    int64_t bytes = sd_store_bytes(e->dtype, e->ndim, e->shape);
    if (bytes < 0)
        return sd_err_set(err, SD_ERR_DATA, "its shape is too large");
    e->bytes = (size_t)bytes;
    return 0;
}

int sd_npy_header(struct sd_buf *b, enum sd_store_dtype dtype, int ndim, const int64_t *shape)
{
    const char *descr = NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == dtype)
            descr = types[i].descr;
    size_t start = b->len;
    int bad = !descr || sd_buf_add(b, "\x93NUMPY\1\0\0\0", 10) ||
              sd_buf_addf(b, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr ? descr : "");
    for (int i = 0; i < ndim && !bad; i++)
        bad = sd_buf_addf(b, i ? ", %lld" : ndim == 1 ? "%lld," : "%lld", (long long)shape[i]);
    bad = bad || sd_buf_adds(b, "), }");
    if (ndim > 0 && !bad) { /* NumPy leaves room for the first dimension to grow to 21 digits */
        size_t digits = 1;
        for (int64_t v = shape[0]; v >= 10; v /= 10)
            digits++;
        bad = sd_buf_addf(b, "%*s", (int)(21 - digits), "");
    }
    while (!bad && (b->len - start + 1) % 64)
        bad = sd_buf_addc(b, ' ');
    if (bad || sd_buf_addc(b, '\n') || b->len - start - 10 > 65535)
        return -1;
    b->data[start + 8] = (char)(b->len - start - 10);
    b->data[start + 9] = (char)((b->len - start - 10) >> 8);
    return 0;
}
