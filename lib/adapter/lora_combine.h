/* Several LoRAs made one, by the rules of sd-scripts' networks/merge_lora.py (add, concatenate) and
 * networks/svd_merge_lora.py. */
#ifndef SD_ADAPTER_LORA_COMBINE_H
#define SD_ADAPTER_LORA_COMBINE_H

#include "adapter/lora_blocks.h"
#include "adapter/lora_out.h"

enum sd_lora_combination {
    SD_LORA_ADD,    /* matrices are added: right only where the LoRAs descend from the same one */
    SD_LORA_CONCAT, /* ranks add up; alpha stays the first LoRA's, so strength falls as rank grows */
    SD_LORA_SVD,    /* products are added and cut to a rank: right for any LoRAs */
};

/* One of the LoRAs to merge. */
struct sd_lora_share {
    const struct sd_network *network;
    double ratio;
    const double *blocks; /* [SD_LORA_BLOCKS] more factors, or NULL; not for SD_LORA_ADD and SD_LORA_CONCAT */
};

struct sd_lora_combine_options {
    enum sd_lora_combination how;
    enum sd_store_dtype precision; /* of the arithmetic of ADD and CONCAT: F32, F16, BF16 */
    enum sd_store_dtype save;
    int64_t rank, conv_rank; /* SD_LORA_SVD: of linear layers and 1x1 convolutions, of others */
    bool shuffle; /* ADD, CONCAT: ranks in a random order, torch.randperm's after manual_seed(seed) */
    uint64_t seed;
    int threads;
};

/* What the metadata tell: of ADD and CONCAT, rank and alpha of the modules where they first occur. */
struct sd_lora_combine_report {
    size_t modules;
    int64_t rank; /* 0: they differ */
    double alpha; /* NaN: they differ */
};

/* Adds the merged modules, in sd-scripts' names, to out (an empty struct, to be freed by the caller). Peak
 * memory beside out: a module's factors for each thread. */
int sd_lora_combine(const struct sd_lora_share *shares, size_t n, const struct sd_lora_combine_options *o,
                    struct sd_lora_out *out, struct sd_lora_combine_report *report, struct sd_err *err);

#endif
