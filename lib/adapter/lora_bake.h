/* LoRAs merged into a model file, by the rules of sd-scripts' networks/merge_lora.py:
 *
 *     W + ratio * (up down) * alpha / rank        of every layer, one LoRA after the other
 *
 * and what networks of other kinds (network.h) add, times ratio. The file keeps its layout and names.
 * Its weights are converted to the type asked for; tensors that are no weights of the model (position_ids,
 * schedules, EMA copies) stay as they are. */
#ifndef SD_ADAPTER_LORA_BAKE_H
#define SD_ADAPTER_LORA_BAKE_H

#include "adapter/lora_combine.h"
#include "model/model_file.h"

struct sd_lora_bake_options {
    enum sd_store_dtype precision; /* of the arithmetic: F32, F16, BF16 */
    enum sd_store_dtype save;
    int threads;
    bool (*go_on)(void *ctx, uint64_t bytes, uint64_t total); /* of the file; false ends it */
    void *ctx;
};

struct sd_lora_bake_report {
    size_t layers;    /* that were changed */
    size_t unmatched; /* modules of the LoRAs that belong to no layer of this model */
    char first[128];  /* the first of them */
};

/* Writes the model. It must lie in one file, and the networks be related to it (network_layers.h). Peak
 * memory: one layer three times over in f32; pages of the mapped files are dropped behind. */
int sd_lora_bake(struct sd_model_file *mf, const struct sd_lora_share *shares, size_t n,
                 const struct sd_lora_bake_options *o, const char *path, const struct sd_store_meta *meta,
                 size_t meta_count, struct sd_lora_bake_report *report, struct sd_err *err);

#endif
