#include "data/bucket_report.h"

#include <stdlib.h>
#include <string.h>

enum { BAR = 40 };

static unsigned long long full(uint64_t v)
{
    return v;
}

static long long side(int64_t v)
{
    return v;
}

int sd_bucket_add_title(struct sd_buf *out, const struct sd_bucket_dataset *set)
{
    return set->settings.index < 0 ? 0 : sd_buf_addf(out, "[Dataset %lld]\n", side(set->settings.index));
}

int sd_bucket_add_histogram(struct sd_buf *out, const struct sd_bucket_table *t)
{
    uint64_t most = 1;
    int bad = sd_buf_addf(out, "%-13s %10s %12s\n", "size", "pictures", "with repeats");
    for (size_t i = 0; i < t->n; i++)
        most = t->rows[i].count.repeated > most ? t->rows[i].count.repeated : most;
    for (size_t i = 0; i < t->n && !bad; i++) {
        const struct sd_bucket_row *r = &t->rows[i];
        char bar[BAR + 1] = "";
        size_t len = (size_t)((unsigned __int128)r->count.repeated * BAR / most);
        memset(bar, '#', len ? len : 1);
        bad = sd_buf_addf(out, "%5lld x %-5lld %10llu %12llu %s\n", side(r->bucket.w), side(r->bucket.h),
                          full(r->count.pictures), full(r->count.repeated), bar);
    }
    return bad;
}

/* ---- for people ---- */

static int text_settings(struct sd_buf *out, const struct sd_bucket_dataset *set)
{
    const struct sd_bucket_config *c = &set->variants[0].buckets.config;
    int bad = sd_buf_addf(out, "Resolution %lld x %lld, ", side(c->resolution.w), side(c->resolution.h));
    if (c->single)
        bad |= sd_buf_adds(out, "no other buckets");
    else if (c->no_upscale)
        bad |= sd_buf_addf(out, "never enlarging, steps of %lld", side(c->steps));
    else
        bad |= sd_buf_addf(out, "sides %lld to %lld in steps of %lld", side(c->min_reso), side(c->max_reso),
                           side(c->steps));
    return bad | sd_buf_addf(out, ", batches of %lld\n\n", side(set->settings.batch_size));
}

static double enlarged_share(const struct sd_bucket_count *c)
{
    return c->pictures ? (double)c->enlarged / (double)c->pictures : 0;
}

static int text_row(struct sd_buf *out, const struct sd_bucket_row *r)
{
    const struct sd_bucket_count *c = &r->count;
    int bad = sd_buf_addf(out, " %9llu %9llu %7.2f %% %6.2f %%", full(c->pictures), full(c->repeated),
                          100 * sd_bucket_crop_share(c), 100 * enlarged_share(c));
    bad |= c->enlarged ? sd_buf_addf(out, " x%-6.2f", sd_bucket_enlargement(c)) : sd_buf_addf(out, "%8s", "");
    return bad | sd_buf_addf(out, " %9llu %9llu\n", full(r->batches), full(r->unfull));
}

static int text_buckets(struct sd_buf *out, const struct sd_bucket_table *t)
{
    int bad = sd_buf_addf(out, "%-13s %9s %9s %9s %8s %-7s %9s %9s\n", "bucket", "pictures", "repeated",
                          "cropped", "enlarged", "by", "batches", "not full");
    for (size_t i = 0; i < t->n && !bad; i++) {
        bad = sd_buf_addf(out, "%5lld x %-5lld", side(t->rows[i].bucket.w), side(t->rows[i].bucket.h)) |
              text_row(out, &t->rows[i]);
    }
    return bad | sd_buf_addf(out, "%-13s", "all") | text_row(out, &t->sum);
}

static int text_variant(struct sd_buf *out, const char *what, const struct sd_bucket_table *t,
                        const struct sd_bucket_table *now)
{
    const struct sd_bucket_count *c = &t->sum.count;
    int bad =
        sd_buf_addf(out, "%-22s %8zu %7.2f %% %8llu %9llu %9llu", what, t->n, 100 * sd_bucket_crop_share(c),
                    full(c->enlarged), full(t->sum.batches), full(t->sum.unfull));
    if (t != now)
        bad |= sd_buf_addf(out, "   %+.2f %% cropped, %+lld buckets, %+lld not full",
                           100 * (sd_bucket_crop_share(c) - sd_bucket_crop_share(&now->sum.count)),
                           (long long)t->n - (long long)now->n,
                           (long long)t->sum.unfull - (long long)now->sum.unfull);
    if (t->refused)
        bad |= sd_buf_addf(out, ", %llu pictures too small", full(t->refused));
    return bad | sd_buf_addc(out, '\n');
}

