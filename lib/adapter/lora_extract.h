/* A LoRA that turns one model into another, by sd-scripts' rules (networks/extract_lora_from_models.py): the
 * difference of each layer's weights, cut to a rank by its singular values. */
#ifndef SD_ADAPTER_LORA_EXTRACT_H
#define SD_ADAPTER_LORA_EXTRACT_H

#include "adapter/lora_out.h"
#include "model/model_file.h"

struct sd_lora_extract_options {
    int64_t dim;              /* rank of linear layers and 1x1 convolutions; alpha is the rank */
    int64_t conv_dim;         /* of larger convolutions; 0: nothing outside of transformers */
    double clamp_quantile;    /* values beyond this quantile of a module's are clamped */
    double min_diff;          /* a text encoder that differs by no more than this is taken for the same */
    enum sd_store_dtype load; /* weights are rounded to it first: F32, F16, BF16 */
    enum sd_store_dtype save;
    int threads;
    bool (*go_on)(void *ctx, size_t done, size_t total); /* called by one thread at a time; false ends it */
    void *ctx;
};

struct sd_lora_extract_report {
    size_t modules;
    bool text_encoder; /* it differs, and is in the LoRA */
    float text_diff;   /* largest difference of a value in it */
    bool different;    /* some value of some layer differs */
};

/* Adds the modules to out (an empty struct, to be freed by the caller). Peak memory beside it: for each
 * thread a layer three times over in f32. Returns -1 also when go_on said so. */
int sd_lora_extract(struct sd_model_file *original, struct sd_model_file *tuned,
                    const struct sd_lora_extract_options *o, struct sd_lora_out *out,
                    struct sd_lora_extract_report *report, struct sd_err *err);

#endif
