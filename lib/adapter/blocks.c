#include "adapter/blocks.h"

#include <stdlib.h>
#include <string.h>

/* The number behind the part of the path that starts with name, or -1. */
static long number_after(const char *path, const char *name)
{
    const char *at = strstr(path, name);
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

int sd_target_block(const struct sd_target *t)
{
    const char *path = t->path;
    long j = number_after(path, ".attentions."), block;
    if (t->kind == SD_TARGET_TEXT)
        return -1;
    if (strstr(path, ".mid_block."))
        return SD_UNET_SIDE_BLOCKS;
    if (j < 0)
        j = number_after(path, ".resnets.");
    if (j < 0)
        j = 2; /* down- and upsamplers */
    bool up = (block = number_after(path, ".up_blocks.")) >= 0;
    if (!up)
        block = number_after(path, ".down_blocks.");
    if (block < 0 || block > SD_UNET_BLOCKS || j > SD_UNET_BLOCKS)
        return -1;
    long index = 3 * block + j + (up ? SD_UNET_SIDE_BLOCKS + 1 : 1);
    return index < SD_UNET_BLOCKS ? (int)index : -1;
}
