/* In the emulator's build there is no cuDNN. */
#include "dnn.h"

#include <stdio.h>

const struct sd_cudnn_plan *sd_cudnn_conv(struct sd_cuda *, const struct sd_cudnn_conv_case *, size_t *)
{
    return NULL;
}

const struct sd_cudnn_plan *sd_cudnn_attention(struct sd_cuda *, const struct sd_cudnn_attention_case *,
                                               size_t *)
{
    return NULL;
}

void sd_cudnn_run(struct sd_cuda *, const struct sd_cudnn_plan *, const struct sd_cudnn_address *, int,
                  void *)
{
}

void sd_cudnn_plans_free(struct sd_cuda *)
{
}

void sd_cuda_libraries_text(int, char *text, size_t size)
{
    snprintf(text, size, "none: products are emulated");
}

void sd_cuda_libraries_close(struct sd_cuda_libraries *)
{
}

int sd_cuda_require(struct sd_cuda *, enum sd_cuda_feature, struct sd_err *)
{
    return 0;
}
