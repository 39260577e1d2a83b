#include "base/pyfloat.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sd_python_float(double v, char text[32])
{
    if (!isfinite(v)) {
        snprintf(text, 32, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
        return;
    }
    int digits = 1;
    while (digits < 17 && (snprintf(text, 32, "%.*e", digits - 1, v), strtod(text, NULL) != v))
        digits++;
    snprintf(text, 32, "%.*e", digits - 1, v);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int after = digits - 1 - exponent;
        snprintf(text, 32, "%.*f", after > 0 ? after : 1, v);
    } else { /* 1e-05 already looks like Python's */
        snprintf(text, 32, "%.*e", digits - 1, v);
    }
}
