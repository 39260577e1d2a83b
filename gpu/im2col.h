/* Convolutions as products, for any shape and type: what each output pixel reads is gathered into the row of
 * a matrix, as many rows at a time as fit a bound, and multiplied by the filter as a matrix. The data
 * gradient gathers from dy in the same way, so that nothing is summed outside of a product. */
#ifndef SD_GPU_IM2COL_H
#define SD_GPU_IM2COL_H

#include "dnn.h"
#include "gemm.h"

struct sd_im2col {
    enum sd_op op; /* conv2d, conv2d_dx, conv2d_dw */
    struct sd_conv_shape s;
    enum sd_dtype type;
    int64_t rows, row, chunk;         /* pixels; elements a row; pixels at a time */
    struct sd_cuda_gemm_plan gemm[3]; /* the first chunk, those after it, a shorter last one */
    size_t product_offset, gemm_offset, scratch_bytes;
    struct sd_filter_shape filter;
    enum sd_filter layout; /* of the filter that run() takes */
};

/* bias_type: of the bias when there is one. -1 with err set when memory is out. */
int sd_im2col_plan(struct sd_cuda *cuda, enum sd_op op, const struct sd_conv_shape *s, enum sd_dtype type,
                   bool bias, enum sd_dtype bias_type, bool acc, struct sd_im2col *plan, struct sd_err *err);
/* conv2d: image x, other the packed filter; conv2d_dx: image dy, other the packed filter; conv2d_dw: image x,
 * other dy, y f32 [o,c,kh,kw]. */
void sd_im2col_run(struct sd_cuda *cuda, const struct sd_im2col *plan, const void *image, const void *other,
                   const void *bias, const void *acc, void *y, void *scratch);

#endif
