/* Blocks of moments to codes and back (tensor/quant.h); n is at most SD_QUANT_BLOCK. */
#ifndef SD_TENSOR_CPU_QUANT_H
#define SD_TENSOR_CPU_QUANT_H

#include <stdint.h>

void sd_cpu_from_codes(int64_t n, const uint8_t *code, float max, const float *map, float *x);
/* Returns the largest magnitude. */
float sd_cpu_to_codes(int64_t n, const float *x, const float *map, uint8_t *code);

#endif
