#include "products.h"

#include <stdlib.h>
#include <string.h>

/* A filter packed for the life of the backend. */
struct sd_cuda_packed {
    struct sd_cuda_packed *next;
    const struct sd_var *var;
    enum sd_filter layout;
    enum sd_dtype type;
    int64_t row;
    size_t bytes;
    void *data;
};

/* --- the backend's record --- */

/* The bits of the features in a list of their names. */
static int forbidden(const char *list, unsigned *bits, struct sd_err *err)
{
    static const char *const names[] = {"cublaslt", "cudnn", "fusion", "sdpa", "graphs"};
    constexpr unsigned n_names = sizeof names / sizeof *names;
    *bits = 0;
    while (list && *list) {
        size_t len = strcspn(list, ",");
        unsigned i = 0;
        while (i < n_names && (strlen(names[i]) != len || strncmp(list, names[i], len)))
            i++;
        if (i == n_names)
            return sd_err_set(err, SD_ERR_USAGE,
                              "SD_CUDA_WITHOUT has '%.*s'; it takes cublaslt, cudnn, fusion, sdpa and "
                              "graphs, parted by commas",
                              static_cast<int>(len < 64 ? len : 64), list);
        *bits |= 1u << i;
        list += len + (list[len] == ',');
    }
    return 0;
}

int sd_cuda_products_make(struct sd_cuda *cuda, struct sd_err *err)
{
    unsigned without = 0;
    if (forbidden(getenv("SD_CUDA_WITHOUT"), &without, err))
        return -1;
    cuda->products = static_cast<sd_cuda_products *>(calloc(1, sizeof *cuda->products));
    if (!cuda->products)
        return sd_err_memory(err, sizeof *cuda->products);
    cuda->products->without = without;
    return 0;
}

bool sd_cuda_allows(const struct sd_cuda *cuda, enum sd_cuda_feature feature)
{
    return !(cuda->products->without & 1u << feature);
}

int sd_cuda_make_state(struct sd_call *c, size_t bytes, struct sd_err *err)
{
    c->state = calloc(1, bytes);
    return c->state ? sd_cuda_plan_floats(c, err) : sd_err_memory(err, bytes);
}

void sd_cuda_drop_state(struct sd_call *c)
{
    free(c->state);
    c->state = NULL;
}

void sd_cuda_run_failed(struct sd_cuda *cuda, const char *what, const char *message)
{
    if (!cuda->products->run_error.code)
        sd_err_set(&cuda->products->run_error, SD_ERR_MACHINE, "%s: %s", what, message);
}

const struct sd_err *sd_cuda_run_error(const struct sd_cuda *cuda)
{
    return cuda->products->run_error.code ? &cuda->products->run_error : NULL;
}

void sd_cuda_products_free(struct sd_cuda *cuda)
{
    struct sd_cuda_products *p = cuda->products;
    if (!p)
        return;
    sd_cuda_gemms_free(cuda);
    sd_cudnn_plans_free(cuda);
    while (p->packed) {
        struct sd_cuda_packed *next = p->packed->next;
        sd_cuda_free(p->packed->data);
        free(p->packed);
        p->packed = next;
    }
    free(p);
    cuda->products = NULL;
}

struct sd_var *sd_cuda_frozen_var(const struct sd_tensor *t)
{
    while (t->node->op == SD_OP_reshape)
        t = t->node->in[0];
    return t->node->op == SD_OP_var && !t->node->attr.var->state ? t->node->attr.var : NULL;
}

/* --- filters --- */

