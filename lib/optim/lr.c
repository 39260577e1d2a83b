#include "optim/lr.h"

#include <math.h>
#include <string.h>

#define MAX_WARMUP 1e15

int sd_lr_init(struct sd_lr *lr, const char *name, double warmup, int64_t total, struct sd_err *err)
{
    static const char *const names[] = {
        [SD_LR_CONSTANT] = "constant", [SD_LR_CONSTANT_WITH_WARMUP] = "constant_with_warmup"};
    int kind = -1;
    for (int i = 0; i < 2; i++)
        if (!strcmp(name, names[i]))
            kind = i;
    if (kind < 0)
        return sd_err_set(err, SD_ERR_USAGE,
                          "there is no learning-rate schedule \"%s\": constant, constant_with_warmup", name);
    if (!(warmup >= 0 && warmup <= MAX_WARMUP) || (warmup >= 1 && warmup != floor(warmup)))
        return sd_err_set(err, SD_ERR_USAGE, "a warm-up is a number of steps, or a share below 1; not %g",
                          warmup);
    *lr = (struct sd_lr){.kind = (enum sd_lr_kind)kind};
    lr->warmup = warmup < 1 ? (int64_t)(warmup * (double)total) : (int64_t)warmup;
    if (lr->kind == SD_LR_CONSTANT && lr->warmup)
        return sd_err_set(err, SD_ERR_USAGE,
                          "the constant schedule has no warm-up; use constant_with_warmup");
    return 0;
}

double sd_lr_factor(const struct sd_lr *lr, int64_t update)
{
    return update < lr->warmup ? (double)update / (double)lr->warmup : 1;
}
