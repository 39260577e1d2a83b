/* The report of sd_stat: as JSON and for people. What of names comes from outside is quoted or made visible.
 */
#include "base/path.h"
#include "data/stat.h"
#include "record/scan.h"

#include <stdlib.h>
#include <string.h>

/* All that is worked out before writing. */
struct report {
    struct sd_stat_range sizes[SD_STAT_MEASURES], chars, words, tags_each;
    const struct sd_tally_entry **formats, **buckets, **tags;
    struct sd_stat_pair *pairs;
    size_t top, n_pairs;
    uint64_t tags_total, good;
};

static int make_report(const struct sd_stat *s, struct report *r, struct sd_err *err)
{
    *r = (struct report){.good = s->records - s->errors - s->failed};
    if (sd_stat_sizes(s, r->sizes, err) || sd_stat_range(&s->chars, &r->chars, err) ||
        sd_stat_range(&s->words, &r->words, err) || sd_stat_range(&s->tags_each, &r->tags_each, err) ||
        !(r->formats = sd_stat_ranked(&s->formats, err)) ||
        !(r->buckets = sd_stat_ranked(&s->buckets, err)) || !(r->tags = sd_stat_ranked(&s->tags, err)) ||
        !(r->pairs = sd_stat_pairs(s, r->tags, &r->n_pairs, err)))
        return -1;
    r->top = s->tags.n < (size_t)s->options.top ? s->tags.n : (size_t)s->options.top;
    for (size_t i = 0; i < s->tags.n; i++)
        r->tags_total = sd_count_add(r->tags_total, s->tags.entries[i].count);
    return 0;
}

static unsigned long long full(uint64_t v)
{
    return v;
}

/* Bucket i of the ranking: its sides, and its pictures with repeats. */
static uint64_t bucket_at(const struct sd_stat *s, const struct sd_tally_entry *e, int64_t size[2])
{
    memcpy(size, e->key, 2 * sizeof *size);
    return s->bucket_repeats.entries[e - s->buckets.entries].count;
}

/* ---- JSON ---- */

static int json_range(struct sd_buf *b, const char *name, const struct sd_stat_range *r, int digits,
                      double unit)
{
    if (!r->n)
        return sd_buf_addf(b, "\"%s\":null", name);
    return sd_buf_addf(b, "\"%s\":{\"min\":%.*f,\"median\":%.*f,\"max\":%.*f}", name, digits, r->min / unit,
                       digits, r->median / unit, digits, r->max / unit);
}

static int json_sizes(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b, ",\"sizes\":{\"known\":%llu,\"missing\":%llu,", full(r->sizes[SD_STAT_WIDTH].n),
                         full(s->no_size));
    rc |= json_range(b, "width", &r->sizes[SD_STAT_WIDTH], 0, 1) | sd_buf_addc(b, ',');
    rc |= json_range(b, "height", &r->sizes[SD_STAT_HEIGHT], 0, 1) | sd_buf_addc(b, ',');
    rc |= json_range(b, "megapixels", &r->sizes[SD_STAT_AREA], 6, 1e6) | sd_buf_addc(b, ',');
    rc |= json_range(b, "aspect", &r->sizes[SD_STAT_ASPECT], 4, 1);
    rc |= sd_buf_addf(b, ",\"portrait\":%llu,\"square\":%llu,\"landscape\":%llu,\"smallest\":[",
                      full(s->portrait), full(s->square), full(s->landscape));
    for (size_t i = 0; i < s->n_smallest && !rc; i++) {
        const struct sd_stat_picture *p = &s->smallest[i];
        rc |= sd_buf_adds(b, i ? ",{\"path\":" : "{\"path\":");
        rc |= p->path ? sd_scan_quote(b, p->path, strlen(p->path)) : sd_buf_adds(b, "null");
        rc |= sd_buf_addf(b, ",\"width\":%lld,\"height\":%lld}", (long long)p->w, (long long)p->h);
    }
    return rc | sd_buf_adds(b, "]}");
}

static int json_buckets(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b, ",\"no_bucket\":%llu,\"buckets\":[", full(s->no_bucket));
    for (size_t i = 0; i < s->buckets.n && !rc; i++) {
        int64_t size[2];
        uint64_t repeated = bucket_at(s, r->buckets[i], size);
        rc = sd_buf_addf(b, "%s{\"bucket\":[%lld,%lld],\"count\":%llu,\"repeated\":%llu}", i ? "," : "",
                         (long long)size[0], (long long)size[1], full(r->buckets[i]->count), full(repeated));
    }
    return rc | sd_buf_addc(b, ']');
}

