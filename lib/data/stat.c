#include "data/stat.h"

#include "text/str.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = INT32_MAX, MAX_REPEATS = 1000000 };

void sd_stat_init(struct sd_stat *s, const struct sd_stat_options *options)
{
    *s = (struct sd_stat){.options = *options};
}

void sd_stat_free(struct sd_stat *s)
{
    struct sd_tally *const tallies[] = {&s->formats, &s->sizes, &s->buckets, &s->bucket_repeats, &s->texts,
                                        &s->chars,   &s->words, &s->tags,    &s->tags_each};
    for (size_t i = 0; i < sizeof tallies / sizeof *tallies; i++)
        sd_tally_free(tallies[i]);
    for (size_t i = 0; i < s->n_smallest; i++)
        free(s->smallest[i].path);
    free(s->smallest);
    sd_buf_free(&s->log);
    sd_strings_free(&s->strings);
    free(s->ids);
    *s = (struct sd_stat){0};
}

/* ---- reading a record: all of it before anything is counted ---- */

struct facts {
    const char *path, *format;
    size_t path_len, format_len;
    int64_t size[2], bucket[2], bytes, repeats;
    bool has_size, has_bucket, has_bytes, has_caption, has_tags, tags_are_text;
    size_t captions, tags; /* in s->strings: first captions, then tags */
};

static int sides(const char *name, const int64_t v[2], struct sd_err *err)
{
    if (v[0] < 1 || v[1] < 1 || v[0] > MAX_SIDE || v[1] > MAX_SIDE)
        return sd_err_set(err, SD_ERR_DATA, "%s of %lldx%lld: sides are 1 to %d", name, (long long)v[0],
                          (long long)v[1], MAX_SIDE);
    return 0;
}

static int read_facts(struct sd_stat *s, struct sd_record *r, struct facts *f, struct sd_err *err)
{
    int w = sd_record_int(r, "width", &f->size[0], err);
    int h = w < 0 ? -1 : sd_record_int(r, "height", &f->size[1], err);
    int bucket = h < 0 ? -1 : sd_record_ints(r, "bucket", f->bucket, 2, err);
    int bytes = bucket < 0 ? -1 : sd_record_int(r, "bytes", &f->bytes, err);
    f->repeats = 1;
    if (bytes < 0 || sd_record_int(r, "repeats", &f->repeats, err) < 0 ||
        sd_record_string(r, "path", &f->path, &f->path_len, err) < 0 ||
        sd_record_string(r, "format", &f->format, &f->format_len, err) < 0)
        return -1;
    f->has_size = w && h;
    f->has_bucket = bucket;
    f->has_bytes = bytes;
    if ((f->has_size && sides("a size", f->size, err)) || (bucket && sides("a bucket", f->bucket, err)))
        return -1;
    if (bytes && f->bytes < 0)
        return sd_err_set(err, SD_ERR_DATA, "bytes is %lld, less than 0", (long long)f->bytes);
    if (f->repeats < 1 || f->repeats > MAX_REPEATS)
        return sd_err_set(err, SD_ERR_DATA, "repeats is %lld, not 1 to %d", (long long)f->repeats,
                          MAX_REPEATS);
    s->strings.n = 0;
    int caption = sd_record_strings(r, "caption", &s->strings, err);
    f->captions = s->strings.n;
    int tags = caption < 0 ? -1 : sd_record_strings(r, "tags", &s->strings, err);
    if (tags < 0)
        return -1;
    f->tags = s->strings.n - f->captions;
    f->has_caption = f->captions > 0;
    f->has_tags = tags;
    f->tags_are_text = tags && *sd_record_find(r, "tags")->value == '"';
    return 0;
}

/* ---- counting ---- */

static int add_smallest(struct sd_stat *s, const struct facts *f)
{
    size_t most = (size_t)s->options.smallest, at = s->n_smallest;
    if (most && !s->smallest && !(s->smallest = calloc(most, sizeof *s->smallest)))
        return -1;
    int64_t area = f->size[0] * f->size[1];
    while (at > 0 && s->smallest[at - 1].w * s->smallest[at - 1].h > area)
        at--;
    if (at >= most)
        return 0;
    char *path = f->path ? strndup(f->path, f->path_len) : NULL;
    if (f->path && !path)
        return -1;
    if (s->n_smallest == most)
        free(s->smallest[--s->n_smallest].path);
    memmove(s->smallest + at + 1, s->smallest + at, (s->n_smallest - at) * sizeof *s->smallest);
    s->smallest[at] = (struct sd_stat_picture){f->size[0], f->size[1], s->records, path};
    s->n_smallest++;
    return 0;
}

