/* The parameters of a model: variables by canonical name (diffusers' names under unet., vae., text_encoder.),
 * their values lying in a mapped model file.
 *
 *     struct sd_weights *w = sd_weights_new(find, file, &err);
 *     sd_nn_init(&b, g, SD_BF16, sd_weights_param, w);
 *     sd_unet(&b, ...);                                    // declares, and finds the values of, unet.*
 *     if (sd_weights_check(w, path, &err)) ...             // anything missing or misshapen?
 *
 * One store serves any number of graphs and backends: a name has one variable, which backends pack once.
 * Without find it is a declaration: the names and shapes that a walk asks for, in that order. */
#ifndef SD_MODEL_WEIGHTS_H
#define SD_MODEL_WEIGHTS_H

#include <stdbool.h>

#include "nn/nn.h"
#include "store/dtype.h"

struct sd_weights;

/* Fills *entry with the tensor of that canonical name and returns true, or returns false. The data must stay
 * valid as long as the store; no alignment is asked for. */
typedef bool sd_weights_find(void *ctx, const char *name, struct sd_store_entry *entry);

/* find may be NULL. NULL on failure. */
struct sd_weights *sd_weights_new(sd_weights_find *find, void *ctx, struct sd_err *err);
void sd_weights_free(
    struct sd_weights *w); /* takes NULL; ends the variables, so plans that use them go first */

/* For sd_nn_init, with the store as ctx. A tensor that is missing or misshapen gives a variable without data
 * and is noted; so a whole model is walked before sd_weights_check tells. Shapes may differ by trailing ones.
 */
sd_nn_param sd_weights_param;

/* 0, or -1 with the first few missing and misshapen tensors; path names the file in the message. */
int sd_weights_check(const struct sd_weights *w, const char *path, struct sd_err *err);

/* Variables in the order of their declaration. */
size_t sd_weights_count(const struct sd_weights *w);
struct sd_var *sd_weights_var(const struct sd_weights *w, size_t i);

#endif
