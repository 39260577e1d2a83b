/* The products of network modules (adapter/network.h): what they add to weights, multiplied out. */
#ifndef SD_ADAPTER_NETWORK_PRODUCT_H
#define SD_ADAPTER_NETWORK_PRODUCT_H

#include "adapter/network.h"

/* One module's factors in f32, the core of CP form multiplied into the second. */
struct sd_delta {
    int64_t out, width; /* dW is [out,width]; width is in * window */
    double scale;
    enum sd_network_type type;
    struct sd_delta_matrix { /* u d, or d alone where u is NULL */
        int64_t rows, cols, rank;
        float *u, *d; /* [rows,rank], [rank,cols] or [rows,cols] */
    } m[2];
};

/* m must have a delta. */
int sd_delta_load(struct sd_delta *d, const struct sd_network_module *m, struct sd_err *err);
void sd_delta_free(struct sd_delta *d); /* takes a zeroed struct */

/* A row of the scaled dW: width values in f64, which is also its arithmetic. scratch has room for width + 1.
 */
void sd_delta_row(const struct sd_delta *d, int64_t row, double *out, double *scratch);

/* Frobenius norm of the scaled dW. */
int sd_delta_norm(const struct sd_delta *d, double *norm, struct sd_err *err);

#endif