static int json_captions(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b,
                         ",\"captions\":{\"present\":%llu,\"missing\":%llu,\"empty\":%llu,\"texts\":%llu,"
                         "\"distinct\":%llu,\"duplicates\":%llu,",
                         full(s->captioned), full(s->uncaptioned), full(s->blank), full(r->chars.n),
                         full(s->texts.count), full(r->chars.n - s->texts.count));
    rc |= json_range(b, "characters", &r->chars, 0, 1) | sd_buf_addc(b, ',');
    return rc | json_range(b, "words", &r->words, 0, 1) | sd_buf_addc(b, '}');
}

static int json_tags(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b, ",\"tags\":{\"present\":%llu,\"missing\":%llu,\"total\":%llu,\"distinct\":%zu,",
                         full(s->tagged), full(s->untagged), full(r->tags_total), s->tags.n);
    rc |= json_range(b, "each", &r->tags_each, 0, 1) | sd_buf_adds(b, ",\"top\":[");
    for (size_t i = 0; i < r->top && !rc; i++)
        rc = sd_buf_adds(b, i ? ",{\"tag\":" : "{\"tag\":") |
             sd_scan_quote(b, r->tags[i]->key, r->tags[i]->len) |
             sd_buf_addf(b, ",\"count\":%llu}", full(r->tags[i]->count));
    rc |= sd_buf_adds(b, "],\"pairs\":[");
    for (size_t i = 0; i < r->n_pairs && !rc; i++) {
        const struct sd_tally_entry *x = r->tags[r->pairs[i].a], *y = r->tags[r->pairs[i].b];
        rc = sd_buf_adds(b, i ? ",{\"tags\":[" : "{\"tags\":[") | sd_scan_quote(b, x->key, x->len) |
             sd_buf_addc(b, ',') | sd_scan_quote(b, y->key, y->len) |
             sd_buf_addf(b, "],\"count\":%llu}", full(r->pairs[i].count));
    }
    return rc | sd_buf_adds(b, "]}");
}

static int write_json(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b,
                         "{\"records\":%llu,\"errors\":%llu,\"failed\":%llu,\"repeated\":%llu,"
                         "\"bytes\":%llu,\"no_bytes\":%llu,\"no_format\":%llu,\"formats\":{",
                         full(s->records), full(s->errors), full(s->failed), full(s->repeated),
                         full(s->bytes), full(s->no_bytes), full(s->no_format));
    for (size_t i = 0; i < s->formats.n && !rc; i++)
        rc = (i ? sd_buf_addc(b, ',') : 0) | sd_scan_quote(b, r->formats[i]->key, r->formats[i]->len) |
             sd_buf_addf(b, ":%llu", full(r->formats[i]->count));
    rc |= sd_buf_addc(b, '}');
    rc |= json_sizes(s, r, b) | json_buckets(s, r, b) | json_captions(s, r, b) | json_tags(s, r, b);
    return rc | sd_buf_adds(b, "}\n");
}

/* ---- for people ---- */

static int text_range(struct sd_buf *b, const char *name, const struct sd_stat_range *r, int digits,
                      double unit)
{
    if (!r->n)
        return 0;
    return sd_buf_addf(b, "  %-12s %.*f to %.*f, median %.*f\n", name, digits, r->min / unit, digits,
                       r->max / unit, digits, r->median / unit);
}

static int text_bytes(struct sd_buf *b, uint64_t bytes)
{
    static const char *const unit[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
    double v = (double)bytes;
    int k = -1;
    for (; v >= 1000 && k < 5; k++)
        v /= 1000;
    return sd_buf_addf(b, "bytes          %llu", full(bytes)) |
           (k < 0 ? 0 : sd_buf_addf(b, " (%.1f %s)", v, unit[k])) | sd_buf_addc(b, '\n');
}

static int text_pictures(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b, "records        %llu", full(s->records));
    if (s->errors)
        rc |= sd_buf_addf(b, ", %llu with errors", full(s->errors));
    if (s->failed)
        rc |= sd_buf_addf(b, ", %llu that cannot be read", full(s->failed));
    if (s->repeated != r->good)
        rc |= sd_buf_addf(b, "; %llu pictures with repeats", full(s->repeated));
    rc |= sd_buf_addc(b, '\n');
    if (s->no_bytes < r->good)
        rc |= text_bytes(b, s->bytes);
    for (size_t i = 0; i < s->formats.n && !rc; i++)
        rc |= sd_buf_adds(b, i ? ", " : "formats        ") |
              sd_path_visible(b, r->formats[i]->key, r->formats[i]->len) |
              sd_buf_addf(b, " %llu", full(r->formats[i]->count));
    if (s->formats.n && s->no_format)
        rc |= sd_buf_addf(b, ", unknown %llu", full(s->no_format));
    return rc | (s->formats.n ? sd_buf_addc(b, '\n') : 0);
}

