/* Metadata of LoRA files and merged models, as sd-scripts' tools write it. */
#ifndef SD_ADAPTER_LORA_META_H
#define SD_ADAPTER_LORA_META_H

#include <stdbool.h>
#include <time.h>

#include "base/arena.h"
#include "store/safetensors.h"

/* A growing list of pairs. Keys and values are copied. The first failure, which is lack of memory, sticks. */
struct sd_meta {
    struct sd_store_meta *v;
    size_t n;
    bool failed;
    struct sd_arena arena; /* private, like cap */
    size_t cap;
};

void sd_meta_set(struct sd_meta *m, const char *key, const char *value); /* replaces; NULL leaves it out */
void sd_meta_set_float(struct sd_meta *m, const char *key, double v);    /* as Python's str(float) */
void sd_meta_set_int(struct sd_meta *m, const char *key, int64_t v);
void sd_meta_copy(struct sd_meta *m, const struct sd_tensor_file *tf); /* all of a file's */
void sd_meta_free(struct sd_meta *m);

/* https://github.com/Stability-AI/ModelSpec */
struct sd_modelspec {
    bool v2, v_prediction, lora;
    bool diffusers;          /* under diffusers' names; a LoRA counts as that */
    const char *path;        /* of the file to be written; its title comes from it */
    const char *merged_from; /* or NULL */
    time_t date;
};
void sd_meta_modelspec(struct sd_meta *m, const struct sd_modelspec *spec);

/* A file's title: modelspec.title, else its name without folders and ending. In m's arena; NULL sticks. */
const char *sd_meta_title(struct sd_meta *m, const struct sd_tensor_file *tf, const char *path);

#endif
