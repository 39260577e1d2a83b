/* Layer norm over the last dimension: a row stays in the first-level cache from its mean to its result.
 * Backward sums of weight and bias gradients go by slabs of rows through scratch, added in order. */
#include "tensor/cpu/norm.h"

#include <math.h>
#include <string.h>

SD_CPU_CLONES float sd_cpu_row_sum(int64_t n, const float *x)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

SD_CPU_CLONES float sd_cpu_row_dot(int64_t n, const float *x, const float *y)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

/* Mean and 1/sqrt(variance + eps) in two passes; the second also sums what rounding left in the mean. */
SD_CPU_CLONES static void statistics(int64_t n, const float *x, float eps, float *mean, float *rstd)
{
    float first = sd_cpu_row_sum(n, x) / (float)n, rest = 0, square = 0;
#pragma omp simd reduction(+ : rest, square)
    for (int64_t i = 0; i < n; i++) {
        rest += x[i] - first;
        square += (x[i] - first) * (x[i] - first);
    }
    rest /= (float)n;
    *mean = first + rest;
    *rstd = 1 / sqrtf(square / (float)n - rest * rest + eps);
}

struct shape {
    int64_t rows, ch, slab, slabs; /* slab: rows a task of the backward */
};

static struct shape shape_of(const struct sd_tensor *x)
{
    struct shape s = {.ch = x->dim[x->ndim - 1]};
    s.rows = sd_tensor_count(x) / s.ch;
    s.slab = sd_cpu_max(16, 2 * SD_CPU_CHUNK / s.ch);
    s.slabs = (s.rows + s.slab - 1) / s.slab;
    return s;
}

SD_CPU_CLONES static void normalise(int64_t n, const float *x, float mean, float rstd, const float *w,
                                    const float *b, float *y)
{
#pragma omp simd
    for (int64_t k = 0; k < n; k++)
        y[k] = (x[k] - mean) * rstd * w[k] + b[k];
}

static void norm_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *t = c->node->in[0];
    int64_t ch = shape_of(t).ch;
    float bx[SD_CPU_MAX_CHANNELS], by[SD_CPU_MAX_CHANNELS];
    for (int64_t r = from; r < to; r++) {
        const float *x = sd_cpu_load(c->in[0], t->dtype, r * ch, ch, bx);
        float *y = sd_cpu_place(c->out[0], t->dtype, r * ch, by), mean, rstd;
        statistics(ch, x, c->node->attr.eps, &mean, &rstd);
        normalise(ch, x, mean, rstd, c->in[1], c->in[2], y);
        sd_cpu_store(c->out[0], t->dtype, r * ch, ch, y);
        if (c->out[1]) {
            ((float *)c->out[1])[2 * r] = mean;
            ((float *)c->out[1])[2 * r + 1] = rstd;
        }
    }
}

static int check_width(const struct sd_call *c, const struct sd_tensor *x, struct sd_err *err)
{
    int64_t ch = x->dim[x->ndim - 1];
    if (ch <= SD_CPU_MAX_CHANNELS)
        return 0;
    return sd_err_set(err, SD_ERR_MACHINE, "%s: cpu: rows of %lld are longer than %d",
                      sd_op_name(c->node->op), (long long)ch, SD_CPU_MAX_CHANNELS);
}

