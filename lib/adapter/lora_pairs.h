/* The LoRA modules of a network file (adapter/network.h) as what merging, resizing and renaming work on:
 * pairs of matrices up [out,rank] and down [rank,in k k] whose product counts alpha / rank times. */
#ifndef SD_ADAPTER_LORA_PAIRS_H
#define SD_ADAPTER_LORA_PAIRS_H

#include "adapter/network.h"

/* An error unless the file has pairs, and all of them are sound; with only, unless all of its tensors belong
 * to pairs, so that every module is one. */
int sd_lora_check(const struct sd_network *n, bool only, struct sd_err *err);

/* Whether tensor i of the file belongs to a pair: its matrices, the core of CP form, and alpha. */
bool sd_lora_holds(const struct sd_network *n, size_t i);

/* The factors in f32, CP form multiplied out; free() both. */
int sd_lora_pair_read(const struct sd_network_module *m, float **up, float **down, struct sd_err *err);

/* Whether the matrices have four dimensions. */
bool sd_lora_pair_is_conv(const struct sd_network_module *m);

/* Values per row of the down matrix: in k k. */
int64_t sd_lora_pair_width(const struct sd_network_module *m);

/* alpha / rank in f32, as sd-scripts' tools compute it. */
float sd_lora_pair_scale(const struct sd_network_module *m);

#endif
