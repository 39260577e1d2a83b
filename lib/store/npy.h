/* The header of a .npy array (NEP 1): magic, version, and a Python dictionary with type, order and shape. */
#ifndef SD_STORE_NPY_H
#define SD_STORE_NPY_H

#include "base/arena.h"
#include "base/buf.h"
#include "store/dtype.h"

#define SD_NPY_PREFIX 12 /* enough bytes to know the header's length */

/* Length of the whole header, data following it, from its first SD_NPY_PREFIX bytes; -1 when this is no .npy.
 */
int64_t sd_npy_header_length(const unsigned char *p, size_t len, struct sd_err *err);

/* Fills dtype, ndim, shape (from the arena) and bytes of *e from a header of sd_npy_header_length bytes. */
int sd_npy_parse(struct sd_store_entry *e, struct sd_arena *a, const unsigned char *p, size_t len,
                 struct sd_err *err);

/* Appends the header NumPy writes for such an array. -1 when memory is out or the type is not NumPy's. */
int sd_npy_header(struct sd_buf *b, enum sd_store_dtype dtype, int ndim, const int64_t *shape);

#endif
