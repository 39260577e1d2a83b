#include "model/mix_private.h"

#include <math.h>
#include <string.h>

#include "base/filemap.h"

/* Products and sums are rounded one by one, as the original's. */
#pragma GCC optimize("fp-contract=off")

#define BLOCK ((size_t)8192) /* values a thread has in its cache at a time */

/* Rounds n values to a narrower type. */
static void round_to(enum sd_store_dtype precision, float *v, size_t n)
{
    uint16_t half[BLOCK];
    if (precision == SD_STORE_F32)
        return;
    sd_store_from_f32(precision, v, n, half);
    sd_store_to_f32(precision, half, n, v);
}

static void convert(const struct mix_term *t, size_t at, float *v, size_t n)
{
    sd_store_to_f32(t->dtype, (const char *)t->data + at * sd_store_dtype_bytes(t->dtype), n, v);
}

/* Values [at, at+n) of the piece, from rows that are shorter; 0 stands for what they lack. */
static void convert_rows(const struct mix_piece *p, const struct mix_term *t, size_t at, float *v, size_t n)
{
    memset(v, 0, n * sizeof *v);
    for (size_t i = 0, len; i < n; i += len) {
        size_t row = (at + i) / p->row, in = (at + i) % p->row;
        len = in < t->row ? t->row - in : p->row - in;
        len = len < n - i ? len : n - i;
        if (in < t->row)
            convert(t, row * t->row + in, v + i, len);
    }
}

static void load(const struct mix_piece *p, const struct mix_term *t, enum sd_store_dtype precision,
                 size_t at, float *v, size_t n)
{
    if (t->row)
        convert_rows(p, t, at, v, n);
    else
        convert(t, at, v, n);
    if (t->dtype != precision)
        round_to(precision, v, n);
}

static void scale(float weight, enum sd_store_dtype precision, float *v, size_t n)
{
    if (weight == 1)
        return;
    for (size_t i = 0; i < n; i++)
        v[i] *= weight;
    round_to(precision, v, n);
}

static void add(const float *from, float sign, enum sd_store_dtype precision, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] += sign * from[i]; /* exact: sign is 1 or -1 */
    round_to(precision, v, n);
}

/* Puts the first model's values where other models' rows have none. */
static void restore(const struct mix_piece *p, enum sd_store_dtype precision, size_t at, float *v, size_t n)
{
    float first[BLOCK];
    load(p, &p->terms[0], precision, at, first, n);
    for (size_t i = 0; i < n; i++)
        if ((at + i) % p->row >= p->common)
            v[i] = first[i];
}

/* Values [at, at+n) of the piece, n at most BLOCK. */
static void combine(const struct mix_piece *p, enum sd_store_dtype precision, size_t at, float *v, size_t n)
{
    float other[BLOCK];
    if (p->difference) {
        float difference[BLOCK];
        load(p, &p->terms[1], precision, at, difference, n);
        load(p, &p->terms[2], precision, at, other, n);
        add(other, -1, precision, difference, n);
        scale(p->terms[1].weight, precision, difference, n);
        load(p, &p->terms[0], precision, at, v, n);
        add(difference, 1, precision, v, n);
    }
    for (size_t i = 0; i < p->count && !p->difference; i++) {
        float *to = i ? other : v;
        load(p, &p->terms[i], precision, at, to, n);
        scale(p->terms[i].weight, precision, to, n);
        if (i)
            add(other, 1, precision, v, n);
    }
    if (p->row)
        restore(p, precision, at, v, n);
}

/* How many values, as written, are NaN or infinite. */
static size_t not_finite(enum sd_store_dtype d, const void *values, size_t n)
{
    size_t bad = 0;
    if (d == SD_STORE_F32) {
        for (size_t i = 0; i < n; i++) {
            uint32_t u;
            memcpy(&u, (const char *)values + i * sizeof u, sizeof u);
            bad += (u & 0x7f800000) == 0x7f800000;
        }
        return bad;
    }
    uint16_t exponent = d == SD_STORE_F16 ? 0x7c00 : 0x7f80;
    for (size_t i = 0; i < n; i++) {
        uint16_t u;
        memcpy(&u, (const char *)values + i * sizeof u, sizeof u);
        bad += (u & exponent) == exponent;
    }
    return bad;
}