static int add_picture(struct sd_stat *s, const struct facts *f)
{
    int rc = 0;
    s->repeated = sd_count_add(s->repeated, (uint64_t)f->repeats);
    if (f->has_bytes)
        s->bytes = sd_count_add(s->bytes, (uint64_t)f->bytes);
    if (f->format)
        rc |= sd_tally_add(&s->formats, f->format, f->format_len, 1, NULL);
    if (f->has_size)
        rc |= sd_tally_add(&s->sizes, f->size, sizeof f->size, 1, NULL) | add_smallest(s, f);
    if (f->has_bucket)
        rc |= sd_tally_add(&s->buckets, f->bucket, sizeof f->bucket, 1, NULL) |
              sd_tally_add(&s->bucket_repeats, f->bucket, sizeof f->bucket, (uint64_t)f->repeats, NULL);
    s->no_bytes += !f->has_bytes;
    s->no_format += !f->format;
    s->no_size += !f->has_size;
    s->no_bucket += !f->has_bucket;
    return rc;
}

/* FNV-1a of 128 bits: two captions with the same are not to be expected in any set that fits a disk. */
static unsigned __int128 digest(const char *text, size_t len)
{
    const unsigned __int128 prime = (unsigned __int128)1 << 88 | 0x13b;
    unsigned __int128 h =
        (unsigned __int128)UINT64_C(0x6c62272e07bb0142) << 64 | UINT64_C(0x62b821756295c58d);
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)text[i]) * prime;
    return h;
}

/* *some becomes true unless the text is blank. */
static int add_caption(struct sd_stat *s, const char *text, bool *some)
{
    int64_t chars = 0, words = 0;
    size_t len = strlen(text);
    bool amid = false; /* a word */
    for (size_t i = 0; i < len; chars++) {
        uint32_t cp;
        i += sd_unicode_next(text + i, len - i, &cp);
        bool space = sd_unicode_is_space(cp);
        words += !space && !amid;
        amid = !space;
    }
    if (!words)
        return 0;
    *some = true;
    unsigned __int128 d = digest(text, len);
    return sd_tally_add(&s->texts, &d, sizeof d, 1, NULL) |
           sd_tally_add(&s->chars, &chars, sizeof chars, 1, NULL) |
           sd_tally_add(&s->words, &words, sizeof words, 1, NULL);
}

static int add_captions(struct sd_stat *s, const struct facts *f)
{
    bool some = false;
    int rc = 0;
    for (size_t i = 0; i < f->captions; i++)
        rc |= add_caption(s, s->strings.v[i], &some);
    s->captioned += some;
    s->blank += !some && f->has_caption;
    s->uncaptioned += !f->has_caption;
    return rc;
}

/* Enters a tag and notes its id as number *n of the record. */
static int note_tag(struct sd_stat *s, struct sd_str tag, size_t *n)
{
    size_t id;
    tag = sd_str_strip(tag);
    if (!tag.len)
        return 0;
    if (*n == s->ids_cap) {
        size_t cap = s->ids_cap ? s->ids_cap * 2 : 64;
        uint32_t *ids = realloc(s->ids, cap * sizeof *ids);
        if (!ids)
            return -1;
        s->ids = ids;
        s->ids_cap = cap;
    }
    if (sd_tally_add(&s->tags, tag.data, tag.len, 0, &id))
        return -1;
    s->ids[(*n)++] = (uint32_t)id;
    return 0;
}

static int by_id(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int log_number(struct sd_buf *log, size_t v)
{
    for (; v >= 128; v >>= 7)
        if (sd_buf_addc(log, (char)(128 | (v & 127))))
            return -1;
    return sd_buf_addc(log, (char)v);
}

static size_t read_number(const struct sd_buf *log, size_t *at)
{
    size_t v = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char byte = (unsigned char)log->data[(*at)++];
        v |= (size_t)(byte & 127) << shift;
        if (byte < 128)
            return v;
    }
}

static int add_tags(struct sd_stat *s, const struct facts *f)
{
    size_t n = 0, distinct = 0;
    int rc = 0;
    for (size_t i = 0; i < f->tags && !rc; i++) {
        struct sd_str rest = sd_str_of(s->strings.v[f->captions + i]), tag;
        if (!f->tags_are_text)
            rc = note_tag(s, rest, &n);
        else
            while (!rc && sd_str_cut(&rest, sd_str_of(","), &tag))
                rc = note_tag(s, tag, &n);
    }
    if (n)
        qsort(s->ids, n, sizeof *s->ids, by_id);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || s->ids[i] != s->ids[i - 1]) {
            s->ids[distinct++] = s->ids[i];
            s->tags.entries[s->ids[i]].count++;
        }
    s->tagged += distinct > 0;
    s->untagged += distinct == 0;
    int64_t each = (int64_t)distinct;
    if (distinct)
        rc |= sd_tally_add(&s->tags_each, &each, sizeof each, 1, NULL);
    if (s->options.pairs && distinct > 1) {
        rc |= log_number(&s->log, distinct);
        for (size_t i = 0; i < distinct && !rc; i++)
            rc = log_number(&s->log, s->ids[i]);
    }
    return rc;
}

int sd_stat_add(struct sd_stat *s, struct sd_record *r, struct sd_err *err)
{
    struct facts f = {0};
    s->records++;
    if (sd_record_failed(r)) {
        s->errors++;
        return 0;
    }
    if (read_facts(s, r, &f, err)) {
        s->failed++;
        return -1;
    }
    return add_picture(s, &f) || add_captions(s, &f) || add_tags(s, &f) ? sd_err_memory(err, 4096) : 0;
}

