#include "adapter/blocks.h"

#include "adapter/network_names.h"

int sd_target_block(const struct sd_target *t)
{
    struct sd_network_block b;
    sd_network_block_of(t->name, &b);
    if (b.stage == SD_STAGE_MID)
        return SD_UNET_SIDE_BLOCKS;
    if (b.layer < 0 || b.layer > 2 || b.index > 3)
        return -1;
    return 3 * b.index + b.layer + (b.stage == SD_STAGE_UP ? SD_UNET_SIDE_BLOCKS + 1 : 1);
}
