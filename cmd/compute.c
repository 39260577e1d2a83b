#include "compute.h"

#include <omp.h>
#include <string.h>

struct sd_backend *cmd_backend(struct sd_cmd *c)
{
    struct sd_err err = {0};
    omp_set_num_threads(c->common.jobs);
    struct sd_backend *b = sd_backend_new(c->common.device == SD_DEVICE_CUDA ? "cuda" : "cpu", &err);
    if (!b)
        cmd_die(c, &err);
    return b;
}

enum sd_dtype cmd_precision(const struct sd_cmd *c, const char *name)
{
    if (!strcmp(name, "fp16"))
        cmd_usage(c, "fp16 is not computed on a CPU; use bf16 or no");
    return !strcmp(name, "bf16") ? SD_BF16 : SD_F32;
}
