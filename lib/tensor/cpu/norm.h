/* Row primitives shared by the cpu backend's group and layer norms: runs of n channels in f32. */
#ifndef SD_TENSOR_CPU_NORM_H
#define SD_TENSOR_CPU_NORM_H

#include "tensor/cpu/block.h"

float sd_cpu_row_sum(int64_t n, const float *x);
float sd_cpu_row_dot(int64_t n, const float *x, const float *y);

#endif
