/* How a row is enlarged bilinearly, corners not aligned, as torch.nn.Upsample does it. */
#ifndef SD_TENSOR_ENLARGE_H
#define SD_TENSOR_ENLARGE_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__ /* gpu/noise.cu has it too */
#define SD_ENLARGE static inline __host__ __device__
#else
#define SD_ENLARGE static inline
#endif

/* Where a place of the large row lies between two of the small one. */
struct sd_between {
    int64_t low, high;
    float share; /* of high */
};

/* Place i of a row of `to`, between two of a row of `from`. */
SD_ENLARGE struct sd_between sd_between(int64_t i, int64_t from, int64_t to)
{
    struct sd_between b = {i, i, 0};
    if (from == to)
        return b;
    float at = (float)from / (float)to * ((float)i + 0.5f) - 0.5f;
    at = at < 0 ? 0 : at;
    b.low = (int64_t)at;
    b.low = b.low < from ? b.low : from - 1;
    b.high = b.low + (b.low + 1 < from);
    b.share = fminf(at - (float)b.low, 1);
    return b;
}

SD_ENLARGE float sd_blend(float low, float high, float share)
{
    return (1 - share) * low + share * high;
}

#endif
