/* LoRAs of another rank, by sd-scripts' rules (networks/resize_lora.py): each module's product, cut to its
 * leading singular values. */
#ifndef SD_ADAPTER_LORA_RESIZE_H
#define SD_ADAPTER_LORA_RESIZE_H

#include "adapter/lora_out.h"

enum sd_lora_resize_method {
    SD_LORA_RESIZE_FIXED,      /* the rank as given */
    SD_LORA_RESIZE_RATIO,      /* singular values larger than the largest divided by param */
    SD_LORA_RESIZE_FRO,        /* as many as keep the share param of the Frobenius norm */
    SD_LORA_RESIZE_CUMULATIVE, /* as many as keep the share param of their sum */
};

struct sd_lora_resize_options {
    int64_t rank,
        conv_rank; /* of linear layers; of convolutions, 1x1 too. The most, where a method chooses */
    enum sd_lora_resize_method method;
    double param;
    enum sd_store_dtype save;
};

/* What became of a module. */
struct sd_lora_resized {
    const struct sd_network_module *module;
    int64_t old_rank, rank;
    double alpha;
    double sum_retained,
        fro_retained; /* shares of the singular values' sum and norm; NaN for a zero module */
    double max_ratio; /* largest by smallest that is kept */
};

/* Adds all of the file's tensors, resized, to out (an empty struct, to be freed by the caller); results
 * [network->count], of which *count are filled, in the order of the file. The strength of a module,
 * alpha / rank, stays. */
int sd_lora_resize(const struct sd_network *network, const struct sd_lora_resize_options *o, int threads,
                   struct sd_lora_out *out, struct sd_lora_resized *results, size_t *count,
                   struct sd_err *err);

#endif
