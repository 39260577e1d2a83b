/* Group and layer normalisation (Wu and He 2018; Ba et al. 2016). With xhat = (x - mean) rstd and dz the
 * gradient before the affine part, dx = rstd (w dz - mean(w dz) - xhat mean(w dz xhat)), means over the
 * normalised elements. */
#include "tensor/ref/array.h"

#include <math.h>

/* A set of elements that is normalised together: `rows` runs of `len` elements, `stride` apart, from `base`.
 * The channel of element (r, i) is first + i. */
struct set {
    int64_t base, rows, len, stride, first;
};

static int64_t at(struct set s, int64_t r, int64_t i)
{
    return s.base + r * s.stride + i;
}

static void statistics(struct array x, struct set s, double eps, double *mean, double *rstd)
{
    double sum = 0, square = 0;
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.len; i++)
            sum += ld(x, at(s, r, i));
    *mean = sum / (double)(s.rows * s.len);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.len; i++)
            square += pow(ld(x, at(s, r, i)) - *mean, 2);
    *rstd = 1 / sqrt(square / (double)(s.rows * s.len) + eps);
}

static void forward(const struct sd_call *c, struct set s, int64_t index)
{
    struct array x = in(c, 0), w = in(c, 1), b = in(c, 2), y = out(c, 0), stats = out(c, 1);
    double mean, rstd;
    statistics(x, s, c->node->attr.eps, &mean, &rstd);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.len; i++) {
            double z = (ld(x, at(s, r, i)) - mean) * rstd * ld(w, s.first + i) + ld(b, s.first + i);
            st(y, at(s, r, i), sd_ref_act_of(c->node->attr.act, z));
        }
    if (stats.data) {
        st(stats, 2 * index, mean);
        st(stats, 2 * index + 1, rstd);
    }
}

struct backward {
    struct array dy, x, w, b, stats, dx, dw, db; /* b only for act, which layer_norm has not */
    enum sd_act act;
};

/* xhat and dz of the element at j of channel k in set `index`. */
static void element(const struct backward *v, int64_t index, int64_t j, int64_t k, double *xhat, double *dz)
{
    *xhat = (ld(v->x, j) - ld(v->stats, 2 * index)) * ld(v->stats, 2 * index + 1);
    *dz = ld(v->dy, j);
    if (v->act)
        *dz *= sd_ref_act_slope(v->act, *xhat * ld(v->w, k) + ld(v->b, k));
}

static void backward_dx(const struct backward *v, struct set s, int64_t index)
{
    double xhat, dz, sum = 0, dot = 0, n = (double)(s.rows * s.len);
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.len; i++) {
            element(v, index, at(s, r, i), s.first + i, &xhat, &dz);
            sum += ld(v->w, s.first + i) * dz;
            dot += ld(v->w, s.first + i) * dz * xhat;
        }
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.len; i++) {
            element(v, index, at(s, r, i), s.first + i, &xhat, &dz);
            double d = ld(v->w, s.first + i) * dz - sum / n - xhat * dot / n;
            st(v->dx, at(s, r, i), ld(v->stats, 2 * index + 1) * d);
        }
}

/* dw and db of channel k; element (r, k) of the [rows, C] view belongs to set r / rows_a_set * sets + own. */
static void backward_dw(const struct backward *v, int64_t k, int64_t rows_a_set, int64_t sets, int64_t own)
{
    double xhat, dz, dw = 0, db = 0;
    int64_t ch = last(v->x);
    for (int64_t r = 0; r < v->x.n / ch; r++) {
        element(v, r / rows_a_set * sets + own, r * ch + k, k, &xhat, &dz);
        dw += dz * xhat;
        db += dz;
    }
    if (v->dw.data)
        st(v->dw, k, dw);
    if (v->db.data)
        st(v->db, k, db);
}

/* Group g of image n of x [N,...,C]. */
static struct set group_set(struct array x, int64_t groups, int64_t n, int64_t g)
{
    int64_t ch = last(x), len = ch / groups, rows = x.n / x.dim[0] / ch;
    return (struct set){n * rows * ch + g * len, rows, len, ch, g * len};
}

static void group_norm(const struct sd_call *c)
{
    struct array x = in(c, 0);
    int64_t groups = c->node->attr.groups;
    for (int64_t n = 0; n < x.dim[0]; n++)
        for (int64_t g = 0; g < groups; g++)
            forward(c, group_set(x, groups, n, g), n * groups + g);
}
const struct sd_kernel sd_ref_group_norm = {.run = group_norm};

static void group_norm_bwd(const struct sd_call *c)
{
    struct backward v = {in(c, 0),  in(c, 1),  in(c, 2),  in(c, 3),         in(c, 4),
                         out(c, 0), out(c, 1), out(c, 2), c->node->attr.act};
    int64_t groups = c->node->attr.groups, ch = last(v.x), rows = v.x.n / v.x.dim[0] / ch;
    for (int64_t i = 0; i < v.x.dim[0] * groups && v.dx.data; i++)
        backward_dx(&v, group_set(v.x, groups, i / groups, i % groups), i);
    for (int64_t k = 0; k < ch && (v.dw.data || v.db.data); k++)
        backward_dw(&v, k, rows, groups, k / (ch / groups));
}
const struct sd_kernel sd_ref_group_norm_bwd = {.run = group_norm_bwd};

static struct set row_set(struct array x, int64_t r)
{
    return (struct set){r * last(x), 1, last(x), 0, 0};
}

static void layer_norm(const struct sd_call *c)
{
    struct array x = in(c, 0);
    for (int64_t r = 0; r < x.n / last(x); r++)
        forward(c, row_set(x, r), r);
}
const struct sd_kernel sd_ref_layer_norm = {.run = layer_norm};

static void layer_norm_bwd(const struct sd_call *c)
{
    struct backward v = {.dy = in(c, 0),
                         .x = in(c, 1),
                         .w = in(c, 2),
                         .stats = in(c, 3),
                         .dx = out(c, 0),
                         .dw = out(c, 1),
                         .db = out(c, 2)};
    for (int64_t r = 0; r < v.x.n / last(v.x) && v.dx.data; r++)
        backward_dx(&v, row_set(v.x, r), r);
    for (int64_t k = 0; k < last(v.x) && (v.dw.data || v.db.data); k++)
        backward_dw(&v, k, 1, 1, 0);
}
const struct sd_kernel sd_ref_layer_norm_bwd = {.run = layer_norm_bwd};
