/* Element types of tensors. Halves are 16-bit patterns, see base/half.h. */
#ifndef SD_TENSOR_DTYPE_H
#define SD_TENSOR_DTYPE_H

#include <stddef.h>

enum sd_dtype { SD_F32, SD_BF16, SD_F16, SD_I32, SD_U8, SD_I8, SD_DTYPE_COUNT };

size_t sd_dtype_size(enum sd_dtype t);      /* bytes an element */
const char *sd_dtype_name(enum sd_dtype t); /* "f32", "bf16", ... */

/* Converts n elements between f32, bf16 and f16 (any pair). Returns -1 for a pair it does not know. */
int sd_dtype_convert(void *to, enum sd_dtype to_type, const void *from, enum sd_dtype from_type, size_t n);

#endif
