/* Learning-rate schedules (sd-scripts' --lr_scheduler). A schedule is a factor on each group's rate. */
#ifndef SD_OPTIM_LR_H
#define SD_OPTIM_LR_H

#include "base/err.h"

#include <stdint.h>

enum sd_lr_kind { SD_LR_CONSTANT, SD_LR_CONSTANT_WITH_WARMUP };

struct sd_lr {
    enum sd_lr_kind kind;
    int64_t warmup; /* updates until the factor is 1; it starts at 0 */
};

/* name as sd-scripts spells it: constant, constant_with_warmup. warmup is a number of updates, or below 1 a
 * share of total. constant takes no warm-up. */
int sd_lr_init(struct sd_lr *lr, const char *name, double warmup, int64_t total, struct sd_err *err);

/* The factor at an update, the first being 0. */
double sd_lr_factor(const struct sd_lr *lr, int64_t update);

#endif
