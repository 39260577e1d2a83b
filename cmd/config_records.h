/* The records a configuration means: one for each picture of each subset. Part of sd-config. */
#ifndef CONFIG_RECORDS_H
#define CONFIG_RECORDS_H

#include "data/config.h"
#include "many.h"

/* Looks whether what the configuration names is there: folders, metadata files, masks. A missing folder is
 * reported, and its subset dropped; what else is missing ends the program. */
void config_look(struct sd_cmd *c, struct sd_config *config);

/* Writes the records. seed chooses the pictures for validation where there is no validation_seed. Returns how
 * many records there were. */
uint64_t config_write(struct sd_cmd *c, const struct sd_config *config, int64_t seed);

#endif
