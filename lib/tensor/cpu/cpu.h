/* The production CPU backend: oneDNN for convolutions, own kernels for the rest, OpenMP across
 * cores. */
#ifndef SD_TENSOR_CPU_CPU_H
#define SD_TENSOR_CPU_CPU_H

#include "tensor/backend.h"

struct sd_backend *sd_cpu_backend_new(struct sd_err *err);

#endif
