#include "tensor/ref/ref.h"

#include <stdlib.h>

/* Empty rows are never executed: input and var are memory already, reshape shares its input's. */
const struct sd_kernel *const sd_ref_kernels[SD_OP_COUNT] = {
    [SD_OP_fill] = &sd_ref_fill,
    [SD_OP_cast] = &sd_ref_cast,
    [SD_OP_concat] = &sd_ref_concat,
    [SD_OP_slice] = &sd_ref_slice,
    [SD_OP_pad_channels] = &sd_ref_pad_channels,
    [SD_OP_upsample] = &sd_ref_upsample,
    [SD_OP_upsample_bwd] = &sd_ref_upsample_bwd,
    [SD_OP_add] = &sd_ref_add,
    [SD_OP_scale] = &sd_ref_scale,
    [SD_OP_act] = &sd_ref_act,
    [SD_OP_act_bwd] = &sd_ref_act_bwd,
    [SD_OP_geglu] = &sd_ref_geglu,
    [SD_OP_geglu_bwd] = &sd_ref_geglu_bwd,
    [SD_OP_reduce_to] = &sd_ref_reduce_to,
    [SD_OP_matmul] = &sd_ref_matmul,
    [SD_OP_conv2d] = &sd_ref_conv2d,
    [SD_OP_conv2d_dx] = &sd_ref_conv2d_dx,
    [SD_OP_conv2d_dw] = &sd_ref_conv2d_dw,
    [SD_OP_group_norm] = &sd_ref_group_norm,
    [SD_OP_group_norm_bwd] = &sd_ref_group_norm_bwd,
    [SD_OP_layer_norm] = &sd_ref_layer_norm,
    [SD_OP_layer_norm_bwd] = &sd_ref_layer_norm_bwd,
    [SD_OP_attention] = &sd_ref_attention,
    [SD_OP_attention_bwd] = &sd_ref_attention_bwd,
    [SD_OP_embedding] = &sd_ref_embedding,
    [SD_OP_embedding_bwd] = &sd_ref_embedding_bwd,
    [SD_OP_timestep_embedding] = &sd_ref_timestep_embedding,
    [SD_OP_mix] = &sd_ref_mix,
    [SD_OP_mse] = &sd_ref_mse,
    [SD_OP_mse_bwd] = &sd_ref_mse_bwd,
    [SD_OP_accumulate] = &sd_ref_accumulate,
    [SD_OP_clip] = &sd_ref_clip,
    [SD_OP_adamw] = &sd_ref_adamw,
};

/* A frozen variable converted to another type than it is stored in. */
struct copy {
    struct copy *next;
    const struct sd_var *var;
    enum sd_dtype dtype;
    size_t bytes;
    void *data;
};

struct ref {
    struct sd_backend base;
    struct copy *copies;
};

static const void *frozen(struct sd_backend *b, struct sd_var *var, enum sd_dtype dtype, struct sd_err *err)
{
    struct ref *ref = (struct ref *)b;
    if (var->dtype == dtype)
        return var->data;
    for (struct copy *c = ref->copies; c; c = c->next)
        if (c->var == var && c->dtype == dtype)
            return c->data;
    size_t n = 1;
    for (int i = 0; i < var->ndim; i++)
        n *= (size_t)var->dim[i];
    struct copy *c = malloc(sizeof *c);
    void *data = malloc(n * sd_dtype_size(dtype) + 1);
    if (!c || !data) {
        sd_err_memory(err, n * sd_dtype_size(dtype));
        goto fail;
    }
    if (sd_dtype_convert(data, dtype, var->data, var->dtype, n)) {
        sd_err_set(err, SD_ERR_DATA, "%s: no conversion from %s to %s", var->name, sd_dtype_name(var->dtype),
                   sd_dtype_name(dtype));
        goto fail;
    }
    *c = (struct copy){ref->copies, var, dtype, n * sd_dtype_size(dtype), data};
    ref->copies = c;
    return data;
fail:
    free(c);
    free(data);
    return NULL;
}

static size_t frozen_bytes(const struct sd_backend *b)
{
    size_t sum = 0;
    for (const struct copy *c = ((const struct ref *)b)->copies; c; c = c->next)
        sum += c->bytes;
    return sum;
}

static void ref_free(struct sd_backend *b)
{
    struct ref *ref = (struct ref *)b;
    for (struct copy *c = ref->copies, *next; c; c = next) {
        next = c->next;
        free(c->data);
        free(c);
    }
    free(ref);
}

struct sd_backend *sd_ref_backend_new(struct sd_err *err)
{
    struct ref *ref = calloc(1, sizeof *ref);
    if (!ref) {
        sd_err_memory(err, sizeof *ref);
        return NULL;
    }
    ref->base = (struct sd_backend){
        .name = "ref",
        .kernel = sd_ref_kernels,
        .free = ref_free,
        .frozen = frozen,
        .frozen_bytes = frozen_bytes,
    };
    return &ref->base;
}
