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
    struct sd_tally *const tallies[] = {&s->formats, &s->buckets, &s->bucket_repeats, &s->chars,
                                        &s->words,   &s->tags,    &s->tags_each};
    for (size_t i = 0; i < sizeof tallies / sizeof *tallies; i++)
        sd_tally_free(tallies[i]);
    for (size_t i = 0; i < s->n_smallest; i++)
        free(s->smallest[i].path);
    free(s->smallest);
    sd_spill_free(&s->sizes);
    sd_seen_free(&s->texts);
    sd_spill_free(&s->log);
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

static int add_size(struct sd_stat *s, const struct facts *f, struct sd_err *err)
{
    const int32_t size[2] = {(int32_t)f->size[0], (int32_t)f->size[1]};
    *(size[0] < size[1] ? &s->portrait : size[0] == size[1] ? &s->square : &s->landscape) += 1;
    return add_smallest(s, f) || sd_spill_add(&s->sizes, size, sizeof size, err) ? -1 : 0;
}

static int add_picture(struct sd_stat *s, const struct facts *f, struct sd_err *err)
{
    int rc = 0;
    s->repeated = sd_count_add(s->repeated, (uint64_t)f->repeats);
    if (f->has_bytes)
        s->bytes = sd_count_add(s->bytes, (uint64_t)f->bytes);
    if (f->format)
        rc |= sd_tally_add(&s->formats, f->format, f->format_len, 1, NULL);
    if (f->has_size)
        rc |= add_size(s, f, err);
    if (f->has_bucket)
        rc |= sd_tally_add(&s->buckets, f->bucket, sizeof f->bucket, 1, NULL) |
              sd_tally_add(&s->bucket_repeats, f->bucket, sizeof f->bucket, (uint64_t)f->repeats, NULL);
    s->no_bytes += !f->has_bytes;
    s->no_format += !f->format;
    s->no_size += !f->has_size;
    s->no_bucket += !f->has_bucket;
    return rc;
}

/* *some becomes true unless the text is blank. */
static int add_caption(struct sd_stat *s, const char *text, bool *some, struct sd_err *err)
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
    if (sd_seen_add(&s->texts, text, len, err) < 0)
        return -1;
    return sd_tally_add(&s->chars, &chars, sizeof chars, 1, NULL) |
           sd_tally_add(&s->words, &words, sizeof words, 1, NULL);
}

static int add_captions(struct sd_stat *s, const struct facts *f, struct sd_err *err)
{
    bool some = false;
    int rc = 0;
    for (size_t i = 0; i < f->captions && !rc; i++)
        rc = add_caption(s, s->strings.v[i], &some, err);
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

/* Puts down which tags are together in a record: n of s->ids. */
static int log_tags(struct sd_stat *s, size_t n, struct sd_err *err)
{
    uint32_t count = (uint32_t)n;
    return sd_spill_add(&s->log, &count, sizeof count, err) ||
                   sd_spill_add(&s->log, s->ids, n * sizeof *s->ids, err)
               ? -1
               : 0;
}

static int add_tags(struct sd_stat *s, const struct facts *f, struct sd_err *err)
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
    if (s->options.pairs && distinct > 1)
        rc |= log_tags(s, distinct, err);
    return rc;
}

int sd_stat_add(struct sd_stat *s, struct sd_record *r, struct sd_err *err)
{
    struct facts f = {0};
    struct sd_err why = {0};
    s->records++;
    if (sd_record_failed(r)) {
        s->errors++;
        return 0;
    }
    if (read_facts(s, r, &f, err)) {
        s->failed++;
        return -1;
    }
    if (!add_picture(s, &f, &why) && !add_captions(s, &f, &why) && !add_tags(s, &f, &why))
        return 0;
    if (!why.code)
        sd_err_memory(&why, 4096);
    return sd_err_set(err, why.code, "%s", why.msg);
}
