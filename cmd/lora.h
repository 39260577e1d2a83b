/* What the sd-lora-* programs share. */
#ifndef CMD_LORA_H
#define CMD_LORA_H

#include "cmd.h"

#include "store/meta.h"

#define CMD_LORA_PRECISIONS "float|fp16|bf16"

/* The type of a word of CMD_LORA_PRECISIONS; NULL is `otherwise`. */
enum sd_store_dtype cmd_lora_precision(const char *word, enum sd_store_dtype otherwise);

/* These programs compute on the processor: --device cuda ends the program. */
void cmd_lora_check_device(struct sd_cmd *c);

/* Ends the program unless path is given and one that a LoRA or model can be written to. */
void cmd_lora_check_output(struct sd_cmd *c, const char *path);

/* Makes the folder of a file to be written. */
void cmd_lora_make_folder(struct sd_cmd *c, const char *path);

/* Ends the program when the metadata could not be put together. */
void cmd_lora_check_meta(struct sd_cmd *c, const struct sd_meta *meta);

#endif