static int text_variants(struct sd_buf *out, const struct sd_bucket_dataset *set,
                         const struct sd_bucket_table *tables)
{
    int bad = sd_buf_addf(out, "\n%-22s %8s %9s %8s %9s %9s\n", "with", "buckets", "cropped", "enlarged",
                          "batches", "not full");
    bad |= text_variant(out, "these settings", &tables[0], &tables[0]);
    for (size_t i = 1; i < set->n_variants && !bad; i++)
        bad = text_variant(out, set->variants[i].what, &tables[i], &tables[0]);
    return bad;
}

static int text_balance(struct sd_buf *out, const struct sd_balance_set *b)
{
    if (!b || !b->reg_pictures)
        return 0;
    return sd_buf_addf(out,
                       "\n%llu training pictures with repeats; %llu of %llu regularisation pictures used\n",
                       full(b->train), full(b->reg_pictures - b->unused), full(b->reg_pictures));
}

static int text_dataset(struct sd_buf *out, const struct sd_bucket_dataset *set,
                        const struct sd_bucket_table *tables, const struct sd_balance_set *balance)
{
    return (out->len ? sd_buf_addc(out, '\n') : 0) || sd_bucket_add_title(out, set) ||
           text_settings(out, set) || text_buckets(out, &tables[0]) || text_variants(out, set, tables) ||
           text_balance(out, balance);
}

/* ---- JSON ---- */

/* A sum of pixels, which may be more than 64 bits hold. */
static int json_pixels(struct sd_buf *out, const char *name, __int128 v)
{
    const __int128 part = 1000000000000000000;
    unsigned long long low = (unsigned long long)(v % part), high = (unsigned long long)(v / part);
    return high ? sd_buf_addf(out, "\"%s\":%llu%018llu,", name, high, low)
                : sd_buf_addf(out, "\"%s\":%llu,", name, low);
}

/* The figures of a row, or of a sum of them. */
static int json_figures(struct sd_buf *out, const struct sd_bucket_row *r)
{
    const struct sd_bucket_count *c = &r->count;
    return sd_buf_addf(out, "\"pictures\":%llu,\"repeated\":%llu,", full(c->pictures), full(c->repeated)) ||
           json_pixels(out, "resized_pixels", c->resized) || json_pixels(out, "cropped_pixels", c->cropped) ||
           sd_buf_addf(out,
                       "\"cropped\":%.6f,\"enlarged\":%llu,\"enlargement\":%.6f,\"batches\":%llu,"
                       "\"unfull_batches\":%llu",
                       sd_bucket_crop_share(c), full(c->enlarged), sd_bucket_enlargement(c), full(r->batches),
                       full(r->unfull));
}

static int json_config(struct sd_buf *out, const struct sd_bucket_config *c)
{
    return sd_buf_addf(out,
                       "\"settings\":{\"resolution\":[%lld,%lld],\"enable_bucket\":%s,\"min_bucket_reso\":"
                       "%lld,\"max_bucket_reso\":%lld,\"bucket_reso_steps\":%lld,\"bucket_no_upscale\":%s}",
                       side(c->resolution.w), side(c->resolution.h), c->single ? "false" : "true",
                       side(c->min_reso), side(c->max_reso), side(c->steps),
                       c->no_upscale ? "true" : "false");
}

static int json_buckets(struct sd_buf *out, const struct sd_bucket_table *t)
{
    int bad = sd_buf_adds(out, ",\"buckets\":[");
    for (size_t i = 0; i < t->n && !bad; i++)
        bad = sd_buf_addf(out, "%s{\"bucket\":[%lld,%lld],", i ? "," : "", side(t->rows[i].bucket.w),
                          side(t->rows[i].bucket.h)) ||
              json_figures(out, &t->rows[i]) || sd_buf_addc(out, '}');
    return bad || sd_buf_addc(out, ']');
}

