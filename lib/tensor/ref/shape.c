#include "tensor/ref/array.h"

#include <string.h>

/* Copies len channels of every row: from channel xo of rows of x to channel yo of rows of y. */
static void copy_channels(struct array x, int64_t xo, struct array y, int64_t yo, int64_t len)
{
    int64_t rows = y.n / last(y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < len; i++)
            st(y, r * last(y) + yo + i, ld(x, r * last(x) + xo + i));
}

static void concat(const struct sd_call *c)
{
    struct array a = in(c, 0), b = in(c, 1), y = out(c, 0);
    copy_channels(a, 0, y, 0, last(a));
    copy_channels(b, 0, y, last(a), last(b));
}
const struct sd_kernel sd_ref_concat = {.run = concat};

static void slice(const struct sd_call *c)
{
    copy_channels(in(c, 0), c->node->attr.offset, out(c, 0), 0, last(out(c, 0)));
}
const struct sd_kernel sd_ref_slice = {.run = slice};

static void pad_channels(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    for (int64_t i = 0; i < y.n; i++)
        st(y, i, 0);
    copy_channels(x, 0, y, c->node->attr.offset, last(x));
}
const struct sd_kernel sd_ref_pad_channels = {.run = pad_channels};

static void upsample(const struct sd_call *c)
{
    struct array x = in(c, 0), y = out(c, 0);
    int64_t h = x.dim[1], w = x.dim[2], ch = x.dim[3];
    for (int64_t n = 0; n < y.dim[0]; n++)
        for (int64_t i = 0; i < y.dim[1]; i++)
            for (int64_t j = 0; j < y.dim[2]; j++)
                for (int64_t k = 0; k < ch; k++) {
                    int64_t si = i * h / y.dim[1], sj = j * w / y.dim[2];
                    st(y, ((n * y.dim[1] + i) * y.dim[2] + j) * ch + k,
                       ld(x, ((n * h + si) * w + sj) * ch + k));
                }
}
const struct sd_kernel sd_ref_upsample = {.run = upsample};

/* Sum of the pixels (i, j) of image n, channel k of dy [N,H',W',C] that came from (si, sj) of an h by w
 * image. */
static double sum_from(struct array dy, int64_t n, int64_t k, int64_t si, int64_t sj, int64_t h, int64_t w)
{
    double sum = 0;
    for (int64_t i = 0; i < dy.dim[1]; i++)
        for (int64_t j = 0; j < dy.dim[2] && i * h / dy.dim[1] == si; j++)
            if (j * w / dy.dim[2] == sj)
                sum += ld(dy, ((n * dy.dim[1] + i) * dy.dim[2] + j) * dy.dim[3] + k);
    return sum;
}

static void upsample_bwd(const struct sd_call *c)
{
    struct array dy = in(c, 0), dx = out(c, 0);
    int64_t h = dx.dim[1], w = dx.dim[2], ch = dx.dim[3];
    for (int64_t n = 0; n < dx.dim[0]; n++)
        for (int64_t i = 0; i < h; i++)
            for (int64_t j = 0; j < w; j++)
                for (int64_t k = 0; k < ch; k++)
                    st(dx, ((n * h + i) * w + j) * ch + k, sum_from(dy, n, k, i, j, h, w));
}
const struct sd_kernel sd_ref_upsample_bwd = {.run = upsample_bwd};

static void assign(const struct sd_call *c)
{
    memcpy(c->in[0], c->in[1], sd_tensor_bytes(c->node->in[0]));
}
const struct sd_kernel sd_ref_assign = {.run = assign};
