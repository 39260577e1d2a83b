/* What the programs that take adapter networks share. */
#ifndef CMD_NETWORKS_H
#define CMD_NETWORKS_H

#include "adapter/merged.h"
#include "cmd.h"
#include "model/model_file.h"

/* Opens a network for a model. Ends the program where nothing of it fits; warns of keys that belong to no
 * layer, which strict makes an end too. */
void cmd_network(struct sd_cmd *c, const char *path, const struct sd_model_config *config, bool strict,
                 struct sd_network *network);

/* The model's weights with the parts added; says what that takes and closes the parts' networks. NULL without
 * parts. */
struct sd_merged *cmd_merged(struct sd_cmd *c, struct sd_model_file *model, struct sd_merge_part *parts,
                             size_t n);

#endif
