#include "store/emit.h"

#include <string.h>

#include "base/json.h"

int sd_store_check(const struct sd_store_tensor *t, struct sd_err *err)
{
    if (!sd_utf8_valid(t->name, strlen(t->name)))
        return sd_err_set(err, SD_ERR_DATA, "tensor name \"%.100s\" is not UTF-8", t->name);
    if (sd_store_bytes(t->dtype, t->ndim, t->shape) < 0)
        return sd_err_set(err, SD_ERR_DATA, "tensor \"%.100s\": impossible shape", t->name);
    return 0;
}

int sd_store_emit(const struct sd_store_tensor *t, unsigned char *chunk, sd_store_sink *sink, void *ctx,
                  struct sd_err *err)
{
    uint64_t total = (uint64_t)sd_store_bytes(t->dtype, t->ndim, t->shape);
    if (total && !t->data && !t->fill)
        return sd_err_set(err, SD_ERR_DATA, "tensor \"%.100s\" has no data", t->name);
    for (uint64_t at = 0; at < total;) {
        size_t n = total - at < SD_STORE_CHUNK ? (size_t)(total - at) : SD_STORE_CHUNK;
        if (!t->data && t->fill(t->ctx, at, chunk, n, err))
            return -1;
        if (sink(ctx, t->data ? (const unsigned char *)t->data + at : chunk, n, err))
            return -1;
        at += n;
    }
    return 0;
}
