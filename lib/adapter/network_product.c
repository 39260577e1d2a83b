#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_private.h"
#include "adapter/network_product.h"
#include "adapter/target.h"
#include "base/clones.h"

/* ---- loading ---- */

static float *read_values(const struct sd_store_entry *e, struct sd_err *err)
{
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype);
    float *v = malloc((n + 1) * sizeof *v);
    if (!v)
        sd_err_memory(err, n * sizeof *v);
    else
        sd_store_to_f32(e->dtype, e->data, n, v);
    return v;
}

/* in [rows,cols] becomes [cols,rows]. */
static float *transposed(float *in, int64_t rows, int64_t cols, struct sd_err *err)
{
    float *out = malloc((size_t)(rows * cols) * sizeof *out);
    if (!out)
        sd_err_memory(err, (size_t)(rows * cols) * sizeof *out);
    for (int64_t i = 0; out && i < rows; i++)
        for (int64_t k = 0; k < cols; k++)
            out[k * rows + i] = in[i * cols + k];
    free(in);
    return out;
}

/* The core of CP form goes into the second factor: d[i, c, t] = sum over s of core[i, s, t] d[s, c]. */
static float *with_core(float *d, int64_t rank, int64_t in, const float *core, int64_t window,
                        struct sd_err *err)
{
    float *out = calloc((size_t)(rank * in * window), sizeof *out);
    if (!out)
        sd_err_memory(err, (size_t)(rank * in * window) * sizeof *out);
    for (int64_t i = 0; out && i < rank; i++)
        for (int64_t s = 0; s < rank; s++)
            for (int64_t c = 0; c < in; c++)
                for (int64_t k = 0; k < window; k++)
                    out[(i * in + c) * window + k] += core[(i * rank + s) * window + k] * d[s * in + c];
    free(d);
    return out;
}

static int64_t count(const struct sd_store_entry *e)
{
    return (int64_t)(e->bytes / sd_store_dtype_bytes(e->dtype));
}

/* What it has read by the time of a failure is in *x. */
static int load_matrix(struct sd_delta_matrix *x, const struct sd_network_module *m,
                       const struct sd_network_factor *f, struct sd_err *err)
{
    const struct sd_store_entry *whole = m->tensor[f->whole], *a = m->tensor[f->a], *b = m->tensor[f->b],
                                *core = m->tensor[f->core];
    *x = (struct sd_delta_matrix){0};
    if (whole) {
        x->rows = whole->ndim ? whole->shape[0] : 1;
        x->cols = count(whole) / x->rows;
        return (x->d = read_values(whole, err)) ? 0 : -1;
    }
    x->rank = b->shape[0];
    x->rows = count(a) / x->rank;
    x->cols = count(b) / x->rank;
    if (!(x->u = read_values(a, err)) || !(x->d = read_values(b, err)))
        return -1;
    if (!core)
        return 0;
    if (f->turned && !(x->u = transposed(x->u, x->rank, x->rows, err)))
        return -1;
    int64_t window = count(core) / x->rank / x->rank;
    float *t = read_values(core, err);
    x->d = t ? with_core(x->d, x->rank, x->cols, t, window, err) : (free(x->d), NULL);
    free(t);
    x->cols *= window;
    return x->d ? 0 : -1;
}

int sd_delta_load(struct sd_delta *d, const struct sd_network_module *m, struct sd_err *err)
{
    const struct sd_network_factor *f = sd_network_factors[m->type];
    *d = (struct sd_delta){.out = m->out, .width = m->in * m->window, .scale = m->scale, .type = m->type};
    if (!load_matrix(&d->m[0], m, &f[0], err) &&
        (!sd_network_has_two(m->type) || !load_matrix(&d->m[1], m, &f[1], err)))
        return 0;
    sd_delta_free(d);
    return -1;
}

void sd_delta_free(struct sd_delta *d)
{
    for (int i = 0; i < 2; i++) {
        free(d->m[i].u);
        free(d->m[i].d);
    }
    *d = (struct sd_delta){0};
}

/* ---- rows ---- */

SD_CLONES static void matrix_row(const struct sd_delta_matrix *m, int64_t row, double *out)
{
    int64_t cols = m->cols;
    if (!m->u) {
        for (int64_t c = 0; c < cols; c++)
            out[c] = (double)m->d[row * cols + c];
        return;
    }
    memset(out, 0, (size_t)cols * sizeof *out);
    for (int64_t r = 0; r < m->rank; r++) {
        double u = (double)m->u[row * m->rank + r];
        const float *d = m->d + r * cols;
        for (int64_t c = 0; c < cols; c++)
            out[c] += u * (double)d[c];
    }
}

