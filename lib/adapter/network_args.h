/* sd-scripts' --network_args of networks.lora: words KEY=VALUE that say which layers get which rank, at which
 * rate they learn, and what is dropped.
 *
 *     conv_dim, conv_alpha                        3x3 convolutions of residual blocks, down- and upsamplers
 *     block_dims, block_alphas                    25 numbers (adapter/blocks.h)
 *     conv_block_dims, conv_block_alphas          the same for 3x3 convolutions
 *     down_lr_weight, up_lr_weight                12 factors on the rate, or sine, cosine, linear,
 * reverse_linear or zeros, with +X to raise them all mid_lr_weight, block_lr_zero_threshold      one factor;
 * what is not above this is 0 loraplus_lr_ratio, loraplus_unet_lr_ratio, loraplus_text_encoder_lr_ratio
 *                                                 factor on the rate of up matrices (Hayou et al., LoRA+,
 * 2024) rank_dropout, module_dropout                see struct sd_lora_dropout
 *
 * A block whose rate has factor 0 gets no modules. */
#ifndef SD_ADAPTER_NETWORK_ARGS_H
#define SD_ADAPTER_NETWORK_ARGS_H

#include "adapter/lora.h"
#include "base/options.h"

struct sd_network_args {
    bool conv; /* conv_dim was given */
    int64_t conv_rank;
    float conv_alpha;
    bool by_block; /* blocks below */
    struct sd_lora_blocks blocks;
    bool by_rate; /* the factors below */
    double rate[SD_UNET_BLOCKS];
    double plus_text, plus_unet; /* NaN: up matrices learn at the same rate */
    double rank_dropout, module_dropout;
    bool shapes;      /* something other than rates was given: ranks, dropout, LoRA+ */
    char remark[160]; /* what a user should know, or "" */
};

/* rank and alpha are those of layers that the words say nothing of. What is unknown, cannot be read, or would
 * do nothing is refused by name (SD_ERR_USAGE). */
int sd_network_args_parse(struct sd_network_args *args, const struct sd_strings *words, int64_t rank,
                          float alpha, struct sd_err *err);

/* Copies what the words say into the options of a network; blocks point into args. */
void sd_network_args_apply(const struct sd_network_args *args, struct sd_lora_options *options);

#endif
