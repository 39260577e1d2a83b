/* The layers of a model that an adapter can attach to, in the order in which sd-scripts goes over them. */
#ifndef SD_ADAPTER_TARGET_H
#define SD_ADAPTER_TARGET_H

#include "base/arena.h"
#include "model/config.h"
#include "nn/nn.h"

enum sd_target_kind {
    SD_TARGET_TEXT,      /* attention and MLP of the text encoder */
    SD_TARGET_ATTENTION, /* inside the U-Net's transformers */
    SD_TARGET_RESNET,    /* residual blocks, down- and upsamplers */
    SD_TARGET_OTHER,     /* the other layers, which sd-scripts trains nothing for: sd_layers only */
};

struct sd_target {
    const char *path; /* "unet.down_blocks.0.attentions.0.proj_in" */
    const char *name; /* "lora_unet_down_blocks_0_attentions_0_proj_in" */
    enum sd_target_kind kind;
    int64_t in, out, kernel;
    bool conv;
    struct sd_conv window;
};

/* *targets [*count] in the arena: the text encoder first, then the U-Net; within each the order of
 * torch.nn.Module.named_modules in sd-scripts (down blocks, up blocks, middle block; attentions before
 * resnets). It decides which random numbers a layer's adapter starts with. */
int sd_targets(const struct sd_model_config *c, struct sd_arena *arena, struct sd_target **targets,
               size_t *count, struct sd_err *err);

/* The same with all linear layers and convolutions of both parts; the others come where their names say. */
int sd_layers(const struct sd_model_config *c, struct sd_arena *arena, struct sd_target **layers,
              size_t *count, struct sd_err *err);

#endif
