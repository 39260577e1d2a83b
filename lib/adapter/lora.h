/* LoRA (Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021), as sd-scripts' networks.lora
 * has it:
 *     y = base(x) + multiplier * alpha / rank * up(down(x))
 *
 *     struct sd_lora *lora;
 *     sd_lora_new(&lora, config, &(struct sd_lora_options){.rank = 16, .alpha = 8, ...}, &rng, &err)
 *     b.adapt = sd_lora_adapt;                                  // before the model is built
 *     b.adapt_ctx = &(struct sd_lora_stack){&lora, 1};
 *     ... sd_unet(&b, ...) ...
 *     sd_lora_save(lora, path, SD_STORE_F16, meta, meta_count, &err);
 *
 * Law of ownership: a network owns its modules, their variables and names. It must outlive the graphs that
 * use it. The trained values are f32 whatever the computing type. */
#ifndef SD_ADAPTER_LORA_H
#define SD_ADAPTER_LORA_H

#include "adapter/blocks.h"
#include "adapter/network_layers.h"
#include "base/rng.h"
#include "store/safetensors_write.h"
#include "tensor/plan.h"

struct sd_lora_module {
    const struct sd_target *target; /* the layer; target->name is the module's name in files */
    int64_t rank;
    float alpha;
    float scale;        /* alpha / rank */
    struct sd_var down; /* f32 [rank,in], of a k x k convolution [rank,in,k,k] */
    struct sd_var up;   /* f32 [out,rank] */
    bool used;          /* a graph has it: the model's walk came by its layer */
    bool live;          /* sd_lora_draw_masks did not drop it; the caller sets it back */
};

/* Probabilities of being dropped at a step, 0: never, and nothing is drawn for it. What is left is not scaled
 * up for module. */
struct sd_lora_dropout {
    double hidden; /* each number between down and up: --network_dropout */
    double rank;   /* each of the ranks, by sample */
    double module; /* the whole module */
};

struct sd_lora_mask; /* the input of one graph that says what one module drops */

struct sd_lora {
    struct sd_lora_module *modules; /* text encoder first; the order of sd-scripts' parameter lists */
    size_t count;
    float multiplier;
    bool conv_projection; /* see struct sd_lora_options */
    struct sd_lora_dropout dropout;
    struct sd_arena arena;      /* private from here */
    struct sd_lora_mask *masks; /* in the order in which graphs were built */
    float *values;
    size_t n_values;
    struct sd_lora_module **by_path;
};

struct sd_lora_options {
    int64_t rank;
    float alpha;             /* 0: rank */
    int64_t conv_rank;       /* network_args conv_dim; 0: nothing outside of transformers */
    float conv_alpha;        /* 0: conv_rank */
    bool text_encoder, unet; /* train this part */
    /* Ranks and alphas of the U-Net's layers by block, in place of those above; NULL: all alike. */
    const struct sd_lora_blocks *blocks;
    /* Write a linear proj_in and proj_out as 1x1 convolutions [r,in,1,1]: so sd-scripts does for SD2 models
     * that it loaded from an LDM file, and so it wants them back. */
    bool conv_projection;
    struct sd_lora_dropout dropout;
};

/* A network to be trained. Down matrices start uniform in +-1/sqrt(fan_in), up matrices at zero, drawn from
 * rng exactly as sd-scripts draws them after torch.manual_seed: parts that are not trained are drawn too, and
 * dropped. */
int sd_lora_new(struct sd_lora **lora, const struct sd_model_config *c, const struct sd_lora_options *options,
                struct sd_rng *rng, struct sd_err *err);

/* A network of the modules, ranks and alphas of a file (a missing alpha is the rank). Tensors of a wrong
 * shape are refused. trainable: to go on training it; else its variables are frozen. */
int sd_lora_open(struct sd_lora **lora, const struct sd_model_config *c, const char *path, float multiplier,
                 bool trainable, struct sd_lora_report *report, struct sd_err *err);

/* A network to go on training: the modules, ranks, alphas and values of a file, in the parts that options
 * train. What sd-scripts draws to begin with and then overwrites is drawn from rng, and dropped: its
 * --dim_from_weights. */
int sd_lora_resume(struct sd_lora **lora, const struct sd_model_config *c, const char *path,
                   const struct sd_lora_options *options, struct sd_rng *rng, struct sd_lora_report *report,
                   struct sd_err *err);

/* Puts a file's values into a network to be trained (--network_weights); modules that the file lacks keep
 * theirs, and scales stay as they are. */
int sd_lora_assign(struct sd_lora *lora, const char *path, struct sd_lora_report *report, struct sd_err *err);

void sd_lora_free(struct sd_lora *lora); /* takes NULL */

/* Networks applied together. */
struct sd_lora_stack {
    struct sd_lora *const *lora;
    size_t count;
};

/* The hook for struct sd_nn; its context is a struct sd_lora_stack. */
sd_nn_adapt sd_lora_adapt;

/* Draws what the text encoder's modules, or the U-Net's, drop at the next run of plan, which was made of
 * graph, and writes it into the plan's inputs: the same draws in the same order as sd-scripts' modules make
 * them one after the other in their forward. */
void sd_lora_draw_masks(struct sd_lora *lora, const struct sd_graph *graph, struct sd_plan *plan, bool unet,
                        struct sd_rng *rng);

/* What sd_lora_limit_norms found. */
struct sd_lora_norms {
    size_t scaled;        /* modules that were made smaller */
    double average, most; /* norms of the modules' products, as they are now */
};

/* Makes every module whose scaled product has a larger norm than max (> 0) smaller, both matrices alike:
 * sd-scripts'
 * --scale_weight_norms. */
void sd_lora_limit_norms(struct sd_lora *lora, double max, struct sd_lora_norms *norms);

/* Writes name.alpha, name.lora_down.weight and name.lora_up.weight of every module, as dtype (F32, F16,
 * BF16); meta as given, then the two hashes that web UIs look for. */
int sd_lora_save(const struct sd_lora *lora, const char *path, enum sd_store_dtype dtype,
                 const struct sd_store_meta *meta, size_t meta_count, struct sd_err *err);

/* Private to lib/adapter: a network with room for count modules, and a module's variables. */
struct sd_lora *sd_lora_alloc(const struct sd_model_config *c, struct sd_target **targets, size_t *n_targets,
                              struct sd_err *err);
int sd_lora_place(struct sd_lora *lora, bool trainable, struct sd_err *err);
/* Whether PyTorch's matrices of the layer's module are convolutions. */
bool sd_lora_is_conv(const struct sd_lora *lora, const struct sd_target *target);
/* h, between down and up, times what is dropped of it; adds an input to the graph. */
struct sd_tensor *sd_lora_mask(struct sd_lora *lora, const struct sd_lora_module *m, struct sd_nn *b,
                               struct sd_tensor *h);

#endif
