/* What the programs that compute share: the start, and the backend that --device and -j ask for. */
#ifndef CMD_COMPUTE_H
#define CMD_COMPUTE_H

#include "cmd.h"

#include "tensor/backend.h"

/* A row of the option tables of programs that compute; p is a bool *. */
#define CMD_OPT_TF32(p)                                                                     \
    {                                                                                       \
        SD_OPT_BOOL("allow-tf32", 0, p,                                                     \
                    "on cards, round the factors of f32 products to TF32: faster, coarser") \
    }

/* cmd_start for programs that compute: to be called first thing in main. */
void cmd_start_computing(struct sd_cmd *c, int *argc, char **argv);

/* The backend of --device, and of --allow-tf32. Never returns NULL: without the device the program ends with
 * status 3. */
struct sd_backend *cmd_backend(struct sd_cmd *c, bool tf32);

/* The type of --mixed-precision no|bf16|fp16, the last where a card computes. */
enum sd_dtype cmd_precision(struct sd_cmd *c, const char *name);

#endif
