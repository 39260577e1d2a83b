/* Group norm with optional SiLU on [N,...,C], C the fastest dimension: sums run by channel down the rows, and
 * channels are then folded into groups, so that groups of any width vectorise.
 *
 * Forward: each slab of rows gives mean and sum of squared deviations by group (two passes over a slab that
 * is in the cache); slabs are merged in order (Chan, Golub and LeVeque 1983); one more pass normalises.
 * Backward, with dz the gradient before the affine part and M the elements of a group:
 *     db = sum dz, dw = sum dz xhat, dx = rstd (w dz - sum_g(w dz)/M - xhat sum_g(w dz xhat)/M) */
#include "tensor/cpu/norm.h"
#include "tensor/cpu/vmath.h"

#include <math.h>
#include <string.h>

#define SLAB_ROWS 16        /* at least, to amortise folding */
#define SLAB_ELEMENTS 32768 /* about */

struct shape {
    int64_t n, rows, ch; /* [N, rows, C] */
    int64_t groups, len; /* channels a group */
    int64_t slab, slabs; /* rows a slab; slabs a picture */
};

static struct shape shape_of(const struct sd_call *c, const struct sd_tensor *x)
{
    struct shape s = {.n = x->dim[0], .ch = x->dim[x->ndim - 1], .groups = c->node->attr.groups};
    s.rows = sd_tensor_count(x) / s.n / s.ch;
    s.len = s.ch / s.groups;
    s.slab = sd_cpu_max(SLAB_ROWS, SLAB_ELEMENTS / s.ch);
    s.slabs = (s.rows + s.slab - 1) / s.slab;
    return s;
}

/* One task: rows [from, from+rows) of the [N*rows, C] view, all of picture n. */
struct slab {
    int64_t n, from, rows;
};

static struct slab slab_of(const struct shape *s, int64_t task)
{
    int64_t n = task / s->slabs, at = task % s->slabs * s->slab;
    return (struct slab){n, n * s->rows + at, sd_cpu_min(s->slab, s->rows - at)};
}

/* Narrow rows are widened several at a time. */
static int64_t rows_at_once(int64_t ch)
{
    return sd_cpu_max(1, 2 * SD_CPU_BLOCK / ch);
}

/* --- forward --- */

SD_CPU_CLONES static void add_rows(const void *x, enum sd_dtype type, struct slab b, int64_t ch, float *sum)
{
    float buf[SD_CPU_MAX_CHANNELS];
    memset(sum, 0, (size_t)ch * sizeof *sum);
    for (int64_t r = 0, m; r < b.rows; r += m) {
        m = sd_cpu_min(b.rows - r, rows_at_once(ch));
        const float *row = sd_cpu_load(x, type, (b.from + r) * ch, m * ch, buf);
        for (int64_t i = 0; i < m; i++, row += ch)
#pragma omp simd
            for (int64_t k = 0; k < ch; k++)
                sum[k] += row[k];
    }
}

SD_CPU_CLONES static void add_squares(const void *x, enum sd_dtype type, struct slab b, int64_t ch,
                                      const float *mean, float *sum)
{
    float buf[SD_CPU_MAX_CHANNELS];
    memset(sum, 0, (size_t)ch * sizeof *sum);
    for (int64_t r = 0, m; r < b.rows; r += m) {
        m = sd_cpu_min(b.rows - r, rows_at_once(ch));
        const float *row = sd_cpu_load(x, type, (b.from + r) * ch, m * ch, buf);
        for (int64_t i = 0; i < m; i++, row += ch)
#pragma omp simd
            for (int64_t k = 0; k < ch; k++)
                sum[k] += (row[k] - mean[k]) * (row[k] - mean[k]);
    }
}

/* Mean and sum of squared deviations of each group of each slab, to scratch [tasks, groups, 2]. */
static void moments(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *x = c->node->in[0];
    struct shape s = shape_of(c, x);
    float sum[SD_CPU_MAX_CHANNELS], mean[SD_CPU_MAX_CHANNELS];
    for (int64_t t = from; t < to; t++) {
        struct slab b = slab_of(&s, t);
        float *part = (float *)c->scratch + t * s.groups * 2;
        add_rows(c->in[0], x->dtype, b, s.ch, sum);
        for (int64_t g = 0; g < s.groups; g++) {
            part[2 * g] = sd_cpu_row_sum(s.len, sum + g * s.len) / (float)(b.rows * s.len);
            for (int64_t k = 0; k < s.len; k++)
                mean[g * s.len + k] = part[2 * g];
        }
        add_squares(c->in[0], x->dtype, b, s.ch, mean, sum);
        for (int64_t g = 0; g < s.groups; g++)
            part[2 * g + 1] = sd_cpu_row_sum(s.len, sum + g * s.len);
    }
}