static int text_sizes(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    if (!r->sizes[SD_STAT_WIDTH].n)
        return 0;
    int rc = sd_buf_addf(b, "sizes          %llu known, %llu not\n", full(r->sizes[SD_STAT_WIDTH].n),
                         full(s->no_size));
    rc |= text_range(b, "width", &r->sizes[SD_STAT_WIDTH], 0, 1) |
          text_range(b, "height", &r->sizes[SD_STAT_HEIGHT], 0, 1);
    rc |= text_range(b, "megapixels", &r->sizes[SD_STAT_AREA], 3, 1e6) |
          text_range(b, "aspect", &r->sizes[SD_STAT_ASPECT], 3, 1);
    rc |= sd_buf_addf(b, "  %-12s portrait %llu, square %llu, landscape %llu\n", "shape", full(s->portrait),
                      full(s->square), full(s->landscape));
    for (size_t i = 0; i < s->n_smallest && !rc; i++) {
        const struct sd_stat_picture *p = &s->smallest[i];
        rc = sd_buf_addf(b, "  %-12s %lldx%lld ", i ? "" : "smallest", (long long)p->w, (long long)p->h) |
             (p->path ? sd_path_visible(b, p->path, strlen(p->path))
                      : sd_buf_addf(b, "record %llu", full(p->number))) |
             sd_buf_addc(b, '\n');
    }
    return rc;
}

static int text_buckets(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    if (!s->buckets.n)
        return 0;
    int rc = sd_buf_addf(b, "buckets        %zu; %llu records without\n", s->buckets.n, full(s->no_bucket));
    for (size_t i = 0; i < s->buckets.n && !rc; i++) {
        int64_t size[2];
        uint64_t count = r->buckets[i]->count, repeated = bucket_at(s, r->buckets[i], size);
        rc = sd_buf_addf(b, "  %12llu %lldx%lld", full(count), (long long)size[0], (long long)size[1]);
        if (repeated != count)
            rc |= sd_buf_addf(b, ", %llu with repeats", full(repeated));
        rc |= sd_buf_addc(b, '\n');
    }
    return rc;
}

static int text_captions(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b, "captions       %llu records with, %llu without, %llu empty\n",
                         full(s->captioned), full(s->uncaptioned), full(s->blank));
    if (!r->chars.n)
        return rc;
    rc |= sd_buf_addf(b, "  %-12s %llu, %llu distinct, %llu duplicates\n", "texts", full(r->chars.n),
                      full(s->texts.count), full(r->chars.n - s->texts.count));
    return rc | text_range(b, "characters", &r->chars, 0, 1) | text_range(b, "words", &r->words, 0, 1);
}

static int text_tags(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = sd_buf_addf(b, "tags           %llu records with, %llu without\n", full(s->tagged),
                         full(s->untagged));
    if (!s->tags.n)
        return rc;
    rc |= sd_buf_addf(b, "  %-12s %llu, %zu distinct\n", "total", full(r->tags_total), s->tags.n);
    rc |= text_range(b, "a record", &r->tags_each, 0, 1);
    for (size_t i = 0; i < r->top && !rc; i++)
        rc = sd_buf_addf(b, "  %12llu ", full(r->tags[i]->count)) |
             sd_path_visible(b, r->tags[i]->key, r->tags[i]->len) | sd_buf_addc(b, '\n');
    if (r->n_pairs)
        rc |= sd_buf_adds(b, "pairs of tags\n");
    for (size_t i = 0; i < r->n_pairs && !rc; i++) {
        const struct sd_tally_entry *x = r->tags[r->pairs[i].a], *y = r->tags[r->pairs[i].b];
        rc = sd_buf_addf(b, "  %12llu ", full(r->pairs[i].count)) | sd_path_visible(b, x->key, x->len) |
             sd_buf_adds(b, " + ") | sd_path_visible(b, y->key, y->len) | sd_buf_addc(b, '\n');
    }
    return rc;
}

static int write_text(const struct sd_stat *s, const struct report *r, struct sd_buf *b)
{
    int rc = text_pictures(s, r, b);
    if (!r->good)
        return rc;
    return rc | text_sizes(s, r, b) | text_buckets(s, r, b) | text_captions(s, r, b) | text_tags(s, r, b);
}

int sd_stat_write(const struct sd_stat *s, bool json, struct sd_buf *out, struct sd_err *err)
{
    struct report r;
    int rc = make_report(s, &r, err);
    if (!rc && (json ? write_json(s, &r, out) : write_text(s, &r, out)))
        rc = sd_err_memory(err, out->len);
    free(r.formats);
    free(r.buckets);
    free(r.tags);
    free(r.pairs);
    return rc;
}
