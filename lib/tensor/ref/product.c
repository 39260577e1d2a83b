#include "tensor/ref/array.h"

static void matmul(const struct sd_call *c)
{
    const struct sd_attr *at = &c->node->attr;
    struct array a = in(c, 0), b = in(c, 1), bias = in(c, 2), acc = in(c, 3), y = out(c, 0);
    int64_t cols = last(y), k_len = b.n / cols, rows = a.n / k_len;
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < cols; n++) {
            double sum = 0;
            for (int64_t k = 0; k < k_len; k++)
                sum += ld(a, at->trans_a ? k * rows + m : m * k_len + k) *
                       ld(b, at->trans_b ? n * k_len + k : k * cols + n);
            sum *= at->scale;
            if (bias.data)
                sum += ld(bias, n);
            if (acc.data)
                sum += ld(acc, m * cols + n);
            st(y, m * cols + n, sum);
        }
}
const struct sd_kernel sd_ref_matmul = {.run = matmul};

/* One convolution: x [N,H,W,C] with w [O,C,kh,kw] gives y [N,P,Q,O]; input row of output row p and kernel row
 * i is p*stride + i - top. All three kernels below read their sizes from it. */
struct conv {
    int64_t n, h, w, c, o, kh, kw, p, q, stride, top, left;
};

static struct conv conv_of(const struct sd_call *c, struct array x, struct array w, struct array y)
{
    const struct sd_attr *at = &c->node->attr;
    return (struct conv){x.dim[0], x.dim[1], x.dim[2], x.dim[3],   w.dim[0],    w.dim[2],
                         w.dim[3], y.dim[1], y.dim[2], at->stride, at->pad_top, at->pad_left};
}

static int64_t x_at(const struct conv *v, int64_t n, int64_t h, int64_t w)
{
    return ((n * v->h + h) * v->w + w) * v->c;
}

static int64_t y_at(const struct conv *v, int64_t n, int64_t p, int64_t q)
{
    return ((n * v->p + p) * v->q + q) * v->o;
}

static int64_t w_at(const struct conv *v, int64_t o, int64_t c, int64_t i, int64_t j)
{
    return ((o * v->c + c) * v->kh + i) * v->kw + j;
}

static double conv_one(const struct conv *v, struct array x, struct array w, int64_t n, int64_t p, int64_t q,
                       int64_t o)
{
    double sum = 0;
    for (int64_t i = 0; i < v->kh; i++)
        for (int64_t j = 0; j < v->kw; j++) {
            int64_t h = p * v->stride + i - v->top, ww = q * v->stride + j - v->left;
            if (h < 0 || h >= v->h || ww < 0 || ww >= v->w)
                continue;
            for (int64_t c = 0; c < v->c; c++)
                sum += ld(x, x_at(v, n, h, ww) + c) * ld(w, w_at(v, o, c, i, j));
        }
    return sum;
}

static void conv2d(const struct sd_call *c)
{
    struct array x = in(c, 0), w = in(c, 1), bias = in(c, 2), acc = in(c, 3), y = out(c, 0);
    struct conv v = conv_of(c, x, w, y);
    for (int64_t n = 0; n < v.n; n++)
        for (int64_t p = 0; p < v.p; p++)
            for (int64_t q = 0; q < v.q; q++)
                for (int64_t o = 0; o < v.o; o++) {
                    int64_t at = y_at(&v, n, p, q) + o;
                    double sum = conv_one(&v, x, w, n, p, q, o);
                    if (bias.data)
                        sum += ld(bias, o);
                    if (acc.data)
                        sum += ld(acc, at);
                    st(y, at, sum);
                }
}
const struct sd_kernel sd_ref_conv2d = {.run = conv2d};

/* dx[n,h,w,c] = sum of dy[n,p,q,o] w[o,c,i,j] over the p, q, i, j that read this pixel. */
static double dx_one(const struct conv *v, struct array dy, struct array w, int64_t n, int64_t h, int64_t ww,
                     int64_t c)
{
    double sum = 0;
    for (int64_t i = 0; i < v->kh; i++)
        for (int64_t j = 0; j < v->kw; j++) {
            int64_t ps = h + v->top - i, qs = ww + v->left - j, p = ps / v->stride, q = qs / v->stride;
            if (ps < 0 || qs < 0 || ps % v->stride || qs % v->stride || p >= v->p || q >= v->q)
                continue;
            for (int64_t o = 0; o < v->o; o++)
                sum += ld(dy, y_at(v, n, p, q) + o) * ld(w, w_at(v, o, c, i, j));
        }
    return sum;
}

static void conv2d_dx(const struct sd_call *c)
{
    struct array dy = in(c, 0), w = in(c, 1), dx = out(c, 0);
    struct conv v = conv_of(c, dx, w, dy);
    for (int64_t n = 0; n < v.n; n++)
        for (int64_t h = 0; h < v.h; h++)
            for (int64_t ww = 0; ww < v.w; ww++)
                for (int64_t k = 0; k < v.c; k++)
                    st(dx, x_at(&v, n, h, ww) + k, dx_one(&v, dy, w, n, h, ww, k));
}
const struct sd_kernel sd_ref_conv2d_dx = {.run = conv2d_dx};

/* dw[o,c,i,j] = sum of dy[n,p,q,o] x[n, p*stride+i-top, q*stride+j-left, c]. */
static double dw_one(const struct conv *v, struct array x, struct array dy, int64_t o, int64_t c, int64_t i,
                     int64_t j)
{
    double sum = 0;
    for (int64_t n = 0; n < v->n; n++)
        for (int64_t p = 0; p < v->p; p++)
            for (int64_t q = 0; q < v->q; q++) {
                int64_t h = p * v->stride + i - v->top, w = q * v->stride + j - v->left;
                if (h >= 0 && h < v->h && w >= 0 && w < v->w)
                    sum += ld(dy, y_at(v, n, p, q) + o) * ld(x, x_at(v, n, h, w) + c);
            }
    return sum;
}

static void conv2d_dw(const struct sd_call *c)
{
    struct array x = in(c, 0), dy = in(c, 1), dw = out(c, 0);
    struct conv v = conv_of(c, x, dw, dy);
    for (int64_t o = 0; o < v.o; o++)
        for (int64_t k = 0; k < v.c; k++)
            for (int64_t i = 0; i < v.kh; i++)
                for (int64_t j = 0; j < v.kw; j++)
                    st(dw, w_at(&v, o, k, i, j), dw_one(&v, x, dy, o, k, i, j));
}
const struct sd_kernel sd_ref_conv2d_dw = {.run = conv2d_dw};