static int plan(struct sd_call *c, struct sd_err *err)
{
    return check_width(c, c->node->in[0], err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void layer_norm(const struct sd_call *c)
{
    struct shape s = shape_of(c->node->in[0]);
    sd_cpu_split(c, s.rows, sd_cpu_max(1, SD_CPU_CHUNK / s.ch), norm_rows);
}
const struct sd_kernel sd_cpu_layer_norm = {.plan = plan, .run = layer_norm};

/* Backward: inputs dy, x, w, stats; outputs dx, dw, db. Turns x into xhat and dy into w dy, adding to dw and
 * db. */
SD_CPU_CLONES static void prepare(int64_t n, const float *dy, const float *x, float mean, float rstd,
                                  const float *w, float *xhat, float *wdy)
{
#pragma omp simd
    for (int64_t k = 0; k < n; k++) {
        xhat[k] = (x[k] - mean) * rstd;
        wdy[k] = w[k] * dy[k];
    }
}

SD_CPU_CLONES static void add_sums(int64_t n, const float *dy, const float *xhat, float *dw, float *db)
{
#pragma omp simd
    for (int64_t k = 0; k < n; k++) {
        dw[k] += dy[k] * xhat[k];
        db[k] += dy[k];
    }
}

SD_CPU_CLONES static void dx_row(int64_t n, const float *wdy, const float *xhat, float rstd, float mean,
                                 float lean, float *dx)
{
#pragma omp simd
    for (int64_t k = 0; k < n; k++)
        dx[k] = rstd * (wdy[k] - mean - xhat[k] * lean);
}

struct row {
    float x[SD_CPU_MAX_CHANNELS], dy[SD_CPU_MAX_CHANNELS], xhat[SD_CPU_MAX_CHANNELS],
        wdy[SD_CPU_MAX_CHANNELS];
};

/* One row of the backward; dw and db are NULL when nobody wants them. */
static void backward_row(const struct sd_call *c, int64_t ch, int64_t r, struct row *buf, float *dw,
                         float *db)
{
    const float *dy = sd_cpu_load(c->in[0], c->node->in[0]->dtype, r * ch, ch, buf->dy);
    const float *x = sd_cpu_load(c->in[1], c->node->in[1]->dtype, r * ch, ch, buf->x);
    const float *stats = (const float *)c->in[3] + 2 * r;
    prepare(ch, dy, x, stats[0], stats[1], c->in[2], buf->xhat, buf->wdy);
    if (dw)
        add_sums(ch, dy, buf->xhat, dw, db);
    if (!c->out[0])
        return;
    float mean = sd_cpu_row_sum(ch, buf->wdy) / (float)ch,
          lean = sd_cpu_row_dot(ch, buf->wdy, buf->xhat) / (float)ch;
    enum sd_dtype type = c->node->out[0]->dtype;
    float *dx = sd_cpu_place(c->out[0], type, r * ch, buf->wdy);
    dx_row(ch, buf->wdy, buf->xhat, stats[1], mean, lean, dx);
    sd_cpu_store(c->out[0], type, r * ch, ch, dx);
}

static void slab_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    struct shape s = shape_of(c->node->in[1]);
    struct row buf;
    for (int64_t t = from; t < to; t++) {
        float *dw = NULL, *db = NULL;
        if (c->out[1] || c->out[2]) {
            dw = (float *)c->scratch + t * 2 * s.ch;
            db = dw + s.ch;
            memset(dw, 0, (size_t)(2 * s.ch) * sizeof *dw);
        }
        for (int64_t r = t * s.slab; r < sd_cpu_min(s.rows, (t + 1) * s.slab); r++)
            backward_row(c, s.ch, r, &buf, dw, db);
    }
}

static void merge_channels(const struct sd_call *c, int64_t from, int64_t to)
{
    struct shape s = shape_of(c->node->in[1]);
    for (int which = 0; which < 2; which++) {
        float *y = c->out[1 + which];
        for (int64_t k = from; k < to && y; k++) {
            double sum = 0;
            for (int64_t t = 0; t < s.slabs; t++)
                sum += (double)((const float *)c->scratch)[(t * 2 + which) * s.ch + k];
            y[k] = (float)sum;
        }
    }
}

static int plan_bwd(struct sd_call *c, struct sd_err *err)
{
    struct shape s = shape_of(c->node->in[1]);
    if (c->node->out[1] || c->node->out[2])
        c->scratch_bytes = (size_t)(s.slabs * 2 * s.ch) * sizeof(float);
    return check_width(c, c->node->in[1], err) ? -1 : sd_cpu_plan_floats(c, err);
}

static void layer_norm_bwd(const struct sd_call *c)
{
    struct shape s = shape_of(c->node->in[1]);
    sd_cpu_split(c, s.slabs, 1, slab_rows);
    if (c->out[1] || c->out[2])
        sd_cpu_split(c, s.ch, 64, merge_channels);
}
const struct sd_kernel sd_cpu_layer_norm_bwd = {.plan = plan_bwd, .run = layer_norm_bwd};