/* Values [at, at+n) of the piece as they are written. Returns how many are not finite. */
static size_t make(const struct mix_piece *p, const struct sd_mix_recipe *r, size_t at, void *dst, size_t n)
{
    float v[BLOCK];
    size_t bad = 0, width = sd_store_dtype_bytes(r->saved);
    for (size_t from = 0, len; from < n; from += len) {
        char *to = (char *)dst + from * width;
        len = n - from < BLOCK ? n - from : BLOCK;
        combine(p, r->precision, at + from, v, len);
        sd_store_from_f32(r->saved, v, len, to);
        bad += not_finite(r->saved, to, len);
    }
    return bad;
}

/* Which model is at fault, if one is. */
static const struct mix_term *find_culprit(const struct mix_piece *p, size_t at, size_t n)
{
    float v[BLOCK];
    for (size_t i = 0; i < p->count; i++)
        for (size_t from = 0; from < n; from += BLOCK) {
            size_t len = n - from < BLOCK ? n - from : BLOCK;
            load(p, &p->terms[i], SD_STORE_F32, at + from, v, len);
            for (size_t k = 0; k < len; k++)
                if (!isfinite(v[k]))
                    return &p->terms[i];
        }
    return NULL;
}

static int refuse(const struct mix_tensor *t, const struct mix_piece *p, size_t at, size_t n,
                  struct sd_err *err)
{
    const struct mix_term *culprit = find_culprit(p, at, n);
    if (culprit)
        return sd_err_set(err, SD_ERR_DATA, "%s: tensor \"%.150s\" holds NaN or infinite values",
                          culprit->path, t->out->name);
    return sd_err_set(
        err, SD_ERR_DATA, "tensor \"%.150s\": the result is beyond the range of %s", t->out->name,
        sd_store_dtype_name(t->mix->recipe.precision == SD_STORE_F16 ? SD_STORE_F16 : t->mix->recipe.saved));
}

/* Lets go of the pages under values [at, at+n), and of those around them: the kernel maps pages of a file in
 * groups of up to 2 MiB, so touching some brings back others that were let go. */
static void release(const struct mix_term *t, size_t values, size_t at, size_t n)
{
    const size_t rim = 2097152, width = sd_store_dtype_bytes(t->dtype);
    size_t from = at * width, to = (at + n) * width, end = values * width;
    if (!t->mapped)
        return;
    from = from > rim ? from - rim : 0;
    to = end - to > rim ? to + rim : end;
    sd_filemap_release((const char *)t->data + from, to - from);
}

static int fill_piece(const struct mix_tensor *t, const struct mix_piece *p, size_t at, void *dst, size_t n,
                      size_t *bad, struct sd_err *err)
{
    size_t width = sd_store_dtype_bytes(t->out->dtype), here = 0;
    if (p->copy)
        memcpy(dst, (const char *)p->terms[0].data + at * width, n * width);
    else
        here = make(p, &t->mix->recipe, at, dst, n);
    if (here && !t->mix->recipe.keep_nan)
        return refuse(t, p, at, n, err);
    *bad += here;
    for (size_t i = 0; i < p->count; i++)
        release(&p->terms[i], p->values, at, n);
    return 0;
}

/* Counts what is done, and asks whether to go on. */
static int account(struct sd_mix *m, size_t bytes, size_t bad, struct sd_err *err)
{
    pthread_mutex_lock(&m->lock);
    m->done += bytes;
    m->not_finite += bad;
    bool on = !m->watch || m->watch->go_on(m->watch->ctx, m->done, m->total);
    pthread_mutex_unlock(&m->lock);
    return on ? 0 : sd_err_set(err, SD_ERR_MACHINE, "stopped");
}

int sd_mix_fill(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    const struct mix_tensor *t = ctx;
    size_t width = sd_store_dtype_bytes(t->out->dtype), at = (size_t)offset / width, n = bytes / width;
    size_t bad = 0;
    for (int i = 0; i < t->pieces && n; i++) {
        const struct mix_piece *p = &t->piece[i];
        if (at < p->values) {
            size_t len = p->values - at < n ? p->values - at : n;
            if (fill_piece(t, p, at, dst, len, &bad, err))
                return -1;
            dst = (char *)dst + len * width;
            at += len;
            n -= len;
        }
        at -= p->values;
    }
    return account(t->mix, bytes, bad, err);
}

int sd_mix_write(struct sd_mix *m, const char *path, const struct sd_store_meta *meta, size_t meta_count,
                 const struct sd_model_init_watch *watch, struct sd_err *err)
{
    m->watch = watch;
    m->done = m->not_finite = 0;
    return sd_store_write_jobs(path, m->out, m->count, meta, meta_count, m->recipe.jobs, err);
}

uint64_t sd_mix_not_finite(const struct sd_mix *m)
{
    return m->not_finite;
}
