#include "tensor/quant.h"

void sd_dynamic_map(bool is_signed, float map[SD_QUANT_CODES])
{
    int zero = is_signed ? SD_QUANT_CODES / 2 - 1 : 0;
    float *to = map + zero;
    double scale = 1e-6;
    *to++ = 0;
    for (int decade = 0; decade < 7; decade++, scale *= 10) {
        int n = (is_signed ? 1 : 2) << decade;
        for (int i = 0; i < n; i++) /* middles of n steps from 0.1 to 1 */
            *to++ = (float)(scale * (0.1 + 0.9 * (i + 0.5) / n));
    }
    *to = 1;
    for (int i = 0; i < zero; i++)
        map[i] = -map[2 * zero - i];
}