void sd_delta_row(const struct sd_delta *d, int64_t row, double *out, double *scratch)
{
    if (d->type == SD_NETWORK_LOKR) {
        const struct sd_delta_matrix *a = &d->m[0], *b = &d->m[1];
        double *other = scratch + a->cols;
        matrix_row(a, row / b->rows, scratch);
        matrix_row(b, row % b->rows, other);
        for (int64_t i = 0; i < a->cols; i++)
            for (int64_t k = 0; k < b->cols; k++)
                out[i * b->cols + k] = d->scale * scratch[i] * other[k];
        return;
    }
    matrix_row(&d->m[0], row, out);
    if (d->type == SD_NETWORK_LOHA)
        matrix_row(&d->m[1], row, scratch);
    for (int64_t c = 0; c < d->width; c++)
        out[c] *= d->type == SD_NETWORK_LOHA ? d->scale * scratch[c] : d->scale;
}

/* ---- norms ---- */

SD_CLONES static double dot(const float *a, const float *b, int64_t n)
{
    double sum[8] = {0};
    for (int64_t i = 0; i < n / 8 * 8; i += 8)
        for (int k = 0; k < 8; k++)
            sum[k] += (double)a[i + k] * (double)b[i + k];
    for (int64_t i = n / 8 * 8; i < n; i++)
        sum[0] += (double)a[i] * (double)b[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* |u d|^2 = sum over i, k of (u^T u)[i,k] (d d^T)[i,k]: rank^2 products of columns and rows, not rows * cols
 * * rank. */
static int low_rank_square(const struct sd_delta_matrix *m, double *square, struct sd_err *err)
{
    size_t n = (size_t)(m->rank * m->rows);
    float *copy = malloc((n + 1) * sizeof *copy), *u;
    if (!copy)
        return sd_err_memory(err, n * sizeof *copy);
    memcpy(copy, m->u, n * sizeof *copy);
    if (!(u = transposed(copy, m->rows, m->rank, err)))
        return -1;
    *square = 0;
    for (int64_t i = 0; i < m->rank; i++)
        for (int64_t k = 0; k <= i; k++)
            *square += (i == k ? 1 : 2) * dot(u + i * m->rows, u + k * m->rows, m->rows) *
                       dot(m->d + i * m->cols, m->d + k * m->cols, m->cols);
    free(u);
    return 0;
}

static int matrix_square(const struct sd_delta_matrix *m, double *square, struct sd_err *err)
{
    if (m->u)
        return low_rank_square(m, square, err);
    *square = dot(m->d, m->d, m->rows * m->cols);
    return 0;
}

int sd_delta_norm(const struct sd_delta *d, double *norm, struct sd_err *err)
{
    double square = 0, other = 1;
    int rc = 0;
    if (d->type == SD_NETWORK_LOHA) {
        double *row = malloc((size_t)(2 * d->width) * sizeof *row);
        if (!row)
            return sd_err_memory(err, (size_t)(2 * d->width) * sizeof *row);
        for (int64_t i = 0; i < d->out; i++) {
            sd_delta_row(d, i, row, row + d->width);
            for (int64_t c = 0; c < d->width; c++)
                square += row[c] * row[c];
        }
        free(row);
        *norm = sqrt(square);
        return 0;
    }
    rc = matrix_square(&d->m[0], &square, err);
    if (!rc && d->type == SD_NETWORK_LOKR) /* the norm of a Kronecker product is that of the norms */
        rc = matrix_square(&d->m[1], &other, err);
    *norm = fabs(d->scale) * sqrt(fmax(square * other, 0));
    return rc;
}

/* ---- OFT ---- */

/* y [n,cols] = a [n,n] b [n,cols] */
static void product(const float *a, const float *b, int64_t n, int64_t cols, float *y)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float *row = y + i * cols;
        memset(row, 0, (size_t)cols * sizeof *row);
        for (int64_t j = 0; j < n; j++) {
            float f = a[i * n + j];
            const float *from = b + j * cols;
            for (int64_t x = 0; x < cols; x++)
                row[x] += f * from[x];
        }
    }
}

