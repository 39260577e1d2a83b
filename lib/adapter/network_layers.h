/* Networks of any kind (adapter/network.h) read to change a model: which layer each module is for. */
#ifndef SD_ADAPTER_NETWORK_LAYERS_H
#define SD_ADAPTER_NETWORK_LAYERS_H

#include "adapter/network.h"
#include "adapter/target.h"

/* What a file held beside what could be used. */
struct sd_lora_report {
    size_t modules;   /* that have a layer */
    size_t unmatched; /* keys that belong to no layer of this model */
    char first[256];  /* names of the first few of them */
};

/* Counts a key that belongs to no layer. */
void sd_lora_report_key(struct sd_lora_report *report, const char *key);

/* Gives each module its target among the model's layers, all of which may have one: those of struct sd_lora
 * and the other linear layers and convolutions too. Keys that belong to no layer are reported; tensors that
 * are of no LoRA, LoCon, LoHa, LoKr or OFT (of DoRA, diffs, norms), or of wrong shapes, are refused. Targets
 * live as long as the network. */
int sd_network_relate(struct sd_network *n, const struct sd_model_config *c, struct sd_lora_report *report,
                      struct sd_err *err);

/* The module for that layer, under its LoRA's or its OFT's name, or NULL. Needs no sd_network_relate. */
const struct sd_network_module *sd_network_at(const struct sd_network *n, const struct sd_target *target);

/* Of a network that was related: whether sd_lora_open takes all of it, so that it can run beside the layers
 * and change none. */
bool sd_network_is_lora(const struct sd_network *n);

#endif
