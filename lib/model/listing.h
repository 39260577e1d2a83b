/* The tensors of a file or diffusers folder under names that can be compared with those of another one. */
#ifndef SD_MODEL_LISTING_H
#define SD_MODEL_LISTING_H

#include "base/arena.h"
#include "model/model_file.h"

/* Private but for entries and count. Entries are sorted by name and owned by the listing, their data by the
 * mapped files or, where a file does not hold a tensor as it is (compressed, strided), NULL: sd_listing_load.
 */
struct sd_listing {
    struct sd_store_entry *entries;
    size_t count;
    struct sd_model_file *model;
    struct sd_tensor_file *file;
    struct sd_arena arena;
};

/* By the model's parameters: the names of model/names.h, whatever the layout; three for a tensor that holds
 * q, k and v. What published files carry beside the parameters and nobody needs is left out; other tensors
 * (an EMA) keep the names of their file. Fails when path is no Stable Diffusion model. */
int sd_listing_parameters(struct sd_listing *l, const char *path, struct sd_err *err);

/* Every tensor of one file under its own name. */
int sd_listing_file(struct sd_listing *l, const char *path, struct sd_err *err);

/* Copies one of the entries, with its data read into *memory where it has none; *memory is for free(). Safe
 * from several threads. */
int sd_listing_load(const struct sd_listing *l, const struct sd_store_entry *e, struct sd_store_entry *out,
                    void **memory, struct sd_err *err);

/* Buffers of LDM's noise schedule (betas, alphas_cumprod, ...), which follow from two numbers. */
bool sd_key_is_schedule(const char *key);

void sd_listing_close(struct sd_listing *l); /* takes a zeroed struct */

#endif