/* Merges the slabs of (picture, group) pairs [from, to) into stats [N,groups,2] = mean, rstd. */
static void merge(const struct sd_call *c, int64_t from, int64_t to)
{
    struct shape s = shape_of(c, c->node->in[0]);
    for (int64_t i = from; i < to; i++) {
        double mean = 0, square = 0, count = 0;
        for (int64_t k = 0; k < s.slabs; k++) {
            int64_t task = i / s.groups * s.slabs + k;
            const float *part = (const float *)c->scratch + (task * s.groups + i % s.groups) * 2;
            double n = (double)(slab_of(&s, task).rows * s.len), d = (double)part[0] - mean;
            square += (double)part[1] + d * d * count * n / (count + n);
            mean += d * n / (count + n);
            count += n;
        }
        ((float *)c->out[1])[2 * i] = (float)mean;
        ((float *)c->out[1])[2 * i + 1] = (float)(1 / sqrt(square / count + c->node->attr.eps));
    }
}

/* By channel: y = act((x - mean) * slope + shift). */
struct affine {
    float mean[SD_CPU_MAX_CHANNELS], slope[SD_CPU_MAX_CHANNELS], shift[SD_CPU_MAX_CHANNELS];
};

static void affine_of(const struct shape *s, const float *stats, const float *w, const float *b,
                      struct affine *a)
{
    for (int64_t k = 0, g = 0; g < s->groups; g++)
        for (int64_t end = k + s->len; k < end; k++) {
            a->mean[k] = stats[2 * g];
            a->slope[k] = stats[2 * g + 1] * w[k];
            a->shift[k] = b[k];
        }
}

SD_CPU_CLONES static void normalise_rows(int64_t rows, int64_t ch, enum sd_act act, const float *x,
                                         const struct affine *a, float *y)
{
    for (int64_t i = 0; i < rows; i++, x += ch, y += ch) {
        if (act == SD_ACT_SILU) {
#pragma omp simd
            for (int64_t k = 0; k < ch; k++)
                y[k] = vsilu((x[k] - a->mean[k]) * a->slope[k] + a->shift[k]);
        } else {
#pragma omp simd
            for (int64_t k = 0; k < ch; k++)
                y[k] = (x[k] - a->mean[k]) * a->slope[k] + a->shift[k];
        }
    }
}

static void normalise(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *x = c->node->in[0];
    struct shape s = shape_of(c, x);
    float bx[SD_CPU_MAX_CHANNELS], by[SD_CPU_MAX_CHANNELS];
    struct affine a;
    for (int64_t t = from; t < to; t++) {
        struct slab b = slab_of(&s, t);
        affine_of(&s, (const float *)c->out[1] + b.n * s.groups * 2, c->in[1], c->in[2], &a);
        for (int64_t r = 0, m; r < b.rows; r += m) {
            m = sd_cpu_min(b.rows - r, rows_at_once(s.ch));
            int64_t at = (b.from + r) * s.ch, n = m * s.ch;
            float *y = sd_cpu_place(c->out[0], x->dtype, at, by);
            normalise_rows(m, s.ch, c->node->attr.act, sd_cpu_load(c->in[0], x->dtype, at, n, bx), &a, y);
            sd_cpu_store(c->out[0], x->dtype, at, n, y);
        }
    }
}

static int check_channels(const struct sd_call *c, const struct sd_tensor *x, struct sd_err *err)
{
    int64_t ch = x->dim[x->ndim - 1];
    if (ch <= SD_CPU_MAX_CHANNELS)
        return 0;
    return sd_err_set(err, SD_ERR_MACHINE, "%s: cpu: %lld channels are more than %d", sd_op_name(c->node->op),
                      (long long)ch, SD_CPU_MAX_CHANNELS);
}

