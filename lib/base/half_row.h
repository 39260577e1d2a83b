/* Conversions of many numbers, the same bits as those of half.h one by one. */
#ifndef SD_BASE_HALF_ROW_H
#define SD_BASE_HALF_ROW_H

#include <stddef.h>

/* dst has room for n half numbers, at any alignment. */
void sd_f32_to_f16_row(const float *src, size_t n, void *dst);

#endif
