/* The arithmetic of network_file.h: f32, but OFT's rotations are found in f64. */
#include "adapter/network_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t sd_network_weight_count(const struct sd_network_layer *l)
{
    const struct sd_target *t = l->target;
    return (size_t)(t->out * t->in * t->kernel * t->kernel);
}

/* A tensor of the file as f32, to be freed. Shapes were checked: the count is that of the file's bytes. */
static float *load(const struct sd_network_layer *l, enum sd_network_part part, struct sd_err *err)
{
    const struct sd_store_entry *e = l->part[part];
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype);
    float *v = malloc((n + 1) * sizeof *v);
    if (v)
        sd_store_to_f32(e->dtype, e->data, n, v);
    else
        sd_err_memory(err, n * sizeof *v);
    return v;
}

/* y [m,n] = scale * a b, a [m,k] (trans: [k,m]), b [k,n] */
static void product(const float *a, bool trans, const float *b, float scale, int64_t m, int64_t k, int64_t n,
                    float *y)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < m; i++) {
        float *row = y + i * n;
        memset(row, 0, (size_t)n * sizeof *row);
        for (int64_t j = 0; j < k; j++) {
            float f = scale * (trans ? a[j * m + i] : a[i * k + j]);
            const float *from = b + j * n;
            for (int64_t x = 0; x < n; x++)
                row[x] += f * from[x];
        }
    }
}

/* y [out,in,window] = scale * sum over i, j of up[i,p] core[i,j,w] down[j,q]; up is [out,r] (first: [r,out]).
 */
static int tucker(const float *core, const float *up, bool first, const float *down, float scale, int64_t out,
                  int64_t r, int64_t in, int64_t window, float *y, struct sd_err *err)
{
    float *half = malloc((size_t)(r * in * window + 1) * sizeof *half); /* [r,in,window] */
    if (!half)
        return sd_err_memory(err, (size_t)(r * in * window) * sizeof *half);
    memset(half, 0, (size_t)(r * in * window) * sizeof *half);
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j < r; j++)
            for (int64_t q = 0; q < in; q++)
                for (int64_t w = 0; w < window; w++)
                    half[(i * in + q) * window + w] += core[(i * r + j) * window + w] * down[j * in + q];
    product(up, first, half, scale, out, r, in * window, y);
    free(half);
    return 0;
}

/* scale * a b, or with a core the same over its window, into y [rows, cols window]. */
static int factors(const struct sd_network_layer *l, const enum sd_network_part part[3], bool first,
                   float scale, int64_t rows, int64_t cols, float *y, struct sd_err *err)
{
    const struct sd_store_entry *core = l->part[part[2]];
    int64_t window = l->target->kernel * l->target->kernel, r = l->part[part[1]]->shape[0];
    float *a = load(l, part[0], err), *b = load(l, part[1], err), *t = core ? load(l, part[2], err) : NULL;
    int rc = a && b && (t || !core) ? 0 : -1;
    if (!rc && core)
        rc = tucker(t, a, first, b, scale, rows, r, cols, window, y, err);
    else if (!rc)
        product(a, false, b, scale, rows, r, cols * window, y);
    free(a);
    free(b);
    free(t);
    return rc;
}

static int lora(const struct sd_network_layer *l, float *y, struct sd_err *err)
{
    static const enum sd_network_part parts[] = {SD_NETWORK_UP, SD_NETWORK_DOWN, SD_NETWORK_MID};
    return factors(l, parts, false, l->scale, l->target->out, l->target->in, y, err);
}

static int loha(const struct sd_network_layer *l, float *y, struct sd_err *err)
{
    static const enum sd_network_part one[] = {SD_NETWORK_W1_A, SD_NETWORK_W1_B, SD_NETWORK_T1},
                                      two[] = {SD_NETWORK_W2_A, SD_NETWORK_W2_B, SD_NETWORK_T2};
    size_t n = sd_network_weight_count(l);
    float *other = malloc((n + 1) * sizeof *other);
    if (!other)
        return sd_err_memory(err, n * sizeof *other);
    int rc = factors(l, one, true, l->scale, l->target->out, l->target->in, y, err) ||
                     factors(l, two, true, 1, l->target->out, l->target->in, other, err)
                 ? -1
                 : 0;
    for (size_t i = 0; i < n && !rc; i++)
        y[i] *= other[i];
    free(other);
    return rc;
}

