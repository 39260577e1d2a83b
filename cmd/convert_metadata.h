/* The metadata of a model that sd-convert writes. */
#ifndef CONVERT_METADATA_H
#define CONVERT_METADATA_H

#include "base/options.h"
#include "model/model_file.h"
#include "store/meta.h"

struct convert_metadata {
    bool keep;      /* what the source has, but for hashes of its tensors; and sd_config where it is needed */
    bool modelspec; /* modelspec.* as sd-scripts writes it into checkpoints */
    const struct sd_strings *set, *drop; /* KEY=VALUE, KEY */
    const struct sd_model_config *config;
    bool parts[SD_PARTS]; /* that are written */
    bool ldm;             /* in the original layout */
    const char *output;   /* its name is the model's title */
};

/* Fills m, which is zeroed; free it in both cases. source may be NULL. */
int convert_metadata(const struct convert_metadata *o, const struct sd_tensor_file *source, struct sd_meta *m,
                     struct sd_err *err);

#endif
