/* The kernels of the cpu backend, one an op; cpu.c lists them in its table. */
#ifndef SD_TENSOR_CPU_KERNELS_H
#define SD_TENSOR_CPU_KERNELS_H

#include "tensor/backend.h"

#define OP(name, ...) extern const struct sd_kernel sd_cpu_##name;
#include "tensor/ops.def"
#undef OP

#endif
