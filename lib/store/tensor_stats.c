#include "store/tensor_stats.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/clones.h"
#include "base/filemap.h"

enum {
    BLOCK = 2048,    /* elements worked on at once: two blocks of double stay in the first cache */
    LANES = 8,       /* sums that grow side by side, so that the compiler can use vectors */
    PIECE = 1 << 20, /* elements after which pages are given back */
};

/* ---- elements as double ---- */

#define LOAD_LOOP(type)                                         \
    for (size_t i = 0; i < n; i++) {                            \
        type v;                                                 \
        memcpy(&v, (const char *)src + i * sizeof v, sizeof v); \
        x[i] = (double)v;                                       \
    }                                                           \
    break

/* n is at most BLOCK. */
SD_CLONES static void load(enum sd_store_dtype d, const void *src, size_t n, double *x)
{
    float narrow[BLOCK];
    switch (d) {
    case SD_STORE_F64:
        LOAD_LOOP(double);
    case SD_STORE_I64:
        LOAD_LOOP(int64_t);
    case SD_STORE_U64:
        LOAD_LOOP(uint64_t);
    case SD_STORE_I32:
        LOAD_LOOP(int32_t);
    case SD_STORE_U32:
        LOAD_LOOP(uint32_t);
    default: /* a float holds all others exactly */
        sd_store_to_f32(d, src, n, narrow);
        for (size_t i = 0; i < n; i++)
            x[i] = (double)narrow[i];
    }
}

static bool is_finite(double v)
{
    return fabs(v) <= DBL_MAX;
}

SD_CLONES static bool all_finite(const double *x, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        bad |= !(fabs(x[i]) <= DBL_MAX);
    return !bad;
}

static const char *element(const struct sd_store_entry *e, size_t i)
{
    return (const char *)e->data + i * sd_store_dtype_bytes(e->dtype);
}

static void release(const struct sd_store_entry *e, size_t from, size_t to)
{
    if (e->mapped)
        sd_filemap_release(element(e, from), (to - from) * sd_store_dtype_bytes(e->dtype));
}

/* ---- one tensor ---- */

/* Count, mean and sum of squared distances from it: of a block, or of all blocks so far. */
struct moments {
    double n, mean, m2, min, max;
};

SD_CLONES static struct moments moments_of(const double *x, size_t n)
{
    double lo[LANES], hi[LANES], sum[LANES] = {0}, sq[LANES] = {0};
    struct moments m = {.n = (double)n, .min = x[0], .max = x[0]};
    size_t whole = n / LANES * LANES;
    for (int k = 0; k < LANES; k++)
        lo[k] = hi[k] = x[0];
    for (size_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double v = x[i + (size_t)k];
            lo[k] = v < lo[k] ? v : lo[k];
            hi[k] = v > hi[k] ? v : hi[k];
            sum[k] += v;
        }
    for (size_t i = whole; i < n; i++) {
        lo[0] = fmin(lo[0], x[i]);
        hi[0] = fmax(hi[0], x[i]);
        sum[0] += x[i];
    }
    for (int k = 0; k < LANES; k++) {
        m.min = fmin(m.min, lo[k]);
        m.max = fmax(m.max, hi[k]);
        m.mean += sum[k];
    }
    m.mean /= m.n;
    for (size_t i = 0; i < whole; i += LANES)
        for (int k = 0; k < LANES; k++)
            sq[k] += (x[i + (size_t)k] - m.mean) * (x[i + (size_t)k] - m.mean);
    for (size_t i = whole; i < n; i++)
        sq[0] += (x[i] - m.mean) * (x[i] - m.mean);
    for (int k = 0; k < LANES; k++)
        m.m2 += sq[k];
    return m;
}

/* Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.
 */
static void merge(struct moments *all, const struct moments *m)
{
    if (all->n == 0) {
        *all = *m;
        return;
    }
    double n = all->n + m->n, d = m->mean - all->mean;
    all->mean += d * (m->n / n);
    all->m2 += m->m2 + d * d * (all->n * m->n / n);
    all->n = n;
    all->min = fmin(all->min, m->min);
    all->max = fmax(all->max, m->max);
}

/* Drops what is not finite, and counts it. Returns how many are left. */
static size_t drop_nonfinite(double *x, size_t n, struct sd_tensor_stats *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_finite(x[i]))
            x[kept++] = x[i];
        else if (isnan(x[i]))
            s->nan++;
        else
            s->inf++;
    }
    return kept;
}

