/* The weights of a model with networks added to them, for networks that cannot run beside their layers, and
 * for those that training shall take as given.
 *
 *     sd_merged_new(&m, sd_model_file_find, model, parts, n, &err)
 *     sd_weights_new(sd_merged_find, m, &err)
 *
 * A changed layer is held in memory as f32; the others stay where they were. */
#ifndef SD_ADAPTER_MERGED_H
#define SD_ADAPTER_MERGED_H

#include "adapter/network_layers.h"
#include "model/weights.h"

struct sd_merge_part {
    struct sd_network network; /* related to the model; read by sd_merged_new only */
    float multiplier;
};

struct sd_merged;

/* Adds the parts in their order. find must know each weight that a part changes. On failure *m is NULL. */
int sd_merged_new(struct sd_merged **m, sd_weights_find *find, void *ctx, const struct sd_merge_part *parts,
                  size_t count, struct sd_err *err);
void sd_merged_free(struct sd_merged *m); /* takes NULL */

/* Changed weights, and what find gives for all else; its ctx is the struct sd_merged. */
sd_weights_find sd_merged_find;

/* How many layers were changed, and the memory they take. */
size_t sd_merged_count(const struct sd_merged *m);
size_t sd_merged_bytes(const struct sd_merged *m);

#endif
