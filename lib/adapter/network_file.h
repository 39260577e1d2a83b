/* Files of adapter networks of any kind, read to change weights: what a layer's tensors mean, and what they
 * add to its weight W [out, in k k].
 *
 *     LoRA, DyLoRA   s up down                  sd-scripts networks.lora, networks.dylora
 *     LoCon (CP)     s up mid down over k x k   lora_mid; LyCORIS
 *     LoHa           s (a1 b1) * (a2 b2)        elementwise; hada_w1_a, ... (Hyeon-Woo, FedPara, 2022)
 *     LoKr           s w1 (x) w2                Kronecker's product; lokr_w1, lokr_w2, or each as a product
 *                                               lokr_w1_a lokr_w1_b
 *     OFT            (R - 1) W                  R orthogonal by blocks; oft_blocks; sd-scripts networks.oft
 *                                               (Qiu et al., 2023)
 *
 * s is alpha / rank, 1 without alpha. LyCORIS (Yeh et al., 2024) trains its kinds with s once; the weights
 * that its own merging computes for LoHa and LoKr have s twice. Its weight decomposition (dora_scale), and
 * kinds that are not above, are refused by name. */
#ifndef SD_ADAPTER_NETWORK_FILE_H
#define SD_ADAPTER_NETWORK_FILE_H

#include "adapter/lora.h"
#include "store/safetensors.h"

enum sd_network_kind { SD_NETWORK_LORA, SD_NETWORK_LOCON, SD_NETWORK_LOHA, SD_NETWORK_LOKR, SD_NETWORK_OFT };

/* The tensors that a layer can have. */
enum sd_network_part {
    SD_NETWORK_UP,
    SD_NETWORK_DOWN,
    SD_NETWORK_MID,
    SD_NETWORK_W1_A, /* of LoHa and LoKr from here */
    SD_NETWORK_W1_B,
    SD_NETWORK_W2_A,
    SD_NETWORK_W2_B,
    SD_NETWORK_T1,
    SD_NETWORK_T2,
    SD_NETWORK_W1,
    SD_NETWORK_W2,
    SD_NETWORK_BLOCKS,
    SD_NETWORK_PARTS
};

struct sd_network_layer {
    const struct sd_target *target;
    enum sd_network_kind kind;
    int64_t rank; /* OFT: how many blocks; LoKr without products: 0 */
    float alpha;  /* rank where the file has none; OFT: the constraint */
    float scale;  /* s above; 1 for OFT */
    const struct sd_store_entry
        *part[SD_NETWORK_PARTS]; /* of the file; shapes fit the layer and one another */
};

struct sd_network_file;

/* Relates the file's tensors to the model's layers, all of which may have some: those of struct sd_lora and
 * the other linear layers and convolutions too. Keys that belong to no layer are reported; tensors of no
 * known kind, or of wrong shapes, are refused. */
int sd_network_file_open(struct sd_network_file **file, const struct sd_model_config *c, const char *path,
                         struct sd_lora_report *report, struct sd_err *err);
/* The same of bytes in memory, which must outlive the result; name stands for the file in messages. */
int sd_network_file_parse(struct sd_network_file **file, const struct sd_model_config *c, const void *bytes,
                          size_t size, const char *name, struct sd_lora_report *report, struct sd_err *err);
void sd_network_file_close(struct sd_network_file *file); /* takes NULL */

const struct sd_tensor_file *sd_network_file_tensors(const struct sd_network_file *file);
size_t sd_network_file_count(const struct sd_network_file *file);
const struct sd_network_layer *sd_network_file_layer(const struct sd_network_file *file, size_t i);
/* The layer of that path ("unet.conv_in"), or NULL. */
const struct sd_network_layer *sd_network_file_find(const struct sd_network_file *file, const char *path);

/* Whether sd_lora_open takes all of it, so that it can run beside the layers and change none. */
bool sd_network_file_is_lora(const struct sd_network_file *file);

/* "LoRA", "LoHa", ... */
const char *sd_network_kind_name(enum sd_network_kind kind);

/* Numbers of a layer's weight: out * in * k * k. */
size_t sd_network_weight_count(const struct sd_network_layer *layer);

/* What the layer adds to weight at multiplier 1, into delta; both [out, in k k] f32, and different memory.
 * Only OFT reads weight, which may else be NULL. 0, or -1 when memory is out. */
int sd_network_delta(const struct sd_network_layer *layer, const float *weight, float *delta,
                     struct sd_err *err);

#endif
