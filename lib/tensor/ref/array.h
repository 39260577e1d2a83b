/* A tensor's memory as an array of doubles, whatever its type: what the reference loops are written in. */
#ifndef SD_TENSOR_REF_ARRAY_H
#define SD_TENSOR_REF_ARRAY_H

#include "base/half.h"
#include "tensor/ref/ref.h"

struct array {
    void *data; /* NULL: an optional tensor that is not there */
    enum sd_dtype type;
    int ndim;
    const int64_t *dim;
    int64_t n; /* elements */
};

static inline struct array array_of(void *data, const struct sd_tensor *t)
{
    if (!t)
        return (struct array){0};
    return (struct array){data, t->dtype, t->ndim, t->dim, sd_tensor_count(t)};
}

static inline struct array in(const struct sd_call *c, int i)
{
    return i < c->node->n_in ? array_of(c->in[i], c->node->in[i]) : (struct array){0};
}

static inline struct array out(const struct sd_call *c, int i)
{
    return i < c->node->n_out ? array_of(c->out[i], c->node->out[i]) : (struct array){0};
}

static inline double ld(struct array a, int64_t i)
{
    switch (a.type) {
    case SD_F32:
        return ((const float *)a.data)[i];
    case SD_BF16:
        return sd_bf16_to_f32(((const uint16_t *)a.data)[i]);
    case SD_F16:
        return sd_f16_to_f32(((const uint16_t *)a.data)[i]);
    case SD_I32:
        return ((const int32_t *)a.data)[i];
    case SD_U8:
        return ((const uint8_t *)a.data)[i];
    case SD_I8:
        return ((const int8_t *)a.data)[i];
    default:
        return 0;
    }
}

/* Stores to float types only. */
static inline void st(struct array a, int64_t i, double v)
{
    if (a.type == SD_F32)
        ((float *)a.data)[i] = (float)v;
    else if (a.type == SD_BF16)
        ((uint16_t *)a.data)[i] = sd_f32_to_bf16((float)v);
    else if (a.type == SD_F16)
        ((uint16_t *)a.data)[i] = sd_f32_to_f16((float)v);
}

double sd_ref_act_of(enum sd_act act, double x);
double sd_ref_act_slope(enum sd_act act, double x); /* derivative */

static inline int64_t last(struct array a)
{
    return a.dim[a.ndim - 1];
}

#endif
