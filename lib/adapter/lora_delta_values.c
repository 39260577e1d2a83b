/* The numbers behind lora_delta.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora_delta.h"
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
static float *with_core(float *d, int64_t rank, int64_t in, const struct sd_store_entry *core, int64_t window,
                        struct sd_err *err)
{
    float *t = read_values(core, err), *out = calloc((size_t)(rank * in * window), sizeof *out);
    if (t && !out)
        sd_err_memory(err, (size_t)(rank * in * window) * sizeof *out);
    for (int64_t i = 0; t && out && i < rank; i++)
        for (int64_t s = 0; s < rank; s++)
            for (int64_t c = 0; c < in; c++)
                for (int64_t k = 0; k < window; k++)
                    out[(i * in + c) * window + k] += t[(i * rank + s) * window + k] * d[s * in + c];
    free(d);
    if (!t) {
        free(out);
        out = NULL;
    }
    free(t);
    return out;
}

static int64_t count(const struct sd_store_entry *e)
{
    return (int64_t)(e->bytes / sd_store_dtype_bytes(e->dtype));
}

/* Shapes were checked when the file was opened. */
static int load_matrix(struct sd_delta_matrix *m, const struct sd_store_entry *whole,
                       const struct sd_store_entry *a, const struct sd_store_entry *b,
                       const struct sd_store_entry *core, bool turned, struct sd_err *err)
{
    *m = (struct sd_delta_matrix){0};
    if (whole) {
        m->rows = whole->ndim ? whole->shape[0] : 1;
        m->cols = count(whole) / m->rows;
        return (m->d = read_values(whole, err)) ? 0 : -1;
    }
    m->rank = b->shape[0];
    m->rows = count(a) / m->rank;
    m->cols = count(b) / m->rank;
    if (!(m->u = read_values(a, err)) || !(m->d = read_values(b, err)))
        return -1;
    if (!core)
        return 0;
    int64_t window = count(core) / m->rank / m->rank;
    if (turned && !(m->u = transposed(m->u, m->rank, m->rows, err)))
        return -1;
    m->d = with_core(m->d, m->rank, m->cols, core, window, err);
    m->cols *= window;
    return m->d ? 0 : -1;
}

int sd_delta_load(struct sd_delta *d, const struct sd_delta_module *m, struct sd_err *err)
{
    const struct sd_store_entry *const *t = m->tensor;
    int rc;
    *d = (struct sd_delta){.out = m->out, .width = m->in * m->window, .scale = m->scale, .type = m->type};
    if (m->type == SD_DELTA_LORA) {
        rc = load_matrix(&d->m[0], NULL, t[SD_ROLE_UP], t[SD_ROLE_DOWN], t[SD_ROLE_MID], false, err);
    } else if (m->type == SD_DELTA_DIFF) {
        rc = load_matrix(&d->m[0], t[SD_ROLE_DIFF], NULL, NULL, NULL, false, err);
    } else {
        bool lokr = m->type == SD_DELTA_LOKR;
        rc = load_matrix(&d->m[0], lokr ? t[SD_ROLE_W1] : NULL, t[SD_ROLE_W1_A], t[SD_ROLE_W1_B],
                         lokr ? NULL : t[SD_ROLE_T1], true, err) ||
             load_matrix(&d->m[1], lokr ? t[SD_ROLE_W2] : NULL, t[SD_ROLE_W2_A], t[SD_ROLE_W2_B],
                         t[SD_ROLE_T2], true, err);
    }
    for (int i = 0; i < 2 && !rc && d->m[i].cols; i++)
        if (!(d->row[i] = malloc((size_t)d->m[i].cols * sizeof *d->row[i])))
            rc = sd_err_memory(err, (size_t)d->m[i].cols * sizeof *d->row[i]);
    if (rc)
        sd_delta_free(d);
    return rc ? -1 : 0;
}

void sd_delta_free(struct sd_delta *d)
{
    for (int i = 0; i < 2; i++) {
        free(d->m[i].u);
        free(d->m[i].d);
        free(d->row[i]);
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

void sd_delta_row(struct sd_delta *d, int64_t row, double *out)
{
    if (d->type == SD_DELTA_LOKR) {
        const struct sd_delta_matrix *a = &d->m[0], *b = &d->m[1];
        matrix_row(a, row / b->rows, d->row[0]);
        matrix_row(b, row % b->rows, d->row[1]);
        for (int64_t i = 0; i < a->cols; i++)
            for (int64_t k = 0; k < b->cols; k++)
                out[i * b->cols + k] = d->scale * d->row[0][i] * d->row[1][k];
        return;
    }
    matrix_row(&d->m[0], row, out);
    if (d->type == SD_DELTA_LOHA)
        matrix_row(&d->m[1], row, d->row[1]);
    for (int64_t c = 0; c < d->width; c++)
        out[c] *= d->type == SD_DELTA_LOHA ? d->scale * d->row[1][c] : d->scale;
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

int sd_delta_norm(struct sd_delta *d, double *norm, struct sd_err *err)
{
    double square = 0, other = 1;
    int rc = 0;
    if (d->type == SD_DELTA_LOHA) {
        double *row = malloc((size_t)d->width * sizeof *row);
        if (!row)
            return sd_err_memory(err, (size_t)d->width * sizeof *row);
        for (int64_t i = 0; i < d->out; i++) {
            sd_delta_row(d, i, row);
            for (int64_t c = 0; c < d->width; c++)
                square += row[c] * row[c];
        }
        free(row);
        *norm = sqrt(square);
        return 0;
    }
    rc = matrix_square(&d->m[0], &square, err);
    if (!rc && d->type == SD_DELTA_LOKR) /* the norm of a Kronecker product is that of the norms */
        rc = matrix_square(&d->m[1], &other, err);
    *norm = fabs(d->scale) * sqrt(fmax(square * other, 0));
    return rc;
}
