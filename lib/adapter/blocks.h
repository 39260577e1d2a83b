/* The 25 blocks of a U-Net by which sd-scripts sets ranks and rates of Stable Diffusion 1 and 2: 0..11 from
 * above downwards (no layer is in 0), 12 the middle, 13..24 upwards. */
#ifndef SD_ADAPTER_BLOCKS_H
#define SD_ADAPTER_BLOCKS_H

#include "adapter/target.h"

enum { SD_UNET_SIDE_BLOCKS = 12, SD_UNET_BLOCKS = 2 * SD_UNET_SIDE_BLOCKS + 1 };

/* Rank and alpha by block; rank 0: the block's layers get nothing. */
struct sd_lora_blocks {
    int64_t rank[SD_UNET_BLOCKS];
    float alpha[SD_UNET_BLOCKS];
    bool conv; /* residual blocks, down- and upsamplers get modules, and their 3x3 convolutions these: */
    int64_t conv_rank[SD_UNET_BLOCKS];
    float conv_alpha[SD_UNET_BLOCKS];
};

/* The block of a layer; -1 in the text encoder, and where a U-Net is larger than those 25 blocks. */
int sd_target_block(const struct sd_target *target);

#endif
