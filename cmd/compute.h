/* What the programs that compute share: the start, and the backend that --device and -j ask for. */
#ifndef CMD_COMPUTE_H
#define CMD_COMPUTE_H

#include "cmd.h"

#include "tensor/backend.h"

/* cmd_start for programs that compute: to be called first thing in main. */
void cmd_start_computing(struct sd_cmd *c, int *argc, char **argv);

/* Never returns NULL: without the device the program ends with status 3. */
struct sd_backend *cmd_backend(struct sd_cmd *c);

/* The type of --mixed-precision no|bf16|fp16, the last where a card computes. */
enum sd_dtype cmd_precision(struct sd_cmd *c, const char *name);

#endif