/* One factor of Kronecker's product, stored whole or as a product; window-less ones have window 1. */
static float *kron_factor(const struct sd_network_layer *l, enum sd_network_part whole,
                          const enum sd_network_part part[3], int64_t rows, int64_t cols, int64_t window,
                          struct sd_err *err)
{
    if (l->part[whole])
        return load(l, whole, err);
    size_t n = (size_t)(rows * cols * window);
    float *y = malloc((n + 1) * sizeof *y);
    if (!y) {
        sd_err_memory(err, n * sizeof *y);
        return NULL;
    }
    int rc = 0;
    if (window > 1 || l->part[part[2]]) {
        rc = factors(l, part, true, 1, rows, cols, y, err);
    } else { /* of a convolution's layer, but without its window */
        float *a = load(l, part[0], err), *b = load(l, part[1], err);
        rc = a && b ? 0 : -1;
        if (!rc)
            product(a, false, b, 1, rows, l->part[part[1]]->shape[0], cols, y);
        free(a);
        free(b);
    }
    if (!rc)
        return y;
    free(y);
    return NULL;
}

static int lokr(const struct sd_network_layer *l, float *y, struct sd_err *err)
{
    static const enum sd_network_part one[] = {SD_NETWORK_W1_A, SD_NETWORK_W1_B, SD_NETWORK_T1},
                                      two[] = {SD_NETWORK_W2_A, SD_NETWORK_W2_B, SD_NETWORK_T2};
    const struct sd_store_entry *w1 = l->part[SD_NETWORK_W1];
    int64_t rows = (w1 ? w1 : l->part[SD_NETWORK_W1_A])->shape[0],
            cols = (w1 ? w1 : l->part[SD_NETWORK_W1_B])->shape[1];
    int64_t out = l->target->out / rows, window = l->target->kernel * l->target->kernel,
            run = l->target->in / cols * window;
    float *a = kron_factor(l, SD_NETWORK_W1, one, rows, cols, 1, err);
    float *b = a ? kron_factor(l, SD_NETWORK_W2, two, out, l->target->in / cols, window, err) : NULL;
    for (int64_t i = 0; i < rows && b; i++)
        for (int64_t p = 0; p < out; p++)
            for (int64_t j = 0; j < cols; j++) {
                float f = l->scale * a[i * cols + j];
                float *to = y + ((i * out + p) * cols + j) * run;
                for (int64_t q = 0; q < run; q++)
                    to[q] = f * b[p * run + q];
            }
    int rc = b ? 0 : -1;
    free(a);
    free(b);
    return rc;
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
    product(turn, false, weight, 1, n, n, cols, y);
    free(m);
    free(turn);
    return 0;
}

static int oft(const struct sd_network_layer *l, const float *weight, float *y, struct sd_err *err)
{
    int64_t blocks = l->rank, n = l->target->out / blocks,
            cols = l->target->in * l->target->kernel * l->target->kernel;
    float *b = load(l, SD_NETWORK_BLOCKS, err);
    if (!b)
        return -1;
    double norm = 0, limit = (double)l->alpha * (double)l->target->out;
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

int sd_network_delta(const struct sd_network_layer *l, const float *weight, float *delta, struct sd_err *err)
{
    switch (l->kind) {
    case SD_NETWORK_LOHA:
        return loha(l, delta, err);
    case SD_NETWORK_LOKR:
        return lokr(l, delta, err);
    case SD_NETWORK_OFT:
        return oft(l, weight, delta, err);
    default:
        return lora(l, delta, err);
    }
}