static int json_variants(struct sd_buf *out, const struct sd_bucket_dataset *set,
                         const struct sd_bucket_table *tables)
{
    int bad = sd_buf_adds(out, ",\"instead\":[");
    for (size_t i = 1; i < set->n_variants && !bad; i++)
        bad = sd_buf_addf(out, "%s{\"what\":\"%s\",", i > 1 ? "," : "", set->variants[i].what) ||
              json_config(out, &set->variants[i].buckets.config) ||
              sd_buf_addf(out, ",\"bucket_count\":%zu,\"refused\":%llu,", tables[i].n,
                          full(tables[i].refused)) ||
              json_figures(out, &tables[i].sum) || sd_buf_addc(out, '}');
    return bad || sd_buf_addc(out, ']');
}

static int json_balance(struct sd_buf *out, const struct sd_balance_set *b)
{
    if (!b || !b->reg_pictures)
        return 0;
    return sd_buf_addf(out, ",\"train_repeated\":%llu,\"reg_pictures\":%llu,\"reg_unused\":%llu",
                       full(b->train), full(b->reg_pictures), full(b->unused));
}

static int json_dataset(struct sd_buf *out, const struct sd_bucket_dataset *set,
                        const struct sd_bucket_table *tables, const struct sd_balance_set *balance)
{
    const struct sd_bucket_table *now = &tables[0];
    int bad = out->data[out->len - 1] == '}' ? sd_buf_addc(out, ',') : 0;
    bad |= set->settings.index < 0 ? sd_buf_adds(out, "{\"index\":null,")
                                   : sd_buf_addf(out, "{\"index\":%lld,", side(set->settings.index));
    return bad || json_config(out, &set->variants[0].buckets.config) ||
           sd_buf_addf(out, ",\"batch_size\":%lld,\"mean_ar_error\":%.17g,\"bucket_count\":%zu,",
                       side(set->settings.batch_size), sd_bucket_mean_error(&now->sum.count), now->n) ||
           json_figures(out, &now->sum) || json_balance(out, balance) || json_buckets(out, now) ||
           json_variants(out, set, tables) || sd_buf_addc(out, '}');
}

/* ---- both ---- */

static const struct sd_balance_set *balance_of(const struct sd_balance *b, int64_t index)
{
    for (size_t i = 0; i < b->n; i++)
        if (b->sets[i].index == index)
            return &b->sets[i];
    return NULL;
}

static int add_dataset(struct sd_buf *out, const struct sd_bucket_dataset *set,
                       const struct sd_bucket_counts *counts, const struct sd_balance *balance, bool json,
                       struct sd_err *err)
{
    struct sd_bucket_table tables[SD_BUCKET_VARIANTS] = {0};
    const struct sd_balance_set *b = balance_of(balance, set->settings.index);
    int bad = 0;
    for (size_t i = 0; i < set->n_variants && !bad; i++)
        bad = sd_bucket_table(counts, set, i, &tables[i], err);
    if (!bad && tables[0].n && (json ? json_dataset(out, set, tables, b) : text_dataset(out, set, tables, b)))
        bad = sd_err_memory(err, out->len);
    for (size_t i = 0; i < set->n_variants; i++)
        sd_bucket_table_free(&tables[i]);
    return bad;
}

int sd_bucket_report(struct sd_buf *out, const struct sd_bucket_datasets *sets,
                     const struct sd_bucket_counts *counts, const struct sd_balance *balance, bool json,
                     struct sd_err *err)
{
    size_t n;
    const struct sd_bucket_dataset **all = sd_bucket_datasets_sorted(sets, &n);
    if (!all)
        return sd_err_memory(err, 0);
    int bad = json && sd_buf_adds(out, "{\"datasets\":[") ? sd_err_memory(err, 0) : 0;
    for (size_t i = 0; i < n && !bad; i++)
        bad = add_dataset(out, all[i], counts, balance, json, err);
    if (!bad && (json ? sd_buf_adds(out, "]}\n") : !out->len && sd_buf_adds(out, "No pictures.\n")))
        bad = sd_err_memory(err, out->len);
    free(all);
    return bad;
}
