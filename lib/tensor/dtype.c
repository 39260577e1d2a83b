#include "tensor/dtype.h"

#include "base/half.h"

#include <string.h>

static const struct {
    size_t size;
    const char *name;
} types[SD_DTYPE_COUNT] = {
    [SD_F32] = {4, "f32"}, [SD_BF16] = {2, "bf16"}, [SD_F16] = {2, "f16"},
    [SD_I32] = {4, "i32"}, [SD_U8] = {1, "u8"},     [SD_I8] = {1, "i8"},
};

size_t sd_dtype_size(enum sd_dtype t)
{
    return types[t].size;
}

const char *sd_dtype_name(enum sd_dtype t)
{
    return types[t].name;
}

/* Large tensors pass through in blocks of this many elements, so that f16 to bf16 needs one small buffer. */
#define BLOCK 4096

static int to_f32(float *to, const void *from, enum sd_dtype type, size_t n)
{
    const uint16_t *h = from;
    switch (type) {
    case SD_F32:
        memcpy(to, from, n * 4);
        return 0;
    case SD_BF16:
        for (size_t i = 0; i < n; i++)
            to[i] = sd_bf16_to_f32(h[i]);
        return 0;
    case SD_F16:
        for (size_t i = 0; i < n; i++)
            to[i] = sd_f16_to_f32(h[i]);
        return 0;
    default:
        return -1;
    }
}

static int from_f32(void *to, enum sd_dtype type, const float *from, size_t n)
{
    uint16_t *h = to;
    switch (type) {
    case SD_F32:
        memcpy(to, from, n * 4);
        return 0;
    case SD_BF16:
        for (size_t i = 0; i < n; i++)
            h[i] = sd_f32_to_bf16(from[i]);
        return 0;
    case SD_F16:
        for (size_t i = 0; i < n; i++)
            h[i] = sd_f32_to_f16(from[i]);
        return 0;
    default:
        return -1;
    }
}

int sd_dtype_convert(void *to, enum sd_dtype to_type, const void *from, enum sd_dtype from_type, size_t n)
{
    if (to_type == from_type) {
        memcpy(to, from, n * sd_dtype_size(to_type));
        return 0;
    }
    int bad = 0;
    size_t blocks = (n + BLOCK - 1) / BLOCK;
#pragma omp parallel for reduction(| : bad) if (blocks > 16)
    for (size_t b = 0; b < blocks; b++) {
        float f[BLOCK];
        size_t at = b * BLOCK, len = n - at < BLOCK ? n - at : BLOCK;
        bad |= to_f32(f, (const char *)from + at * sd_dtype_size(from_type), from_type, len);
        bad |= from_f32((char *)to + at * sd_dtype_size(to_type), to_type, f, len);
    }
    return bad ? -1 : 0;
}
