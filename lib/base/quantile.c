#include "base/quantile.h"

#include <math.h>

static void swap(float *a, float *b)
{
    float t = *a;
    *a = *b;
    *b = t;
}

/* Hoare's selection: puts the value of rank k at v[k], nothing larger before it, nothing smaller behind. */
static void select_rank(float *v, size_t n, size_t k)
{
    size_t low = 0, high = n - 1;
    while (low < high) {
        size_t mid = low + (high - low) / 2; /* median of three */
        if (v[mid] < v[low])
            swap(&v[mid], &v[low]);
        if (v[high] < v[low])
            swap(&v[high], &v[low]);
        if (v[high] < v[mid])
            swap(&v[high], &v[mid]);
        float pivot = v[mid];
        size_t i = low, j = high;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (pivot < v[j])
                j--;
            if (i >= j)
                break;
            swap(&v[i++], &v[j--]);
        }
        /* v[low..j] <= pivot <= v[j+1..high] */
        if (k <= j)
            high = j;
        else
            low = j + 1;
    }
}

float sd_quantile(float *v, size_t n, double q)
{
    float at = (float)q * (float)(n - 1), below = floorf(at);
    size_t k = (size_t)below;
    if (k >= n - 1) {
        k = n - 1;
        below = at;
    }
    select_rank(v, n, k);
    float next = v[k];
    if (k + 1 < n && at > below) {
        next = v[k + 1];
        for (size_t i = k + 2; i < n; i++)
            next = v[i] < next ? v[i] : next;
    }
    return v[k] + (at - below) * (next - v[k]);
}
