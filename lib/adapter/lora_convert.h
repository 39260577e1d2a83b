/* A LoRA under other names: sd-scripts', or diffusers' and PEFT's. */
#ifndef SD_ADAPTER_LORA_CONVERT_H
#define SD_ADAPTER_LORA_CONVERT_H

#include "adapter/lora_out.h"
#include "store/meta.h"

/* Adds the modules under the other names to out (an empty struct, to be freed by the caller), and their
 * metadata to meta.
 *
 * To diffusers: lora_A and lora_B, without alpha, which its loader does not take: lora_B is multiplied by
 * alpha / rank, and metadata "sd_alpha.NAME" keep alpha. SD 2's proj_in and proj_out become linear.
 * To sd-scripts: lora_down, lora_up and alpha; alpha is that of the metadata, or the rank; SD 2's proj_in and
 * proj_out become 1x1 convolutions.
 *
 * save: the type of the tensors, or SD_STORE_DTYPES for the one each has. */
int sd_lora_convert(const struct sd_network *network, bool to_diffusers, enum sd_store_dtype save,
                    struct sd_lora_out *out, struct sd_meta *meta, struct sd_err *err);

/* Whether the file's names are diffusers': the first module decides. */
bool sd_lora_is_diffusers(const struct sd_network *network);

#endif
