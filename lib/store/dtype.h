/* Element types of tensors in files, under the names safetensors gives them. */
#ifndef SD_STORE_DTYPE_H
#define SD_STORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* In the order in which the safetensors library sorts tensors: files are laid out from the last to the first.
 */
enum sd_store_dtype {
    SD_STORE_BOOL,
    SD_STORE_U8,
    SD_STORE_I8,
    SD_STORE_F8_E5M2,
    SD_STORE_F8_E4M3,
    SD_STORE_I16,
    SD_STORE_U16,
    SD_STORE_F16,
    SD_STORE_BF16,
    SD_STORE_I32,
    SD_STORE_U32,
    SD_STORE_F32,
    SD_STORE_F64,
    SD_STORE_I64,
    SD_STORE_U64,
    SD_STORE_DTYPES, /* how many there are */
};

const char *sd_store_dtype_name(enum sd_store_dtype d); /* "F32" */
size_t sd_store_dtype_bytes(enum sd_store_dtype d);
bool sd_store_dtype_is_float(enum sd_store_dtype d);
int sd_store_dtype_parse(const char *name, enum sd_store_dtype *out); /* 0, or -1 when unknown */

/* Bytes of a tensor, -1 when a dimension is negative or the product does not fit into 2^62. */
int64_t sd_store_bytes(enum sd_store_dtype d, int ndim, const int64_t *shape);

#define SD_STORE_DIMS 64 /* dimensions of a tensor, as PyTorch has it */

/* One tensor of a file. Everything belongs to the file it came from. */
struct sd_store_entry {
    const char *name;
    enum sd_store_dtype dtype;
    int ndim;
    const int64_t *shape; /* ndim sizes; ndim 0 is a single number */
    const void
        *data; /* inside the mapped file, at no particular alignment; NULL where the file compresses it */
    size_t bytes;
    uint64_t offset; /* of the data in the file */
    bool mapped;     /* data lies in a read-only mapping of the file */
};

/* Converts count elements at src, of any alignment, to f32. Every number type is accepted. */
void sd_store_to_f32(enum sd_store_dtype d, const void *src, size_t count, float *dst);

/* Converts count f32 to F64, F32, F16 or BF16 (round to nearest even). Returns -1 for another type. */
int sd_store_from_f32(enum sd_store_dtype d, const float *src, size_t count, void *dst);

/* Rounds f32 values in place to what F16 or BF16 can hold; other types leave them as they are. */
void sd_store_round(enum sd_store_dtype d, float *v, size_t count);

/* Writes "[320,4,3,3]" into text and returns it. Shapes that are too long end in "...". */
const char *sd_store_shape_text(int ndim, const int64_t *shape, char *text, size_t size);

#endif
