#include "tensor/backend.h"

#include "tensor/cpu/cpu.h"
#include "tensor/ref/ref.h"

#include <string.h>

struct sd_backend *sd_backend_new(const char *name, struct sd_err *err)
{
    if (!strcmp(name, "cpu"))
        return sd_cpu_backend_new(err);
    if (!strcmp(name, "ref"))
        return sd_ref_backend_new(err);
    sd_err_set(err, SD_ERR_MACHINE, "there is no %s backend here; ref and cpu are built in", name);
    return NULL;
}

void sd_backend_free(struct sd_backend *b)
{
    if (b)
        b->free(b);
}
