/* What the numbers of a tensor are like, and how far two tensors are apart.
 *
 * Every element type is read exactly (U64 and I64 as far as a double holds them); sums are kept in double
 * precision, block by block, so a mean is right whatever the tensor's size. Pages of a mapped file are given
 * back as soon as they are read: memory does not grow with the tensor. */
#ifndef SD_STORE_TENSOR_STATS_H
#define SD_STORE_TENSOR_STATS_H

#include "store/dtype.h"

/* Counts are of all elements; the other numbers are of the finite ones, and NaN where there are none. */
struct sd_tensor_stats {
    uint64_t count, nan, inf;
    double min, max, mean;
    double std; /* of the population: divided by the count */
    double l2;  /* Euclidean norm */
};

/* e->data must be there. */
void sd_tensor_stats(const struct sd_store_entry *e, struct sd_tensor_stats *out);

/* The difference b - a of two tensors of one number of elements. Equal infinities, and two NaN, are equal. */
struct sd_tensor_diff {
    uint64_t count;
    uint64_t unequal;   /* elements of different values */
    uint64_t nonfinite; /* of those: NaN or infinite on one side at least; left out of all below */
    double max_abs, sum_abs;
    double dd, aa, bb, ab; /* sums of (b-a)^2, a^2, b^2, a*b */
};

/* Both data must be there. A count that differs is the caller's mistake: the smaller one is taken. */
void sd_tensor_diff(const struct sd_store_entry *a, const struct sd_store_entry *b,
                    struct sd_tensor_diff *out);

void sd_tensor_diff_add(struct sd_tensor_diff *sum, const struct sd_tensor_diff *d);
double sd_tensor_diff_l2(const struct sd_tensor_diff *d);     /* |b-a| / |a|; infinite when only a is 0 */
double sd_tensor_diff_cosine(const struct sd_tensor_diff *d); /* NaN when either is 0 */

#endif
