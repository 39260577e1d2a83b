/* The reference backend: plain loops over doubles, one function an op, any float type. It is the oracle of
 * every other backend's tests, so it is written to be read, not to be fast. */
#ifndef SD_TENSOR_REF_H
#define SD_TENSOR_REF_H

#include "tensor/backend.h"

struct sd_backend *sd_ref_backend_new(struct sd_err *err);

extern const struct sd_kernel *const sd_ref_kernels[SD_OP_COUNT];

#define OP(name, ...) extern const struct sd_kernel sd_ref_##name;
#include "tensor/ops.def"
#undef OP

#endif