void sd_tensor_stats(const struct sd_store_entry *e, struct sd_tensor_stats *out)
{
    size_t count = e->bytes / sd_store_dtype_bytes(e->dtype), released = 0;
    struct moments all = {.min = NAN, .max = NAN, .mean = NAN, .m2 = NAN};
    double x[BLOCK];
    *out = (struct sd_tensor_stats){.count = count};
    for (size_t i = 0; i < count;) {
        size_t n = count - i < BLOCK ? count - i : BLOCK, kept = n;
        load(e->dtype, element(e, i), n, x);
        if (!all_finite(x, n))
            kept = drop_nonfinite(x, n, out);
        if (kept) {
            struct moments m = moments_of(x, kept);
            merge(&all, &m);
        }
        i += n;
        if (i - released >= PIECE || i == count) {
            release(e, released, i);
            released = i;
        }
    }
    out->min = all.min;
    out->max = all.max;
    out->mean = all.mean;
    out->std = sqrt(all.m2 / all.n);
    out->l2 = sqrt(all.m2 + all.n * all.mean * all.mean);
}

/* ---- two tensors ---- */

SD_CLONES static void add_block(struct sd_tensor_diff *s, const double *a, const double *b, size_t n)
{
    double max[LANES] = {0}, abs[LANES] = {0}, dd[LANES] = {0}, aa[LANES] = {0}, bb[LANES] = {0},
           ab[LANES] = {0};
    uint64_t unequal = 0;
    for (size_t i = 0; i < n; i++)
        unequal += a[i] != b[i];
    s->unequal += unequal;
    for (size_t i = 0; i < n / LANES * LANES; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double p = a[i + (size_t)k], q = b[i + (size_t)k], d = q - p, u = fabs(d);
            max[k] = u > max[k] ? u : max[k];
            abs[k] += u;
            dd[k] += d * d;
            aa[k] += p * p;
            bb[k] += q * q;
            ab[k] += p * q;
        }
    for (size_t i = n / LANES * LANES; i < n; i++) {
        double d = b[i] - a[i];
        max[0] = fmax(max[0], fabs(d));
        abs[0] += fabs(d);
        dd[0] += d * d;
        aa[0] += a[i] * a[i];
        bb[0] += b[i] * b[i];
        ab[0] += a[i] * b[i];
    }
    for (int k = 0; k < LANES; k++) {
        s->max_abs = fmax(s->max_abs, max[k]);
        s->sum_abs += abs[k];
        s->dd += dd[k];
        s->aa += aa[k];
        s->bb += bb[k];
        s->ab += ab[k];
    }
}

/* Drops the pairs that are not both finite. */
static size_t drop_pairs(double *a, double *b, size_t n, struct sd_tensor_diff *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_finite(a[i]) && is_finite(b[i])) {
            a[kept] = a[i];
            b[kept++] = b[i];
        } else if (a[i] != b[i] && !(isnan(a[i]) && isnan(b[i]))) {
            s->nonfinite++;
            s->unequal++;
        }
    }
    return kept;
}

void sd_tensor_diff(const struct sd_store_entry *a, const struct sd_store_entry *b,
                    struct sd_tensor_diff *out)
{
    size_t na = a->bytes / sd_store_dtype_bytes(a->dtype), nb = b->bytes / sd_store_dtype_bytes(b->dtype);
    size_t count = na < nb ? na : nb, released = 0;
    double x[BLOCK], y[BLOCK];
    *out = (struct sd_tensor_diff){.count = count};
    for (size_t i = 0; i < count;) {
        size_t n = count - i < BLOCK ? count - i : BLOCK, kept = n;
        load(a->dtype, element(a, i), n, x);
        load(b->dtype, element(b, i), n, y);
        if (!all_finite(x, n) || !all_finite(y, n))
            kept = drop_pairs(x, y, n, out);
        add_block(out, x, y, kept);
        i += n;
        if (i - released >= PIECE || i == count) {
            release(a, released, i);
            release(b, released, i);
            released = i;
        }
    }
}

void sd_tensor_diff_add(struct sd_tensor_diff *sum, const struct sd_tensor_diff *d)
{
    sum->count += d->count;
    sum->unequal += d->unequal;
    sum->nonfinite += d->nonfinite;
    sum->max_abs = fmax(sum->max_abs, d->max_abs);
    sum->sum_abs += d->sum_abs;
    sum->dd += d->dd;
    sum->aa += d->aa;
    sum->bb += d->bb;
    sum->ab += d->ab;
}

double sd_tensor_diff_l2(const struct sd_tensor_diff *d)
{
    return d->dd == 0 ? 0 : sqrt(d->dd) / sqrt(d->aa);
}

double sd_tensor_diff_cosine(const struct sd_tensor_diff *d)
{
    if (d->aa == 0 || d->bb == 0)
        return NAN;
    return fmax(-1, fmin(1, d->ab / (sqrt(d->aa) * sqrt(d->bb))));
}
