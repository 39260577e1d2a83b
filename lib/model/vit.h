/* The vision transformer (Dosovitskiy et al., An Image is Worth 16x16 Words, 2021) as timm's
 * VisionTransformer has it: what the WD taggers are, and BLIP's image encoder. */
#ifndef SD_MODEL_VIT_H
#define SD_MODEL_VIT_H

#include "nn/nn.h"
#include "store/tensor_file.h"

enum sd_vit_result {
    SD_VIT_TOKENS, /* all tokens after the last norm [N,T,width] in the builder's type; there is no head */
    SD_VIT_CLASS,  /* the head's logits of the class token, f32 [N,outputs] */
    SD_VIT_MEAN,   /* the head's logits of the mean over the patches, f32 [N,outputs] */
};

struct sd_vit_config {
    int64_t image, patch; /* sides in pixels; whole patches */
    int64_t width, mlp, layers, heads;
    int64_t outputs;  /* of the head */
    bool class_token; /* goes before the patches, with a position of its own */
    enum sd_vit_result result;
    enum sd_act act;
    float eps;
};

/* ViT-B/16 of 448 pixels with 10,861 tags, as SmilingWolf's wd-vit-tagger-v3: trained without a class token,
 * GELU by tanh, the mean taken after the last norm (github.com/SmilingWolf/JAX-CV, Models/ViT.py). Its tags'
 * probabilities are the sigmoids of its logits; its pictures are RGB from -1 to 1. */
extern const struct sd_vit_config sd_vit_wd;

/* x [N,image,image,3], f32 or the builder's type. Parameters are named vit.* with timm's names, but that
 * attn.qkv is three, attn.q, attn.k and attn.v. */
struct sd_tensor *sd_vit(struct sd_nn *b, const struct sd_vit_config *c, struct sd_tensor *x);

/* Weights in timm's layout: a file's tensors with `prefix` before their names ("visual_encoder.", ""). */
struct sd_vit_file {
    const struct sd_tensor_file *file;
    const char *prefix;
    int64_t shape[SD_MAX_DIMS]; /* private */
};

/* For sd_weights_new (weights.h), with a struct sd_vit_file as ctx. */
bool sd_vit_find(void *ctx, const char *name, struct sd_store_entry *entry);

#endif
