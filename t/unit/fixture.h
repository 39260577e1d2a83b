/* Tensors of fixtures in t/data, and how near results are to them. */
#ifndef SD_T_FIXTURE_H
#define SD_T_FIXTURE_H

#include "store/safetensors.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* The tensor whose key the format makes; the test ends where there is none. */
__attribute__((format(printf, 2, 3))) static inline const struct sd_store_entry *
fixture(const struct sd_tensor_file *tf, const char *format, ...)
{
    char key[256];
    va_list args;
    va_start(args, format);
    vsnprintf(key, sizeof key, format, args);
    va_end(args);
    const struct sd_store_entry *e = sd_tensor_file_find(tf, key);
    if (!e) {
        printf("Bail out! %s\n", key);
        exit(1);
    }
    return e;
}

static inline int64_t fixture_floats(const struct sd_store_entry *e)
{
    return (int64_t)(e->bytes / sizeof(float));
}

/* Largest difference of n numbers over the largest of those wanted. */
static inline double fixture_difference(const float *got, const float *want, int64_t n)
{
    double worst = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        worst = isnan(d) ? INFINITY : fmax(worst, d);
        most = fmax(most, fabs((double)want[i]));
    }
    return worst / most;
}

#endif