static int plan(struct sd_call *c, struct sd_err *err)
{
    struct shape s = shape_of(c, c->node->in[0]);
    c->scratch_bytes = (size_t)(s.n * s.slabs * s.groups * 2) * sizeof(float);
    return check_channels(c, c->node->in[0], err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void group_norm(const struct sd_call *c)
{
    struct shape s = shape_of(c, c->node->in[0]);
    sd_cpu_split(c, s.n * s.slabs, 1, moments);
    sd_cpu_split(c, s.n * s.groups, 64, merge);
    sd_cpu_split(c, s.n * s.slabs, 1, normalise);
}
const struct sd_kernel sd_cpu_group_norm = {.plan = plan, .run = group_norm};

/* --- backward: inputs dy, x, w, b, stats; outputs dx, dw, db --- */

/* Scratch: sums of dz and dz*xhat by channel, of slabs, then of pictures; then by group the two means dx
 * needs. */
struct sums {
    float *slab, *picture, *group; /* [tasks, 2, C], [N, 2, C], [N, groups, 2] */
};

static struct sums sums_of(const struct sd_call *c, const struct shape *s)
{
    float *slab = c->scratch, *picture = slab + s->n * s->slabs * 2 * s->ch;
    return (struct sums){slab, picture, picture + s->n * 2 * s->ch};
}

/* dz of rows from dy, through the activation. */
SD_CPU_CLONES static void dz_rows(int64_t rows, int64_t ch, const float *dy, const float *x,
                                  const struct affine *a, float *dz)
{
    for (int64_t i = 0; i < rows; i++, dy += ch, x += ch, dz += ch)
#pragma omp simd
        for (int64_t k = 0; k < ch; k++)
            dz[k] = dy[k] * vsilu_slope((x[k] - a->mean[k]) * a->slope[k] + a->shift[k]);
}

SD_CPU_CLONES static void add_sums(int64_t rows, int64_t ch, const float *dz, const float *x,
                                   const float *mean, float *db, float *dw)
{
    for (int64_t i = 0; i < rows; i++, dz += ch, x += ch)
#pragma omp simd
        for (int64_t k = 0; k < ch; k++) {
            db[k] += dz[k];
            dw[k] += dz[k] * (x[k] - mean[k]); /* times rstd when the slab is done */
        }
}

/* Some rows of x and dz, as f32. */
struct rows {
    float bx[SD_CPU_MAX_CHANNELS], bd[SD_CPU_MAX_CHANNELS], dz[SD_CPU_MAX_CHANNELS];
    const float *x, *d;
};

static void load_rows(const struct sd_call *c, int64_t ch, int64_t from, int64_t m, const struct affine *a,
                      struct rows *rows)
{
    rows->x = sd_cpu_load(c->in[1], c->node->in[1]->dtype, from * ch, m * ch, rows->bx);
    rows->d = sd_cpu_load(c->in[0], c->node->in[0]->dtype, from * ch, m * ch, rows->bd);
    if (c->node->attr.act == SD_ACT_NONE)
        return;
    dz_rows(m, ch, rows->d, rows->x, a, rows->dz);
    rows->d = rows->dz;
}

static void slab_sums(const struct sd_call *c, int64_t from, int64_t to)
{
    struct shape s = shape_of(c, c->node->in[1]);
    struct rows rows;
    struct affine a;
    for (int64_t t = from; t < to; t++) {
        struct slab b = slab_of(&s, t);
        const float *stats = (const float *)c->in[4] + b.n * s.groups * 2;
        float *db = sums_of(c, &s).slab + t * 2 * s.ch, *dw = db + s.ch;
        affine_of(&s, stats, c->in[2], c->in[3], &a);
        memset(db, 0, (size_t)(2 * s.ch) * sizeof *db);
        for (int64_t r = 0, m; r < b.rows; r += m) {
            m = sd_cpu_min(b.rows - r, rows_at_once(s.ch));
            load_rows(c, s.ch, b.from + r, m, &a, &rows);
            add_sums(m, s.ch, rows.d, rows.x, a.mean, db, dw);
        }
        for (int64_t k = 0; k < s.ch; k++)
            dw[k] *= stats[2 * (k / s.len) + 1];
    }
}

/* Channels [from, to) of the pictures' sums, and of db and dw. */
static void merge_channels(const struct sd_call *c, int64_t from, int64_t to)
{
    struct shape s = shape_of(c, c->node->in[1]);
    struct sums sums = sums_of(c, &s);
    for (int which = 0; which < 2; which++) /* db, then dw */
        for (int64_t k = from; k < to; k++) {
            double all = 0;
            for (int64_t n = 0; n < s.n; n++) {
                double sum = 0;
                for (int64_t t = n * s.slabs; t < (n + 1) * s.slabs; t++)
                    sum += (double)sums.slab[(t * 2 + which) * s.ch + k];
                sums.picture[(n * 2 + which) * s.ch + k] = (float)sum;
                all += sum;
            }
            float *y = c->out[2 - which];
            if (y)
                y[k] = (float)all;
        }
}

static void fold_groups(const struct sd_call *c, const struct shape *s)
{
    struct sums sums = sums_of(c, s);
    const float *w = c->in[2];
    for (int64_t n = 0; n < s->n; n++)
        for (int64_t g = 0; g < s->groups; g++)
            for (int which = 0; which < 2; which++) {
                const float *by_channel = sums.picture + (n * 2 + which) * s->ch + g * s->len;
                float sum = sd_cpu_row_dot(s->len, by_channel, w + g * s->len);
                sums.group[(n * s->groups + g) * 2 + which] = sum / (float)(s->rows * s->len);
            }
}

/* By channel: dx = slope * dz + (x - mean) * lean + shift, slope being rstd w. */
struct bend {
    float lean[SD_CPU_MAX_CHANNELS], shift[SD_CPU_MAX_CHANNELS];
};

static void backward_affine(const struct shape *s, const float *stats, const float *group, struct bend *b)
{
    for (int64_t k = 0, g = 0; g < s->groups; g++)
        for (int64_t end = k + s->len; k < end; k++) {
            float rstd = stats[2 * g + 1];
            b->lean[k] = -rstd * rstd * group[2 * g + 1];
            b->shift[k] = -rstd * group[2 * g];
        }
}

SD_CPU_CLONES static void dx_rows(int64_t rows, int64_t ch, const struct affine *a, const struct bend *b,
                                  const float *dz, const float *x, float *dx)
{
    for (int64_t i = 0; i < rows; i++, dz += ch, x += ch, dx += ch)
#pragma omp simd
        for (int64_t k = 0; k < ch; k++)
            dx[k] = a->slope[k] * dz[k] + (x[k] - a->mean[k]) * b->lean[k] + b->shift[k];
}

static void slab_dx(const struct sd_call *c, int64_t from, int64_t to)
{
    struct shape s = shape_of(c, c->node->in[1]);
    enum sd_dtype type = c->node->out[0]->dtype;
    struct rows rows;
    struct bend bend;
    struct affine a;
    for (int64_t t = from; t < to; t++) {
        struct slab b = slab_of(&s, t);
        const float *stats = (const float *)c->in[4] + b.n * s.groups * 2;
        affine_of(&s, stats, c->in[2], c->in[3], &a);
        backward_affine(&s, stats, sums_of(c, &s).group + b.n * s.groups * 2, &bend);
        for (int64_t r = 0, m; r < b.rows; r += m) {
            m = sd_cpu_min(b.rows - r, rows_at_once(s.ch));
            int64_t at = (b.from + r) * s.ch;
            load_rows(c, s.ch, b.from + r, m, &a, &rows);
            float *dx = sd_cpu_place(c->out[0], type, at, rows.dz);
            dx_rows(m, s.ch, &a, &bend, rows.d, rows.x, dx);
            sd_cpu_store(c->out[0], type, at, m * s.ch, dx);
        }
    }
}

static int plan_bwd(struct sd_call *c, struct sd_err *err)
{
    struct shape s = shape_of(c, c->node->in[1]);
    c->scratch_bytes = (size_t)(s.n * (s.slabs + 1) * 2 * s.ch + s.n * s.groups * 2) * sizeof(float);
    return check_channels(c, c->node->in[1], err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void group_norm_bwd(const struct sd_call *c)
{
    struct shape s = shape_of(c, c->node->in[1]);
    sd_cpu_split(c, s.n * s.slabs, 1, slab_sums);
    sd_cpu_split(c, s.ch, 64, merge_channels);
    if (!c->out[0])
        return;
    fold_groups(c, &s);
    sd_cpu_split(c, s.n * s.slabs, 1, slab_dx);
}
const struct sd_kernel sd_cpu_group_norm_bwd = {.plan = plan_bwd, .run = group_norm_bwd};