/* Solves m x = rhs in place, both [n,n]; m is I + Q with Q skew-symmetric, whose symmetric part is the
 * identity: no pivot is below 1, so none is sought. */
static void solve(double *m, double *rhs, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
#pragma omp parallel for schedule(static) if (n > 64)
        for (int64_t i = k + 1; i < n; i++) {
            double f = m[i * n + k] / m[k * n + k];
            for (int64_t j = k + 1; j < n; j++)
                m[i * n + j] -= f * m[k * n + j];
            for (int64_t j = 0; j < n; j++)
                rhs[i * n + j] -= f * rhs[k * n + j];
        }
    for (int64_t k = n - 1; k >= 0; k--) {
        for (int64_t i = k + 1; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                rhs[k * n + j] -= m[k * n + i] * rhs[i * n + j];
        for (int64_t j = 0; j < n; j++)
            rhs[k * n + j] /= m[k * n + k];
    }
}

/* With R = (I + Q) (I - Q)^-1 (Cayley, 1846), sd-scripts takes R^T W, block by block; R^T - I is
 * -2 (I + Q)^-1 Q, which loses no digits to the difference. */
static int oft_block(const float *b, double factor, const float *weight, int64_t n, int64_t cols, float *y,
                     struct sd_err *err)
{
    size_t count = (size_t)(n * n);
    double *m = malloc(2 * count * sizeof *m), *x = m + count;
    float *turn = malloc(count * sizeof *turn);
    if (!m || !turn) {
        free(m);
        free(turn);
        return sd_err_memory(err, 3 * count * sizeof *m);
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double q = ((double)b[i * n + j] - (double)b[j * n + i]) * factor;
            m[i * n + j] = q + (i == j);
            x[i * n + j] = -2 * q;
        }
    solve(m, x, n);
    for (size_t i = 0; i < count; i++)
        turn[i] = (float)x[i];
    product(turn, weight, n, cols, y);
    free(m);
    free(turn);
    return 0;
}

static int oft(const struct sd_network_module *m, const float *weight, float *y, struct sd_err *err)
{
    const struct sd_store_entry *e = m->tensor[SD_ROLE_OFT];
    int64_t blocks = e->shape[0], n = e->shape[1];
    int64_t cols = m->target->in * m->target->kernel * m->target->kernel;
    float *b = read_values(e, err);
    if (!b)
        return -1;
    double norm = 0, limit = m->tensor[SD_ROLE_ALPHA] ? m->alpha * (double)m->target->out : INFINITY;
    for (int64_t k = 0; k < blocks; k++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double q = (double)b[(k * n + i) * n + j] - (double)b[(k * n + j) * n + i];
                norm += q * q;
            }
    norm = sqrt(norm);
    double factor = (fmin(norm, limit) + 1e-8) / (norm + 1e-8);
    int rc = 0;
    for (int64_t k = 0; k < blocks && !rc; k++)
        rc = oft_block(b + k * n * n, factor, weight + k * n * cols, n, cols, y + k * n * cols, err);
    free(b);
    return rc;
}

/* ---- whole layers ---- */

size_t sd_network_weight_count(const struct sd_network_module *m)
{
    const struct sd_target *t = m->target;
    return (size_t)(t->out * t->in * t->kernel * t->kernel);
}

/* Each thread has a row in f64, and what sd_delta_row needs beside it. */
static int whole(const struct sd_delta *d, float *delta, struct sd_err *err)
{
    size_t width = (size_t)d->width;
    bool failed = false;
#pragma omp parallel
    {
        double *row = malloc((2 * width + 1) * sizeof *row);
        if (!row) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < d->out; i++) {
            if (!row)
                continue;
            sd_delta_row(d, i, row, row + width);
            for (size_t c = 0; c < width; c++)
                delta[(size_t)i * width + c] = (float)row[c];
        }
        free(row);
    }
    return failed ? sd_err_memory(err, (2 * width + 1) * sizeof(double)) : 0;
}

int sd_network_delta(const struct sd_network_module *m, const float *weight, float *delta, struct sd_err *err)
{
    struct sd_delta d;
    if (m->type == SD_NETWORK_OFT)
        return oft(m, weight, delta, err);
    if (sd_delta_load(&d, m, err))
        return -1;
    if (m->alpha == 0) /* networks.lora and LyCORIS take it for the rank */
        d.scale = 1;
    int rc = whole(&d, delta, err);
    sd_delta_free(&d);
    return rc;
}
