/* The modules of a LoRA file as they are, whatever model they are for: what merging, resizing and renaming
 * work on. */
#ifndef SD_ADAPTER_LORA_MODULES_H
#define SD_ADAPTER_LORA_MODULES_H

#include "base/arena.h"
#include "store/safetensors.h"

/* How keys end. */
enum sd_lora_spelling {
    SD_LORA_KOHYA,          /* .lora_down.weight, .lora_up.weight */
    SD_LORA_PEFT,           /* .lora_A.weight, .lora_B.weight */
    SD_LORA_DIFFUSERS,      /* .lora.down.weight, .lora.up.weight: diffusers before 0.20 */
    SD_LORA_DIFFUSERS_TEXT, /* .lora_linear_layer.down.weight, ...up.weight: its text encoders */
    SD_LORA_CONTROL,        /* .down.weight, .up.weight: ControlLoRA */
    SD_LORA_SPELLINGS,
};

const char *sd_lora_down_ending(enum sd_lora_spelling s); /* ".lora_down.weight" */
const char *sd_lora_up_ending(enum sd_lora_spelling s);

/* A product up down, times alpha / rank. */
struct sd_lora_pair {
    const struct sd_tensor_file *file;
    const char *name; /* "lora_unet_..._to_q" */
    enum sd_lora_spelling spelling;
    const struct sd_store_entry *down;        /* [rank,in] or [rank,in,k,k]; of CP form [rank,in,1,1] */
    const struct sd_store_entry *up;          /* [out,rank] or [out,rank,1,1] */
    const struct sd_store_entry *mid;         /* [rank,rank,k,k] of CP form (LoCon's lora_mid), else NULL */
    const struct sd_store_entry *alpha_entry; /* or NULL: then alpha is the rank */
    float alpha;
    int64_t rank, in, out, kernel;
    bool conv; /* four dimensions */
};

struct sd_lora_modules {
    struct sd_tensor_file *file;
    struct sd_lora_pair *pairs; /* in the order of the file */
    size_t count;
    const struct sd_store_entry *
        *others; /* tensors that belong to no pair: DoRA's scales, LoHa's factors, ... */
    size_t other_count;
    const struct sd_lora_pair **by_name; /* private */
    struct sd_arena arena;               /* private */
};

/* Shapes that do not fit, and a down matrix without its up matrix, are errors. */
int sd_lora_modules_open(struct sd_lora_modules *m, const char *path, struct sd_err *err);

/* The same of bytes in memory, which must outlive the result; name stands for the file in messages. */
int sd_lora_modules_parse(struct sd_lora_modules *m, const void *bytes, size_t size, const char *name,
                          struct sd_err *err);
void sd_lora_modules_close(struct sd_lora_modules *m); /* takes a zeroed struct */

/* The module of that name, or NULL. */
const struct sd_lora_pair *sd_lora_modules_find(const struct sd_lora_modules *m, const char *name);

/* An error that names the first tensor no pair holds, unless there is none. */
int sd_lora_modules_only_pairs(const struct sd_lora_modules *m, struct sd_err *err);

/* The factors as matrices in f32: up [out,rank], down [rank,in*k*k], CP form multiplied out; free() both. */
int sd_lora_pair_read(const struct sd_lora_pair *p, float **up, float **down, struct sd_err *err);

/* Values per row of the down matrix: in*k*k. */
int64_t sd_lora_pair_width(const struct sd_lora_pair *p);

#endif
