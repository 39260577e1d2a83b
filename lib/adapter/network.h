/* The modules of a network file, whatever kind of network, and whatever model it is for: tensors grouped by
 * the layer that they change. What they add to its weight W [out, in k k], times scale = alpha / rank, is
 *
 *     LoRA, DyLoRA  up down                   sd-scripts networks.lora, networks.dylora; PEFT; diffusers
 *     LoCon         the same of convolutions; in CP form with a core between them (lora_mid)
 *     LoHa          (w1_a w1_b) * (w2_a w2_b), element by element (Hyeon-Woo, FedPara, 2022)
 *     LoKr          w1 (x) w2, Kronecker's product; each whole or of two factors
 *     diff          diff itself
 *     OFT           (R - 1) W, R orthogonal by blocks; sd-scripts networks.oft (Qiu et al., 2023)
 *
 * LyCORIS (Yeh et al., Navigating text-to-image customization: from LyCORIS fine-tuning to model evaluation,
 * 2024) trains LoHa and LoKr with scale once; the weights that its own merging computes have it twice. Norms
 * and biases have no product; of DoRA it is the direction's part, before that is scaled with the base's
 * weights.
 *
 * What the products are: network_product.h. Which of them change the layers of a model: network_layers.h. */
#ifndef SD_ADAPTER_NETWORK_H
#define SD_ADAPTER_NETWORK_H

#include "base/arena.h"
#include "store/tensor_file.h"

enum sd_network_type {
    SD_NETWORK_LORA,
    SD_NETWORK_LOHA,
    SD_NETWORK_LOKR,
    SD_NETWORK_DIFF,
    SD_NETWORK_OFT,
    SD_NETWORK_OTHER
};

const char *sd_network_type_name(enum sd_network_type t); /* "lora", "loha", ... */
const char *sd_network_kind_name(enum sd_network_type t); /* "LoRA", "LoHa", ... */

/* How the keys of LoRA's matrices end. */
enum sd_lora_spelling {
    SD_LORA_KOHYA,          /* .lora_down.weight, .lora_up.weight */
    SD_LORA_PEFT,           /* .lora_A.weight, .lora_B.weight */
    SD_LORA_PEFT_DEFAULT,   /* .lora_A.default.weight: with the name of PEFT's adapter */
    SD_LORA_DIFFUSERS,      /* .lora.down.weight, .lora.up.weight: diffusers before 0.20 */
    SD_LORA_DIFFUSERS_TEXT, /* .lora_linear_layer.down.weight, ...up.weight: its text encoders */
    SD_LORA_PROCESSOR,      /* _lora.down.weight, _lora.up.weight: its attention processors */
    SD_LORA_CONTROL,        /* .down.weight, .up.weight: ControlLoRA */
};

const char *sd_lora_down_ending(enum sd_lora_spelling s); /* ".lora_down.weight" */
const char *sd_lora_up_ending(enum sd_lora_spelling s);

/* What a tensor is to its module. */
enum sd_network_role {
    SD_ROLE_DOWN,
    SD_ROLE_UP,
    SD_ROLE_MID,
    SD_ROLE_ALPHA,
    SD_ROLE_DORA,
    SD_ROLE_W1,
    SD_ROLE_W1_A,
    SD_ROLE_W1_B,
    SD_ROLE_W2,
    SD_ROLE_W2_A,
    SD_ROLE_W2_B,
    SD_ROLE_T1,
    SD_ROLE_T2,
    SD_ROLE_DIFF,
    SD_ROLE_DIFF_B,
    SD_ROLE_OFT,
    SD_ROLE_W_NORM,
    SD_ROLE_B_NORM,
    SD_ROLES,
    SD_ROLE_NONE = SD_ROLES,
};

const char *sd_network_role_name(enum sd_network_role r); /* "down", "w1_a", ... */

struct sd_network_module {
    const char *name;  /* as in the file, without the tensors' endings */
    const char *place; /* network_names.h: "lora_unet_down_blocks_0_attentions_0_proj_in" */
    enum sd_network_type type;
    enum sd_lora_spelling spelling;
    bool dora;       /* has a dora_scale */
    int64_t rank;    /* 0 where there is none: diff, OFT, LoKr of whole factors */
    int64_t out, in; /* of the layer; 0 where unknown */
    int64_t window;  /* elements of a convolution's kernel: 9 for 3x3; 1 for a linear layer */
    int64_t kernel;  /* 3 for 3x3; 0 where the window is no square */
    double alpha;    /* the rank where the file has none */
    double scale;
    bool has_delta;    /* it has a product */
    const char *fault; /* what is wrong with its tensors, or NULL; then sizes are 0 and it has no product */
    const struct sd_target *target; /* the layer of a model, by sd_network_relate; else NULL */
    /* NULL where missing; SD_ROLE_NONE always is. All have data, also where the file compresses it. */
    const struct sd_store_entry *tensor[SD_ROLES + 1];
};

struct sd_network {
    struct sd_tensor_file *file;
    struct sd_network_module *modules; /* sorted by place */
    struct sd_network_module *
        *order; /* the same in the order of the file, by what they have first of the roles */
    size_t count;
    struct sd_network_module **of; /* the module of each of the file's tensors, NULL where there is none */
    size_t others;                 /* how many have none */
    uint64_t unpacked;             /* private */
    struct sd_arena arena;
};

/* A file without a single module is none the worse for it. On failure there is nothing to close. */
int sd_network_open(struct sd_network *n, const char *path, struct sd_err *err);

/* The same of bytes in memory, which must outlive the result; name stands for the file in messages. */
int sd_network_parse(struct sd_network *n, const void *bytes, size_t size, const char *name,
                     struct sd_err *err);
void sd_network_close(struct sd_network *n); /* takes a zeroed struct */

/* An error where there is no module. */
int sd_network_some(const struct sd_network *n, struct sd_err *err);

/* The module of that place, or NULL. */
struct sd_network_module *sd_network_find(const struct sd_network *n, const char *place);

/* What a tensor of this name belongs to; SD_NETWORK_OTHER also where it is of no network. */
enum sd_network_type sd_network_type_of(const char *key);

#endif
