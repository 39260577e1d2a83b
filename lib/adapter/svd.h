/* Singular value decompositions: what LoRA extraction, merging and resizing cut matrices down with.
 *
 * Exact, not randomised. Of a dense matrix only the leading triplets are computed: the smaller Gram matrix
 * (A A' or A' A) in f64, its largest eigenpairs (LAPACK's dsyevr: tridiagonal form, then MRRR), and one
 * product with A. In f64 the squaring costs nothing that f32 weights could show: what is returned is A
 * projected on its leading singular directions, whatever the small values are. A product of two thin factors
 * is never multiplied out: QR of both, then the small core.
 *
 * Why so. Times of one thread of a Xeon with AVX-512 (best of three, OpenBLAS 0.3.21), rank 32, random
 * entries, whose spectrum is flat:
 *
 *                  here     sgesdd   randomised (10 more columns, 2 power iterations)
 *     320 x  320   0.02 s   0.01 s   0.002 s
 *    1280 x 1280   0.27     0.69     0.016     largest value 5 % too small
 *    3072 x  768   0.12     0.62     0.05      6 %
 *   10240 x 1280   0.47     2.0      0.14      7 %
 *    1280 x11520   0.7      5.8      (rank 128)
 *
 * A randomised SVD (Halko, Martinsson, Tropp 2011) is three to seventeen times as fast, but what fine-tuning
 * leaves behind has such a tail and it cannot tell when it is wrong; all of an SD 1.x model takes well under
 * a minute this way. Layers go to threads whole (BLAS stays on one thread), so results do not depend on how
 * many threads there are. */
#ifndef SD_ADAPTER_SVD_H
#define SD_ADAPTER_SVD_H

#include <stdint.h>

#include "base/err.h"

/* A ~ us vt with us = U diag(s). Signs are such that the entry of largest size in each row of vt is positive.
 * Rows of vt are of length 1, or 0 where A has no such direction. */
struct sd_svd {
    int64_t m, n, rank;
    float *us; /* [m,rank] */
    float *vt; /* [rank,n] */
    double *s; /* [rank], falling */
};

/* The leading `rank` triplets of a [m,n]; 1 <= rank <= min(m, n). Values that are not finite are refused. */
int sd_svd(struct sd_svd *svd, const float *a, int64_t m, int64_t n, int64_t rank, struct sd_err *err);

/* All min(m, n, r) triplets of up [m,r] times down [r,n]. */
int sd_svd_product(struct sd_svd *svd, const float *up, const float *down, int64_t m, int64_t r, int64_t n,
                   struct sd_err *err);

/* Keeps the first `rank` triplets; where there are fewer, zeros make up the rest. */
int sd_svd_truncate(struct sd_svd *svd, int64_t rank, struct sd_err *err);

/* Clamps us and vt to +-h, h being the quantile q (0..1) of the values of both, as torch.quantile takes it.
 */
int sd_svd_clamp(struct sd_svd *svd, double q, struct sd_err *err);

void sd_svd_free(struct sd_svd *svd); /* takes a zeroed struct */

#endif
