#include "im2col.h"

#include "rows.h"

namespace
{

constexpr size_t BOUND = sd_cuda_bound(64); /* bytes gathered at a time */

/* Rows are the pixels of a grid [n,gh,gw]; a row is [kh,kw,c] of the source [n,sh,sw,c], zeros where the
 * filter reaches outside, then zeros up to ld. Forward, grid pixel g reads source g*stride + i - pad;
 * backward it is read by source (g + pad - i) / stride. */
struct gather {
    int64_t gh, gw, sh, sw, c, kh, kw, ld;
    int64_t stride, top, left;
    bool backward;
};

__device__ bool source(const gather &g, int64_t at, int64_t tap, int64_t pad, int64_t size, int64_t *from)
{
    int64_t s = g.backward ? at + pad - tap : at * g.stride + tap - pad;
    if (s < 0 || (g.backward && s % g.stride))
        return false;
    *from = g.backward ? s / g.stride : s;
    return *from < size;
}

/* V: an element, or 16 bytes of them; c and ld count in V. */
template <typename V>
__global__ void im2col_kernel(gather g, int64_t first, int64_t rows, const V *from, V *to)
{
    for (int64_t at = sd_first(); at < rows * g.ld; at += sd_stride()) {
        int64_t row = first + at / g.ld, col = at % g.ld, tap = col / g.c;
        int64_t x = row % g.gw, y = row / g.gw % g.gh, n = row / g.gw / g.gh, sx = 0, sy = 0;
        V value = {};
        if (tap < g.kh * g.kw && source(g, y, tap / g.kw, g.top, g.sh, &sy) &&
            source(g, x, tap % g.kw, g.left, g.sw, &sx))
            value = from[((n * g.sh + sy) * g.sw + sx) * g.c + col % g.c];
        to[at] = value;
    }
}

gather gather_of(const sd_im2col *p)
{
    const sd_conv_shape *s = &p->s;
    gather g = {s->p, s->q, s->h, s->w, s->c, s->kh, s->kw, p->row, s->stride, s->top, s->left, false};
    if (p->op == SD_OP_conv2d_dx) {
        g.gh = s->h;
        g.gw = s->w;
        g.sh = s->p;
        g.sw = s->q;
        g.c = s->o;
        g.backward = true;
    }
    return g;
}

void run_gather(cudaStream_t stream, const sd_im2col *p, int64_t first, int64_t rows, const void *from,
                void *to)
{
    gather g = gather_of(p);
    sd_by_type(p->type, [&](auto t) {
        using T = decltype(t);
        using V = sd_wide<T, SD_PACK<T>>;
        if (g.c % SD_PACK<T> == 0) { /* rows are padded to whole packs */
            g.c /= SD_PACK<T>;
            g.ld /= SD_PACK<T>;
            sd_launch(stream, sd_grid(rows * g.ld), SD_THREADS, 0, im2col_kernel<V>, g, first, rows,
                      static_cast<const V *>(from), static_cast<V *>(to));
        } else {
            sd_launch(stream, sd_grid(rows * g.ld), SD_THREADS, 0, im2col_kernel<T>, g, first, rows,
                      static_cast<const T *>(from), static_cast<T *>(to));
        }
    });
}

/* The product of `rows` gathered pixels. */
sd_cuda_gemm product(const sd_im2col *p, int64_t rows)
{
    const sd_conv_shape *s = &p->s;
    if (p->op == SD_OP_conv2d_dw)
        return sd_cuda_gemm_dense(s->o, p->row, rows, true, false, p->type, SD_F32);
    return sd_cuda_gemm_dense(rows, p->op == SD_OP_conv2d ? s->o : s->c, p->row, false, true, p->type,
                              p->type);
}

} // namespace

int sd_im2col_plan(struct sd_cuda *cuda, enum sd_op op, const struct sd_conv_shape *s, enum sd_dtype type,
                   bool bias, enum sd_dtype bias_type, bool acc, struct sd_im2col *p, struct sd_err *err)
{
    bool dx = op == SD_OP_conv2d_dx, dw = op == SD_OP_conv2d_dw;
    int64_t size = static_cast<int64_t>(sd_dtype_size(type)), pack = 16 / size;
    *p = {};
    p->op = op;
    p->s = *s;
    p->type = type;
    p->rows = s->n * (dx ? s->h * s->w : s->p * s->q);
    p->row = (s->kh * s->kw * (dx ? s->o : s->c) + pack - 1) / pack * pack;
    p->layout = dx ? SD_FILTER_CRSK : SD_FILTER_KRSC;
    p->filter = {s->o, s->c, s->kh, s->kw, p->row};
    int64_t fit = p->row ? static_cast<int64_t>(BOUND) / (p->row * size) : p->rows;
    /* A multiple of 8 pixels, so that each chunk's part of y or dy starts as well aligned as the whole. */
    fit = fit < 8 ? 8 : fit / 8 * 8;
    p->chunk = p->rows < fit ? p->rows : fit;
    size_t need = 0;
    for (int i = 0; i < 3; i++) {
        int64_t rows = i < 2 ? p->chunk : p->chunk ? p->rows % p->chunk : 0;
        if ((i == 1 && p->rows < 2 * p->chunk) || (i && (rows == 0 || p->rows == p->chunk)))
            continue;
        sd_cuda_gemm g = product(p, rows);
        g.bias = bias;
        g.bias_type = bias_type;
        g.acc = dw ? i > 0 : acc;
        if (sd_cuda_gemm_prepare(cuda, &g, &p->gemm[i], err))
            return -1;
        need = p->gemm[i].scratch_bytes > need ? p->gemm[i].scratch_bytes : need;
    }
    p->product_offset = sd_cuda_round_up(static_cast<size_t>(p->chunk * p->row * size));
    p->gemm_offset =
        p->product_offset + (dw ? sd_cuda_round_up(static_cast<size_t>(s->o * p->row) * sizeof(float)) : 0);
    p->scratch_bytes = p->gemm_offset + need;
    return 0;
}

void sd_im2col_run(struct sd_cuda *cuda, const struct sd_im2col *p, const void *image, const void *other,
                   const void *bias, const void *acc, void *y, void *scratch)
{
    bool dw = p->op == SD_OP_conv2d_dw;
    int64_t size = static_cast<int64_t>(sd_dtype_size(p->type));
    int64_t width = p->op == SD_OP_conv2d_dx ? p->s.c : p->s.o; /* of a pixel of y, or dy */
    char *base = static_cast<char *>(scratch);
    float *sum = reinterpret_cast<float *>(base + p->product_offset);
    for (int64_t first = 0; first < p->rows; first += p->chunk) {
        int64_t rows = p->rows - first < p->chunk ? p->rows - first : p->chunk, at = first * width * size;
        /* One plan serves all chunks where nothing is added up between them. */
        const struct sd_cuda_gemm_plan *gemm = &p->gemm[rows < p->chunk ? 2 : dw && first ? 1 : 0];
        run_gather(cuda->stream, p, first, rows, image, base);
        if (dw)
            sd_cuda_gemm_run(cuda, gemm, static_cast<const char *>(other) + at, base, NULL,
                             first ? sum : NULL, sum, base + p->gemm_offset);
        else
            sd_cuda_gemm_run(cuda, gemm, base, other, bias, acc ? static_cast<const char *>(acc) + at : NULL,
                             static_cast<char *>(y) + at, base + p->gemm_offset);
    }
    if (dw)
        sd_filter_unpack(cuda->stream, &p->filter, sum, SD_F32, static_cast<float *>(y));
}
