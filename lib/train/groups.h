/* The parameter groups of a LoRA: who learns at which rate, under sd-scripts' names ("textencoder", "unet",
 * "unet_block7", each with " plus" for up matrices that have a rate of their own). */
#ifndef SD_TRAIN_GROUPS_H
#define SD_TRAIN_GROUPS_H

#include "adapter/network_args.h"
#include "optim/optimizer.h"

enum { SD_TRAIN_GROUPS = 2 * (SD_UNET_BLOCKS + 1) };

struct sd_train_groups {
    struct sd_optim_group group[SD_TRAIN_GROUPS]; /* their names lie below: copy no struct of these */
    char name[SD_TRAIN_GROUPS][32];
    int n;
    struct sd_var **vars; /* owned; what is trained */
    int *group_of;        /* owned; of each variable */
    int n_vars;
};

/* In sd-scripts' order. args may be NULL; text_rate and unet_rate are the rates of the parts. What would
 * learn at a rate of 0 is in no group and stays as it is. -1: out of memory; g can be freed all the same. */
int sd_train_groups_make(struct sd_train_groups *g, struct sd_lora *lora, const struct sd_network_args *args,
                         double text_rate, double unet_rate, struct sd_err *err);
void sd_train_groups_free(struct sd_train_groups *g);

#endif
