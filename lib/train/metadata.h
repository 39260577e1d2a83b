/* The ss_* and modelspec.* entries of a trained network's file, as sd-scripts writes them: Python's str() of
 * everything. */
#ifndef SD_TRAIN_METADATA_H
#define SD_TRAIN_METADATA_H

#include "store/meta.h"
#include "train/train.h"

#include <time.h>

struct sd_train_progress {
    int64_t step, epoch;
    time_t started, finished;
    uint64_t session;
    char model_hash[65], old_model_hash[65]; /* of the base model's file; "" leaves them out */
};

/* The base model's hashes as sd-scripts records them: SHA-256 of the whole file, and the first 8 digits of
 * that of 64 KiB from the second MiB on. For a folder "IsADirectory". */
void sd_train_hash_model(const char *path, struct sd_train_progress *progress);

/* Fills m, which is zeroed; free it in both cases. */
int sd_train_metadata(const struct sd_train_config *config, const struct sd_train_plan *plan,
                      const struct sd_dataset *data, const struct sd_train_progress *progress,
                      struct sd_meta *m, struct sd_err *err);

#endif
