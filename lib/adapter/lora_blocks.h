/* Weights for the blocks of a U-Net, as the extension LoRA Block Weight numbers them: BASE (the text
 * encoder), IN00-IN11, MID, OUT00-OUT11. */
#ifndef SD_ADAPTER_LORA_BLOCKS_H
#define SD_ADAPTER_LORA_BLOCKS_H

#include "base/err.h"

enum { SD_LORA_BLOCKS = 26 };

/* The block of a module in sd-scripts' names of SD 1 and 2, or -1. IN00 has none. */
int sd_lora_block(const char *name);

/* Reads a JSON list of 26 numbers, or of 17: those of the blocks with attention (BASE, IN01, IN02, IN04,
 * IN05, IN07, IN08, MID, OUT03-OUT11), all others being 1. */
int sd_lora_block_weights(const char *json, double weights[SD_LORA_BLOCKS], struct sd_err *err);

#endif
