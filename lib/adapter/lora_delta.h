/* What the modules of a network file add to the weights of a model, whatever model that is, and whatever kind
 * the network is of:
 *
 *     LoRA, LoCon   dW = up down, of convolutions too; with a core between them (CP form)
 *     LoHa          dW = (w1_a w1_b) * (w2_a w2_b), element by element
 *     LoKr          dW = w1 (x) w2, the Kronecker product; each whole or of two factors
 *     diff          dW itself
 *
 * times scale = alpha / rank. The last three are LyCORIS' (Yeh et al., Navigating text-to-image
 * customization: from LyCORIS fine-tuning to model evaluation, 2024). OFT turns weights instead: it has no dW
 * of its own, and neither have norms and biases. Of DoRA this is the direction's part, before it is scaled
 * with the base's weights. */
#ifndef SD_ADAPTER_LORA_DELTA_H
#define SD_ADAPTER_LORA_DELTA_H

#include "base/arena.h"
#include "store/safetensors.h"

enum sd_delta_type {
    SD_DELTA_LORA,
    SD_DELTA_LOHA,
    SD_DELTA_LOKR,
    SD_DELTA_DIFF,
    SD_DELTA_OFT,
    SD_DELTA_OTHER
};

const char *sd_delta_type_name(enum sd_delta_type t); /* "lora", "loha", ... */

/* What a tensor is to its module. */
enum sd_delta_role {
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
};

const char *sd_delta_role_name(enum sd_delta_role r); /* "down", "w1_a", ... */

struct sd_delta_module {
    const char *name;  /* as in the file, without the tensors' endings */
    const char *place; /* the same in sd-scripts' spelling: "lora_unet_down_blocks_0_attentions_0_proj_in" */
    enum sd_delta_type type;
    bool dora, peft; /* has a dora_scale; is spelled lora_A and lora_B */
    int64_t rank;    /* 0 where there is none: diff, OFT, LoKr of whole factors */
    int64_t out, in; /* of the layer; 0 where unknown */
    int64_t window;  /* elements of a convolution's kernel: 9 for 3x3; 1 for a linear layer */
    double alpha;    /* the rank where the file has none */
    double scale;
    bool has_delta;
    const char *fault; /* what is wrong with its shapes, or NULL; then sizes are 0 and there is no delta */
    const struct sd_store_entry *tensor[SD_ROLES]; /* NULL where missing */
};

struct sd_delta_file {
    struct sd_delta_module *modules; /* sorted by place */
    size_t count;
    size_t others; /* tensors that belong to no module */
    const char *first_other;
    struct sd_tensor_file *tf;
    struct sd_arena arena; /* private */
};

/* A file without a single module is an error. */
int sd_delta_open(struct sd_delta_file *f, const char *path, struct sd_err *err);
void sd_delta_close(struct sd_delta_file *f); /* takes a zeroed struct */

/* What a tensor of this name belongs to; SD_DELTA_OTHER also where it is of no network. */
enum sd_delta_type sd_delta_type_of(const char *key);

/* One module's factors in f32. */
struct sd_delta {
    int64_t out, width; /* dW is [out,width]; width is in * window */
    double scale;
    enum sd_delta_type type;
    struct sd_delta_matrix { /* u d, or d alone where u is NULL */
        int64_t rows, cols, rank;
        float *u, *d; /* [rows,rank], [rank,cols] or [rows,cols] */
    } m[2];
    double *row[2]; /* private scratch */
};

/* m must have a delta. One caller at a time uses a delta. */
int sd_delta_load(struct sd_delta *d, const struct sd_delta_module *m, struct sd_err *err);
void sd_delta_free(struct sd_delta *d);                          /* takes a zeroed struct */
void sd_delta_row(struct sd_delta *d, int64_t row, double *out); /* width values, scaled */

/* Frobenius norm of the scaled dW. */
int sd_delta_norm(struct sd_delta *d, double *norm, struct sd_err *err);

#endif
