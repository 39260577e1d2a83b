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

/* Of a module that has a target (adapter/network_layers.h): numbers of the layer's weight, out in k k. */
size_t sd_network_weight_count(const struct sd_network_module *m);

/* What it adds to weight at multiplier 1, into delta; both [out, in k k] f32, and different memory. Only OFT
 * reads weight, which may else be NULL. An alpha of 0 counts as the rank. */
int sd_network_delta(const struct sd_network_module *m, const float *weight, float *delta,
                     struct sd_err *err);

#endif
