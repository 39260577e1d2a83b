/* What the modules of a LoRA are called: sd-scripts writes a layer's path with underscores,
 *     lora_unet_mid_block_attentions_0_proj_in, lora_te_text_model_encoder_layers_0_mlp_fc1
 * diffusers and PEFT with dots,
 *     unet.mid_block.attentions.0.proj_in, text_encoder.text_model.encoder.layers.0.mlp.fc1 */
#ifndef SD_ADAPTER_LORA_NAMES_H
#define SD_ADAPTER_LORA_NAMES_H

#include "adapter/lora_out.h"
#include "store/meta.h"
#include "base/buf.h"

/* Puts the other name into out: 1, 0 when name is no layer of SD 1 or 2 in the expected form, -1 when memory
 * is out. */
int sd_lora_name_to_diffusers(const char *name, struct sd_buf *out);
int sd_lora_name_to_kohya(const char *name, struct sd_buf *out);

/* Adds the modules under the other names to out (an empty struct, to be freed by the caller), and their
 * metadata to meta.
 *
 * To diffusers: lora_A and lora_B, without alpha, which its loader does not take: lora_B is multiplied by
 * alpha / rank, and metadata "sd_alpha.NAME" keep alpha. SD 2's proj_in and proj_out become linear.
 * To sd-scripts: lora_down, lora_up and alpha; alpha is that of the metadata, or the rank; SD 2's proj_in and
 * proj_out become 1x1 convolutions.
 *
 * save: the type of the tensors, or SD_STORE_DTYPES for the one each has. */
int sd_lora_convert(const struct sd_lora_modules *m, bool to_diffusers, enum sd_store_dtype save,
                    struct sd_lora_out *out, struct sd_meta *meta, struct sd_err *err);

/* Whether the file's names are diffusers': the first module decides. */
bool sd_lora_is_diffusers(const struct sd_lora_modules *m);

#endif
