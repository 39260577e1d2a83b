#include "tensor/frozen.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct sd_frozen_entry {
    struct sd_frozen_entry *next;
    const struct sd_var *var;
    enum sd_dtype dtype;
    void *data;
};

int64_t sd_var_count(const struct sd_var *var)
{
    int64_t n = 1;
    for (int i = 0; i < var->ndim; i++)
        n *= var->dim[i];
    return n;
}

void sd_var_drop_pages(const struct sd_var *var)
{
    if (!var->mapped)
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)var->data;
    uintptr_t to = from + (size_t)sd_var_count(var) * sd_dtype_size(var->dtype);
    from = (from + page - 1) & ~(page - 1); /* pages shared with neighbours stay */
    to &= ~(page - 1);
    if (to > from)
        madvise((void *)from, to - from, MADV_DONTNEED);
}

const void *sd_frozen_get(struct sd_frozen *f, const struct sd_var *var, enum sd_dtype dtype,
                          struct sd_err *err)
{
    if (var->dtype == dtype)
        return var->data;
    for (struct sd_frozen_entry *e = f->list; e; e = e->next)
        if (e->var == var && e->dtype == dtype)
            return e->data;
    size_t n = (size_t)sd_var_count(var), bytes = (n * sd_dtype_size(dtype) + 63) & ~(size_t)63;
    struct sd_frozen_entry *e = malloc(sizeof *e);
    void *data = aligned_alloc(64, bytes);
    if (!e || !data) {
        sd_err_memory(err, bytes);
        goto fail;
    }
    if (sd_dtype_convert(data, dtype, var->data, var->dtype, n)) {
        sd_err_set(err, SD_ERR_DATA, "%s: %s weights cannot be used as %s", var->name,
                   sd_dtype_name(var->dtype), sd_dtype_name(dtype));
        goto fail;
    }
    sd_var_drop_pages(var);
    *e = (struct sd_frozen_entry){.next = f->list, .var = var, .dtype = dtype, .data = data};
    f->list = e;
    f->bytes += bytes;
    return data;
fail:
    free(e);
    free(data);
    return NULL;
}

void sd_frozen_free(struct sd_frozen *f)
{
    for (struct sd_frozen_entry *e = f->list, *next; e; e = next) {
        next = e->next;
        free(e->data);
        free(e);
    }
    *f = (struct sd_frozen){0};
}
