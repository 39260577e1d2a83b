/* What a mixed checkpoint's metadata tells of where it came from: sd_merge_recipe and sd_merge_models as
 * A1111's checkpoint merger writes them, modelspec.merged_from as sd-scripts does, and what of the first
 * model's metadata still holds. */
#ifndef CMD_MIX_METADATA_H
#define CMD_MIX_METADATA_H

#include "model/mix.h"
#include "store/meta.h"

struct mix_origin {
    const struct sd_mix_recipe *recipe;
    struct sd_model_file *const *models;
    size_t count;
    const char *output, *vae; /* paths; vae may be NULL */
    bool hash;                /* name the models by the SHA-256 of their files, which reads them */
};

/* Fills m, which is zeroed. 0, or -1 with err; free it in both cases. */
int mix_metadata(struct sd_meta *m, const struct mix_origin *o, struct sd_err *err);

/* Only the configuration, where the first model's shapes do not tell it: nobody can read the file without. */
int mix_metadata_config(struct sd_meta *m, struct sd_model_file *first, struct sd_err *err);

#endif
