#include "tensor/backend.h"

#include "tensor/cpu/cpu.h"
#include "tensor/plugin.h"
#include "tensor/ref/ref.h"

#include <stdlib.h>
#include <string.h>

/* "cuda", "cuda:1" */
static struct sd_backend *open_cuda(const char *name, struct sd_err *err)
{
    int index = name[4] ? atoi(name + 5) : 0;
    const struct sd_plugin *p = sd_plugin_load("cuda", err);
    return p ? p->open(index, err) : NULL;
}

struct sd_backend *sd_backend_new(const char *name, struct sd_err *err)
{
    if (!strcmp(name, "cpu"))
        return sd_cpu_backend_new(err);
    if (!strcmp(name, "ref"))
        return sd_ref_backend_new(err);
    if (!strncmp(name, "cuda", 4) && (!name[4] || name[4] == ':'))
        return open_cuda(name, err);
    sd_err_set(err, SD_ERR_MACHINE, "there is no %s backend; there are ref, cpu and cuda", name);
    return NULL;
}

void sd_backend_free(struct sd_backend *b)
{
    if (b)
        b->free(b);
}

int sd_var_push(struct sd_backend *b, const struct sd_var *var, struct sd_err *err)
{
    return b->device ? b->device->push(b, var, err) : 0;
}

int sd_var_pull(struct sd_backend *b, const struct sd_var *var, struct sd_err *err)
{
    return b->device ? b->device->pull(b, var, err) : 0;
}

void sd_var_drop(struct sd_backend *b, const struct sd_var *var)
{
    if (b->device)
        b->device->drop(b, var);
}
