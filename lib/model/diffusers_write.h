/* The files of a diffusers folder beside its weights, as diffusers 0.32 and transformers write them:
 * model_index.json, unet/config.json, vae/config.json, text_encoder/config.json,
 * scheduler/scheduler_config.json and tokenizer/. A part alone has its config.json in the folder itself. */
#ifndef SD_MODEL_DIFFUSERS_WRITE_H
#define SD_MODEL_DIFFUSERS_WRITE_H

#include "base/folder.h"
#include "model/config.h"
#include "model/names.h"

struct sd_diffusers_files {
    const struct sd_model_config *config;
    bool has[SD_PARTS];
    const char
        *reference; /* a folder whose scheduler and tokenizer are taken, where it has them, in place of
                       DDIM and the built-in CLIP vocabulary; or NULL. The prediction type is config's */
};

/* Writes them all, and makes the folders for the weights. A pipeline (model_index.json) needs all three
 * parts. */
int sd_diffusers_write(struct sd_folder *to, const struct sd_diffusers_files *files, struct sd_err *err);

/* Appends the path of a part's weights in the folder: "unet/diffusion_pytorch_model", or without "unet/" for
 * a part alone, then ending. 0 or -1. */
int sd_diffusers_weights(struct sd_buf *out, const struct sd_diffusers_files *files, enum sd_part part,
                         const char *ending);

/* 0 when nothing is at path, or an empty folder, or one that holds a diffusers model and nothing else: what a
 * new model may take the place of. Else an error that names what is in the way. */
int sd_diffusers_replaceable(const char *path, struct sd_err *err);

#endif
