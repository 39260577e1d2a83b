#include "adapter/lora_out.h"

#include <math.h>
#include <string.h>

int sd_lora_out_init(struct sd_lora_out *o, size_t max, struct sd_err *err)
{
    *o = (struct sd_lora_out){.max = max};
    o->tensors = sd_arena_array(&o->arena, max + 1, sizeof *o->tensors);
    return o->tensors ? 0 : sd_err_memory(err, max * sizeof *o->tensors);
}

void sd_lora_out_free(struct sd_lora_out *o)
{
    sd_arena_free(&o->arena);
    *o = (struct sd_lora_out){0};
}

int sd_lora_out_add(struct sd_lora_out *o, const char *name, const float *values, int ndim,
                    const int64_t *shape, enum sd_store_dtype dtype, struct sd_err *err)
{
    int64_t bytes = sd_store_bytes(dtype, ndim, shape);
    if (bytes < 0 || o->count == o->max)
        return sd_err_set(err, SD_ERR_DATA, "%s: too large", name);
    int64_t *kept = sd_arena_array(&o->arena, (size_t)ndim, sizeof *kept);
    char *kept_name = sd_arena_strdup(&o->arena, name);
    void *data = sd_arena_alloc(&o->arena, (size_t)bytes);
    if (!kept || !kept_name || !data)
        return sd_err_memory(err, (size_t)bytes);
    if (ndim)
        memcpy(kept, shape, (size_t)ndim * sizeof *kept);
    if (sd_store_from_f32(dtype, values, (size_t)bytes / sd_store_dtype_bytes(dtype), data))
        return sd_err_set(err, SD_ERR_USAGE, "a LoRA cannot be saved as %s", sd_store_dtype_name(dtype));
    o->tensors[o->count++] = (struct sd_store_tensor){
        .name = kept_name, .dtype = dtype, .ndim = ndim, .shape = kept, .data = data};
    return 0;
}

int sd_lora_out_module(struct sd_lora_out *o, const char *name, const struct sd_lora_shape *s, float alpha,
                       const float *down, const float *up, enum sd_store_dtype dtype, struct sd_err *err)
{
    int ndim = s->conv ? 4 : 2;
    const char *a = sd_arena_printf(&o->arena, "%s.alpha", name);
    const char *d = sd_arena_printf(&o->arena, "%s%s", name, sd_lora_down_ending(s->spelling));
    const char *u = sd_arena_printf(&o->arena, "%s%s", name, sd_lora_up_ending(s->spelling));
    if (!a || !d || !u)
        return sd_err_memory(err, strlen(name) + 32);
    if ((!isnan(alpha) && sd_lora_out_add(o, a, &alpha, 0, NULL, dtype, err)) ||
        sd_lora_out_add(o, d, down, ndim, (int64_t[4]){s->rank, s->in, s->kernel, s->kernel}, dtype, err))
        return -1;
    return sd_lora_out_add(o, u, up, ndim, (int64_t[4]){s->out, s->rank, 1, 1}, dtype, err);
}

int sd_lora_out_write(struct sd_lora_out *o, const char *path, const struct sd_store_meta *meta,
                      size_t meta_count, struct sd_err *err)
{
    char model_hash[65], legacy_hash[9];
    struct sd_store_meta *all = sd_arena_array(&o->arena, meta_count + 2, sizeof *all);
    size_t n = 0;
    if (!all)
        return sd_err_memory(err, meta_count * sizeof *all);
    for (size_t i = 0; i < meta_count; i++) /* of a file that was worked on, they are another file's */
        if (strcmp(meta[i].key, "sshs_model_hash") && strcmp(meta[i].key, "sshs_legacy_hash"))
            all[n++] = meta[i];
    if (sd_store_hash(o->tensors, o->count, all, n, model_hash, legacy_hash, err))
        return -1;
    all[n++] = (struct sd_store_meta){"sshs_model_hash", model_hash};
    all[n++] = (struct sd_store_meta){"sshs_legacy_hash", legacy_hash};
    return sd_store_write(path, o->tensors, o->count, all, n, err);
}
