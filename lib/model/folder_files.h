/* Where a diffusers or transformers folder keeps the weights of a part. */
#ifndef SD_MODEL_FOLDER_FILES_H
#define SD_MODEL_FOLDER_FILES_H

#include "base/arena.h"
#include "base/err.h"

/* The file in dir that holds the weights, for sd_tensor_file_open; NULL in *path when there is none. In this
 * order: safetensors before .bin, plain before sharded (then it is the index), full weights before the
 * variants that hubs offer (fp16, bf16, non_ema); or only those of a variant, where it is not NULL. An error
 * when shards are there and their index is not. -1 with err. */
int sd_folder_weights(const char *dir, const char *variant, struct sd_arena *a, const char **path,
                      struct sd_err *err);

#endif