/* ---- what the report is made of ---- */

struct value {
    double v;
    uint64_t count;
};

static int by_value(const void *a, const void *b)
{
    const struct value *x = a, *y = b;
    return (x->v > y->v) - (x->v < y->v);
}

static double measured(const char *key, enum sd_stat_measure measure)
{
    int64_t v[2] = {0, 0};
    memcpy(v, key, measure == SD_STAT_NUMBER ? sizeof *v : sizeof v);
    return measure == SD_STAT_HEIGHT   ? (double)v[1]
           : measure == SD_STAT_AREA   ? (double)v[0] * (double)v[1]
           : measure == SD_STAT_ASPECT ? (double)v[0] / (double)v[1]
                                       : (double)v[0];
}

int sd_stat_range(const struct sd_tally *t, enum sd_stat_measure measure, struct sd_stat_range *range,
                  struct sd_err *err)
{
    *range = (struct sd_stat_range){0};
    struct value *values = malloc((t->n + 1) * sizeof *values);
    if (!values)
        return sd_err_memory(err, (t->n + 1) * sizeof *values);
    for (size_t i = 0; i < t->n; i++) {
        values[i] = (struct value){measured(t->entries[i].key, measure), t->entries[i].count};
        range->n = sd_count_add(range->n, values[i].count);
    }
    qsort(values, t->n, sizeof *values, by_value);
    uint64_t seen = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (seen <= (range->n - 1) / 2)
            range->median = values[i].v;
        seen = sd_count_add(seen, values[i].count);
    }
    if (t->n) {
        range->min = values[0].v;
        range->max = values[t->n - 1].v;
    }
    free(values);
    return 0;
}

static int by_count(const void *a, const void *b)
{
    const struct sd_tally_entry *x = *(const struct sd_tally_entry *const *)a;
    const struct sd_tally_entry *y = *(const struct sd_tally_entry *const *)b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : (x > y) - (x < y);
}

const struct sd_tally_entry **sd_stat_ranked(const struct sd_tally *t, struct sd_err *err)
{
    const struct sd_tally_entry **list = malloc((t->n + 1) * sizeof *list);
    if (!list) {
        sd_err_memory(err, (t->n + 1) * sizeof *list);
        return NULL;
    }
    for (size_t i = 0; i < t->n; i++)
        list[i] = &t->entries[i];
    qsort(list, t->n, sizeof *list, by_count);
    return list;
}

static int by_pair_count(const void *a, const void *b)
{
    const struct sd_stat_pair *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count)
           : x->a != y->a       ? (x->a > y->a) - (x->a < y->a)
                                : (x->b > y->b) - (x->b < y->b);
}

/* Counts the pairs of the first n tags over the log; together[a * n + b], a < b. rank is by tag id. */
static int count_pairs(const struct sd_stat *s, const uint32_t *rank, size_t n, uint64_t *together)
{
    size_t *here = malloc((n + 1) * sizeof *here); /* a tag is in a record once */
    if (!here)
        return -1;
    for (size_t at = 0; at < s->log.len;) {
        size_t tags = read_number(&s->log, &at), count = 0;
        for (size_t i = 0; i < tags; i++) {
            size_t id = read_number(&s->log, &at);
            if (rank[id] < n)
                here[count++] = rank[id];
        }
        for (size_t i = 0; i < count; i++)
            for (size_t k = 0; k < i; k++)
                together[here[i] < here[k] ? here[i] * n + here[k] : here[k] * n + here[i]]++;
    }
    free(here);
    return 0;
}

struct sd_stat_pair *sd_stat_pairs(const struct sd_stat *s, const struct sd_tally_entry *const *ranked,
                                   size_t *n, struct sd_err *err)
{
    size_t most = (size_t)(s->options.top < SD_STAT_PAIRED ? s->options.top : SD_STAT_PAIRED);
    size_t top = !s->options.pairs ? 0 : s->tags.n < most ? s->tags.n : most, found = 0;
    uint64_t *together = calloc(top * top + 1, sizeof *together);
    uint32_t *rank = malloc((s->tags.n + 1) * sizeof *rank);
    struct sd_stat_pair *pairs = NULL;
    for (size_t i = 0; rank && i < s->tags.n; i++)
        rank[ranked[i] - s->tags.entries] = (uint32_t)i;
    if (together && rank && !count_pairs(s, rank, top, together)) {
        for (size_t i = 0; i < top * top; i++)
            found += together[i] > 0;
        pairs = malloc((found + 1) * sizeof *pairs);
    }
    size_t at = 0;
    for (size_t i = 0; pairs && i < top * top; i++)
        if (together[i])
            pairs[at++] = (struct sd_stat_pair){i / top, i % top, together[i]};
    if (pairs)
        qsort(pairs, at, sizeof *pairs, by_pair_count);
    else
        sd_err_memory(err, top * top * sizeof *together);
    *n = at < (size_t)s->options.pairs ? at : (size_t)s->options.pairs;
    free(together);
    free(rank);
    return pairs;
}
