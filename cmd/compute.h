/* What the programs that compute share: the backend that --device and -j ask for. */
#ifndef CMD_COMPUTE_H
#define CMD_COMPUTE_H

#include "cmd.h"

#include "tensor/backend.h"

/* Never returns NULL: without the device the program ends with status 3. */
struct sd_backend *cmd_backend(struct sd_cmd *c);

/* The type of --mixed-precision no|bf16. */
enum sd_dtype cmd_precision(const struct sd_cmd *c, const char *name);

#endif
