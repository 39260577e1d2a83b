/* What optimizer.c does for the kinds that adapt their step size: the state beside the parameters', nodes,
 * and the rows of their rules (tensor/adapt.h). */
#ifndef SD_OPTIM_ADAPT_H
#define SD_OPTIM_ADAPT_H

#include "optim/optimizer.h"

/* The constants of a kind's adaptation, by its arguments. */
void sd_optim_adaptation(const struct sd_optim_config *c, struct sd_adaptation *how);

/* Checks the groups' rates and makes o->adapted. */
int sd_optim_adapt_init(struct sd_optimizer *o, struct sd_err *err);
/* The nodes of a step, behind o->clip. */
void sd_optim_adapt_build(struct sd_optimizer *o);
/* Before and after a run: rows of hyper with every group's rate times factor; counts and the new step size.
 */
void sd_optim_adapt_prepare(struct sd_optimizer *o, double factor);
void sd_optim_adapt_finish(struct sd_optimizer *o, struct sd_optim_update *did);

#endif
