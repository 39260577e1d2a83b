/* The metadata of a model that sd-convert writes. */
#ifndef CONVERT_METADATA_H
#define CONVERT_METADATA_H

#include "base/arena.h"
#include "base/options.h"
#include "model/model_file.h"

struct convert_metadata {
    bool keep;      /* what the source has, but for hashes of its tensors; and sd_config where it is needed */
    bool modelspec; /* modelspec.* as sd-scripts writes it into checkpoints */
    const struct sd_strings *set, *drop; /* KEY=VALUE, KEY */
    const struct sd_model_config *config;
    bool parts[SD_PARTS]; /* that are written */
    bool ldm;             /* in the original layout */
    const char *output;   /* its name is the model's title */
};

/* The pairs in the arena. source may be NULL. */
int convert_metadata(const struct convert_metadata *o, const struct sd_tensor_file *source,
                     struct sd_arena *arena, struct sd_store_meta **pairs, size_t *count, struct sd_err *err);

#endif
