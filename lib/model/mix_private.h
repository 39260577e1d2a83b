/* What mix.c plans and mix_write.c carries out. */
#ifndef SD_MODEL_MIX_PRIVATE_H
#define SD_MODEL_MIX_PRIVATE_H

#include <pthread.h>

#include "base/arena.h"
#include "model/mix.h"
#include "store/safetensors_write.h"

/* Where some values lie, and what they are multiplied with. */
struct mix_term {
    const char *path; /* of the model */
    const void *data;
    enum sd_store_dtype dtype;
    bool mapped;
    size_t row; /* values in a row, where these are less than the piece's; 0: as many */
    float weight;
};

/* A stretch of a tensor that is one parameter: the whole tensor, or q, k or v of a fused one. */
struct mix_piece {
    size_t values;
    size_t row, common;     /* where terms' rows are short: values in a row, and how many of them all have */
    struct mix_term *terms; /* of a difference: A, B with the multiplier, C */
    size_t count;
    bool difference;
    bool copy; /* whole numbers, from the first model as they are */
};

struct mix_tensor {
    struct sd_mix *mix;
    const struct sd_store_tensor *out;
    struct mix_piece piece[3];
    int pieces;
};

struct sd_mix {
    struct sd_mix_recipe recipe;
    double *weights, *blocks; /* the recipe's, copied */
    struct sd_model_file *const *models;
    size_t model_count;
    struct sd_strings *lacking, *skipped; /* of each model */
    struct sd_store_tensor *out;          /* what is written, and how each comes about */
    struct mix_tensor *tensors;
    size_t count;
    pthread_mutex_t lock;             /* of the next */
    uint64_t total, done, not_finite; /* bytes, bytes, values */
    const struct sd_model_init_watch *watch;
    struct sd_arena arena;
};

/* The fill of struct sd_store_tensor; ctx is a struct mix_tensor. */
int sd_mix_fill(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err);

#endif
