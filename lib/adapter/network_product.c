#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_private.h"
#include "adapter/network_product.h"
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
