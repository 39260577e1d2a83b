/* Moments of one byte an element, as bitsandbytes keeps them (Dettmers et al., 8-bit Optimizers via
 * Block-wise Quantization, 2022): each block of SD_QUANT_BLOCK elements has its largest magnitude as an f32,
 * and a code an element; the element is map[code] times that magnitude. Zeroed memory stands for zeros. */
#ifndef SD_TENSOR_QUANT_H
#define SD_TENSOR_QUANT_H

#include "tensor/graph.h"

/* The dynamic map, ascending: seven decades, each with twice as many steps as the one below it, between 0 and
 * 1; signed: mirrored, with half as many, but for 1 (bitsandbytes' create_dynamic_map). */
void sd_dynamic_map(bool is_signed, float map[SD_QUANT_CODES]);

#endif
