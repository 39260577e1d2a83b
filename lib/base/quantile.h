/* Order statistics. */
#ifndef SD_BASE_QUANTILE_H
#define SD_BASE_QUANTILE_H

#include <stddef.h>

/* The quantile q (0..1) of v[n], n >= 1, none of them NaN; between two values on the straight line, as
 * torch.quantile does in f32. Puts v into another order. Linear time on average. */
float sd_quantile(float *v, size_t n, double q);

#endif
