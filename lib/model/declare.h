/* All layers and parameters of a model, without its values: one walk over its builders. */
#ifndef SD_MODEL_DECLARE_H
#define SD_MODEL_DECLARE_H

#include "model/model_file.h"
#include "model/names.h"
#include "model/weights.h"

/* Declares the parameters of a part (text encoder, U-Net, VAE) in w, in the order of the network; adapt,
 * which may be NULL, sees every layer on the way. w is a store without values, or one that is to be checked
 * as a whole. */
int sd_model_declare(struct sd_weights *w, const struct sd_model_config *c, enum sd_part part,
                     sd_nn_adapt *adapt, void *adapt_ctx, struct sd_err *err);

/* 0 when the file holds the part with exactly the parameters of its configuration; else an error with the
 * first few that are missing, misshapen or left over. Headers only, so it costs nothing to ask first. */
int sd_model_check(struct sd_model_file *mf, enum sd_part part, struct sd_err *err);

/* The same, but what is left over does not matter. */
int sd_model_holds(struct sd_model_file *mf, enum sd_part part, struct sd_err *err);

#endif
