/* Checkpoints combined: each tensor of the result is a sum of the same tensor of several models, or the first
 * model's with a difference of two others added.
 *
 *     struct sd_mix *m;
 *     if (sd_mix_plan(&m, &recipe, models, 2, NULL, &err) || sd_mix_write(m, path, NULL, 0, NULL, &err)) ...
 *
 * The models may be laid out in different ways; the result has the first model's tensors under the original
 * (LDM) names. The sums are those of sd-scripts' tools/merge_models.py, term by term and rounding by
 * rounding: w0 A, then + w1 B, and so on, and at last the first model's value again with the weights of the
 * models that lack the tensor. Tensors of whole numbers (position_ids, counters) have no mean: they are the
 * first model's.
 *
 * The blocks are those of merge-block-weighted: IN00..IN11 (input_blocks; IN00 also time_embed), M00
 * (middle_block), OUT00..OUT11 (output_blocks; OUT11 also the last norm and convolution, out). */
#ifndef SD_MODEL_MIX_H
#define SD_MODEL_MIX_H

#include "base/options.h"
#include "model/init.h"
#include "model/model_file.h"

enum { SD_MIX_BLOCKS = 25 };

/* IN00 .. IN11, M00, OUT00 .. OUT11 */

struct sd_mix_recipe {
    bool difference; /* A + multiplier (B - C) of three models; else the sum of weights[i] times model i */
    const double *weights; /* of a sum, one a model */
    double multiplier;     /* of a difference */
    const double *blocks;  /* NULL, or for each block of the U-Net: the share of B in a sum of two models (A
                              has the rest),  or the multiplier of a difference */
    bool unet_only;        /* what is not the U-Net's is the first model's */
    bool keep_nan;         /* write values that are not finite; else they are an error */
    enum sd_store_dtype precision,
        saved; /* F32, F16 or BF16: each product and sum is rounded to it; the result's type */
    int jobs;  /* threads */
};

struct sd_mix;

/* Works out every tensor of the result from the files' headers; vae, which may be NULL, gives the VAE's
 * tensors. recipe's arrays are copied, the files must stay open. An error when tensors of the same name
 * differ in shape. */
int sd_mix_plan(struct sd_mix **m, const struct sd_mix_recipe *recipe, struct sd_model_file *const *models,
                size_t count, struct sd_model_file *vae, struct sd_err *err);
void sd_mix_free(struct sd_mix *m); /* takes NULL */

/* Tensors that did not fit, for telling. Of models 1..: those of the first model that it lacks, and those it
 * has that are not in the first. Of the first: those that have no original name. They live as long as m. */
const struct sd_strings *sd_mix_lacking(const struct sd_mix *m, size_t model);
const struct sd_strings *sd_mix_skipped(const struct sd_mix *m, size_t model);

/* Reads, sums and writes piece by piece: memory for a few pieces of 1 MiB. watch may be NULL. */
int sd_mix_write(struct sd_mix *m, const char *path, const struct sd_store_meta *meta, size_t meta_count,
                 const struct sd_model_init_watch *watch, struct sd_err *err);

/* Under keep_nan: how many values of what was written are not finite. */
uint64_t sd_mix_not_finite(const struct sd_mix *m);

#endif
