/* What the modules of adapter networks are called, and where in a model their names put them. sd-scripts
 * writes a layer's path with underscores,
 *     lora_unet_mid_block_attentions_0_proj_in, lora_te_text_model_encoder_layers_0_mlp_fc1
 * diffusers and PEFT with dots,
 *     unet.mid_block.attentions.0.proj_in, text_encoder.text_model.encoder.layers.0.mlp.fc1
 * A module's place is its name in the first of these spellings, whichever it has. Modules of OFT begin with
 * "oft_" in place of "lora_". */
#ifndef SD_ADAPTER_NETWORK_NAMES_H
#define SD_ADAPTER_NETWORK_NAMES_H

#include "base/buf.h"

/* Puts the place into out: 1, 0 when name does not begin as diffusers' of a layer of SD 1 or 2 do (the place
 * is there all the same), -1 when memory is out. PEFT's "base_model.model." and the processors of diffusers'
 * attention are left out. */
int sd_network_place(const char *name, struct sd_buf *out);

/* Puts diffusers' name of a place into out: 1, 0 when it is no layer of SD 1 or 2, -1 when memory is out. */
int sd_network_path(const char *place, struct sd_buf *out);

/* Where in the model a place is. */
enum sd_network_stage { SD_STAGE_TEXT, SD_STAGE_DOWN, SD_STAGE_MID, SD_STAGE_UP, SD_STAGE_OTHER };

struct sd_network_block {
    const char *part; /* "text_encoder", "text_encoder_2", "text_encoder_3" or "unet" */
    char name[32];    /* "layers_11", "down_blocks_0", "mid_block", "input_blocks_4", "other" */
    enum sd_network_stage stage;
    int index; /* the block's number */
    int layer; /* in a block of diffusers' U-Net: of its residual and attention layers 0 or 1, upwards 0, 1 or
                  2; the down- or upsampler is 2; else -1 */
};

void sd_network_block_of(const char *place, struct sd_network_block *b);

#endif
