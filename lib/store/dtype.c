#include "store/dtype.h"

#include <stdio.h>
#include <string.h>

#include "base/clones.h"
#include "base/half.h"
#include "base/half_row.h"

static const struct {
    const char *name;
    size_t bytes;
} types[SD_STORE_DTYPES] = {
    [SD_STORE_BOOL] = {"BOOL", 1},       [SD_STORE_U8] = {"U8", 1},           [SD_STORE_I8] = {"I8", 1},
    [SD_STORE_F8_E5M2] = {"F8_E5M2", 1}, [SD_STORE_F8_E4M3] = {"F8_E4M3", 1}, [SD_STORE_I16] = {"I16", 2},
    [SD_STORE_U16] = {"U16", 2},         [SD_STORE_F16] = {"F16", 2},         [SD_STORE_BF16] = {"BF16", 2},
    [SD_STORE_I32] = {"I32", 4},         [SD_STORE_U32] = {"U32", 4},         [SD_STORE_F32] = {"F32", 4},
    [SD_STORE_F64] = {"F64", 8},         [SD_STORE_I64] = {"I64", 8},         [SD_STORE_U64] = {"U64", 8},
};

const char *sd_store_dtype_name(enum sd_store_dtype d)
{
    return types[d].name;
}

size_t sd_store_dtype_bytes(enum sd_store_dtype d)
{
    return types[d].bytes;
}

bool sd_store_dtype_is_float(enum sd_store_dtype d)
{
    return types[d].name[0] == 'F' || d == SD_STORE_BF16;
}

int sd_store_dtype_parse(const char *name, enum sd_store_dtype *out)
{
    for (int d = 0; d < SD_STORE_DTYPES; d++)
        if (!strcmp(types[d].name, name)) {
            *out = (enum sd_store_dtype)d;
            return 0;
        }
    return -1;
}

int64_t sd_store_bytes(enum sd_store_dtype d, int ndim, const int64_t *shape)
{
    const int64_t limit = INT64_C(1) << 62;
    int64_t n = (int64_t)types[d].bytes;
    int empty = 0;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return -1;
        if (!shape[i])
            empty = 1; /* go on: an overflow beside a 0 is still nonsense */
        else if (n > limit / shape[i])
            return -1;
        else
            n *= shape[i];
    }
    return empty ? 0 : n;
}

/* OCP 8-bit floats: E4M3 has no infinities and one NaN per sign (S.1111.111); E5M2 is the top byte of a half.
 */
static inline float e4m3_to_f32(uint8_t b)
{
    uint32_t u = (uint32_t)(b & 0x7f) << 20;
    float f;
    memcpy(&f, &u, 4);
    f *= 0x1p120f; /* the difference of the exponents' biases, as in sd_f16_to_f32 */
    memcpy(&u, &f, 4);
    u |= ((b & 0x7f) == 0x7f ? 0x7fc00000u : 0) | (uint32_t)(b & 0x80) << 24;
    memcpy(&f, &u, 4);
    return f;
}

#define LOAD_LOOP(type, expr)                                   \
    for (size_t i = 0; i < count; i++) {                        \
        type v;                                                 \
        memcpy(&v, (const char *)src + i * sizeof v, sizeof v); \
        dst[i] = (expr);                                        \
    }                                                           \
    break

SD_CLONES void sd_store_to_f32(enum sd_store_dtype d, const void *src, size_t count, float *dst)
{
    switch (d) {
    case SD_STORE_F32:
        if (count)
            memcpy(dst, src, count * sizeof *dst);
        break;
    case SD_STORE_BOOL:
        LOAD_LOOP(uint8_t, v != 0);
    case SD_STORE_U8:
        LOAD_LOOP(uint8_t, v);
    case SD_STORE_I8:
        LOAD_LOOP(int8_t, v);
    case SD_STORE_F8_E5M2:
        LOAD_LOOP(uint8_t, sd_f16_to_f32((sd_f16)(v << 8)));
    case SD_STORE_F8_E4M3:
        LOAD_LOOP(uint8_t, e4m3_to_f32(v));
    case SD_STORE_I16:
        LOAD_LOOP(int16_t, v);
    case SD_STORE_U16:
        LOAD_LOOP(uint16_t, v);
    case SD_STORE_F16:
        LOAD_LOOP(sd_f16, sd_f16_to_f32(v));
    case SD_STORE_BF16:
        LOAD_LOOP(sd_bf16, sd_bf16_to_f32(v));
    case SD_STORE_I32:
        LOAD_LOOP(int32_t, (float)v);
    case SD_STORE_U32:
        LOAD_LOOP(uint32_t, (float)v);
    case SD_STORE_F64:
        LOAD_LOOP(double, (float)v);
    case SD_STORE_I64:
        LOAD_LOOP(int64_t, (float)v);
    case SD_STORE_U64:
        LOAD_LOOP(uint64_t, (float)v);
    case SD_STORE_DTYPES:
        break;
    }
}

#define STORE_LOOP(type, expr)                            \
    for (size_t i = 0; i < count; i++) {                  \
        type v = (expr);                                  \
        memcpy((char *)dst + i * sizeof v, &v, sizeof v); \
    }                                                     \
    return 0

SD_CLONES int sd_store_from_f32(enum sd_store_dtype d, const float *src, size_t count, void *dst)
{
    switch (d) {
    case SD_STORE_F32:
        if (count)
            memcpy(dst, src, count * sizeof *src);
        return 0;
    case SD_STORE_F64:
        STORE_LOOP(double, src[i]);
    case SD_STORE_F16:
        sd_f32_to_f16_row(src, count, dst);
        return 0;
    case SD_STORE_BF16:
        STORE_LOOP(sd_bf16, sd_f32_to_bf16(src[i]));
    default:
        return -1;
    }
}

void sd_store_round(enum sd_store_dtype d, float *v, size_t count)
{
    if (d == SD_STORE_F16)
        for (size_t i = 0; i < count; i++)
            v[i] = sd_f16_to_f32(sd_f32_to_f16(v[i]));
    else if (d == SD_STORE_BF16)
        for (size_t i = 0; i < count; i++)
            v[i] = sd_bf16_to_f32(sd_f32_to_bf16(v[i]));
}

const char *sd_store_shape_text(int ndim, const int64_t *shape, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < ndim && used < size; i++) {
        if (size - used < 28) { /* room for the longest number, and for the end */
            used += (size_t)snprintf(text + used, size - used, "...");
            break;
        }
        used += (size_t)snprintf(text + used, size - used, i ? ",%lld" : "%lld", (long long)shape[i]);
    }
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}
