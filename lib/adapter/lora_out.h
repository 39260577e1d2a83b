/* A LoRA file in the making: tensors converted to the type they are saved in, then written whole with the two
 * hashes that web UIs look for. */
#ifndef SD_ADAPTER_LORA_OUT_H
#define SD_ADAPTER_LORA_OUT_H

#include "adapter/network.h"
#include "store/safetensors_write.h"

struct sd_lora_out {
    struct sd_store_tensor *tensors; /* room for max */
    size_t count, max;
    struct sd_arena arena; /* private; holds everything */
};

int sd_lora_out_init(struct sd_lora_out *o, size_t max, struct sd_err *err);
void sd_lora_out_free(struct sd_lora_out *o); /* takes a zeroed struct */

/* A tensor of these values; the name is kept. f32 values go to F64, F32, F16 or BF16. */
int sd_lora_out_add(struct sd_lora_out *o, const char *name, const float *values, int ndim,
                    const int64_t *shape, enum sd_store_dtype dtype, struct sd_err *err);

/* A module's matrices: down [rank,in] or, with conv, [rank,in,k,k]; up [out,rank] or [out,rank,1,1]. Keys end
 * as the spelling has it; NAME.alpha is left out where alpha is NaN. */
struct sd_lora_shape {
    int64_t rank, in, out, kernel;
    bool conv;
    enum sd_lora_spelling spelling;
};
int sd_lora_out_module(struct sd_lora_out *o, const char *name, const struct sd_lora_shape *shape,
                       float alpha, const float *down, const float *up, enum sd_store_dtype dtype,
                       struct sd_err *err);

/* meta as given, then sshs_model_hash and sshs_legacy_hash. */
int sd_lora_out_write(struct sd_lora_out *o, const char *path, const struct sd_store_meta *meta,
                      size_t meta_count, struct sd_err *err);

#endif