namespace
{

/* Element (o, c, i, j) of a filter lies at row `inner_is_c ? o : c` of the packed matrix, column
 * (i*kw + j) * inner + (inner_is_c ? c : o). */
struct packing {
    sd_filter_shape s;
    int64_t rows, inner;
    bool inner_is_c;
};

template <typename From, typename To> __global__ void filter_pack_kernel(packing p, const From *from, To *to)
{
    int64_t used = p.s.kh * p.s.kw * p.inner, taps = p.s.kh * p.s.kw;
    for (int64_t at = sd_first(); at < p.rows * p.s.row; at += sd_stride()) {
        int64_t row = at / p.s.row, col = at % p.s.row;
        int64_t tap = col / p.inner, inner = col % p.inner;
        int64_t o = p.inner_is_c ? row : inner, c = p.inner_is_c ? inner : row;
        to[at] = from_f32<To>(col < used ? to_f32(from[(o * p.s.c + c) * taps + tap]) : 0.0f);
    }
}

template <typename From> __global__ void filter_unpack_kernel(sd_filter_shape s, const From *from, float *to)
{
    int64_t taps = s.kh * s.kw;
    for (int64_t at = sd_first(); at < s.o * s.c * taps; at += sd_stride()) {
        int64_t tap = at % taps, c = at / taps % s.c, o = at / taps / s.c;
        to[at] = to_f32(from[o * s.row + tap * s.c + c]);
    }
}

packing packing_of(sd_filter layout, const sd_filter_shape *s)
{
    return {*s, sd_filter_rows(layout, s), layout == SD_FILTER_KRSC ? s->c : s->o, layout == SD_FILTER_KRSC};
}

} // namespace

int64_t sd_filter_rows(enum sd_filter layout, const struct sd_filter_shape *s)
{
    return layout == SD_FILTER_KRSC ? s->o : s->c;
}

void sd_filter_pack(cudaStream_t stream, enum sd_filter layout, const struct sd_filter_shape *s,
                    const void *from, enum sd_dtype from_type, void *to, enum sd_dtype to_type)
{
    packing p = packing_of(layout, s);
    if (p.rows * s->row == 0)
        return;
    sd_by_type(from_type, [&](auto f) {
        sd_by_type(to_type, [&](auto t) {
            using From = decltype(f);
            using To = decltype(t);
            sd_launch(stream, sd_grid(p.rows * s->row), SD_THREADS, 0, filter_pack_kernel<From, To>, p,
                      static_cast<const From *>(from), static_cast<To *>(to));
        });
    });
}

void sd_filter_unpack(cudaStream_t stream, const struct sd_filter_shape *s, const void *from,
                      enum sd_dtype from_type, float *to)
{
    int64_t n = s->o * s->c * s->kh * s->kw;
    if (n == 0)
        return;
    sd_by_type(from_type, [&](auto f) {
        using From = decltype(f);
        sd_launch(stream, sd_grid(n), SD_THREADS, 0, filter_unpack_kernel<From>, *s,
                  static_cast<const From *>(from), to);
    });
}

/* Packs into p->data, through a copy of the stored bytes that goes again. */
static int pack(struct sd_cuda *cuda, struct sd_cuda_packed *p, struct sd_var *var,
                const struct sd_filter_shape *s, struct sd_err *err)
{
    void *raw = sd_cuda_upload(cuda, var, var->dtype, err);
    p->data = raw ? sd_cuda_alloc(cuda, p->bytes, err) : NULL;
    if (p->data)
        sd_filter_pack(cuda->stream, p->layout, s, raw, var->dtype, p->data, p->type);
    cudaError_t launched = p->data ? cudaGetLastError() : cudaSuccess;
    if (launched == cudaSuccess)
        launched = cudaStreamSynchronize(cuda->stream);
    int rc = p->data ? sd_cuda_check(launched, "packing a filter", err) : -1;
    sd_cuda_free(raw);
    return rc;
}

const void *sd_filter_packed(struct sd_cuda *cuda, struct sd_var *var, enum sd_filter layout,
                             const struct sd_filter_shape *s, enum sd_dtype type, struct sd_err *err)
{
    struct sd_cuda_products *all = cuda->products;
    for (struct sd_cuda_packed *p = all->packed; p; p = p->next)
        if (p->var == var && p->layout == layout && p->type == type && p->row == s->row)
            return p->data;
    struct sd_cuda_packed *p = static_cast<sd_cuda_packed *>(calloc(1, sizeof *p));
    if (!p) {
        sd_err_memory(err, sizeof *p);
        return NULL;
    }
    p->var = var;
    p->layout = layout;
    p->type = type;
    p->row = s->row;
    p->bytes = static_cast<size_t>(sd_filter_rows(layout, s) * s->row) * sd_dtype_size(type);
    if (pack(cuda, p, var, s, err)) {
        sd_cuda_free(p->data);
        free(p);
        return NULL;
    }
    p->next = all->packed;
    all->packed = p;
    cuda->frozen_bytes += p->bytes;
    return p->data;
}
