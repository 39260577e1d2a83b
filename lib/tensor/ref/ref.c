#include "tensor/ref/ref.h"

#include "tensor/frozen.h"

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
    [SD_OP_mul] = &sd_ref_mul,
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
    [SD_OP_randn] = &sd_ref_randn,
    [SD_OP_noise_offset] = &sd_ref_noise_offset,
    [SD_OP_noise_levels] = &sd_ref_noise_levels,
    [SD_OP_mix] = &sd_ref_mix,
    [SD_OP_combine] = &sd_ref_combine,
    [SD_OP_loss] = &sd_ref_loss,
    [SD_OP_loss_bwd] = &sd_ref_loss_bwd,
    [SD_OP_assign] = &sd_ref_assign,
    [SD_OP_accumulate] = &sd_ref_accumulate,
    [SD_OP_clip] = &sd_ref_clip,
    [SD_OP_step] = &sd_ref_step,
    [SD_OP_adafactor] = &sd_ref_adafactor,
    [SD_OP_adapt_step] = &sd_ref_adapt_step,
    [SD_OP_adapt] = &sd_ref_adapt,
    [SD_OP_loss_scale] = &sd_ref_loss_scale,
    [SD_OP_ema] = &sd_ref_ema,
};

struct ref {
    struct sd_backend base;
    struct sd_frozen frozen;
};

static const void *frozen(struct sd_backend *b, struct sd_var *var, enum sd_dtype dtype, struct sd_err *err)
{
    return sd_frozen_get(&((struct ref *)b)->frozen, var, dtype, err);
}

static size_t frozen_bytes(const struct sd_backend *b)
{
    return ((const struct ref *)b)->frozen.bytes;
}

static void ref_free(struct sd_backend *b)
{
    sd_frozen_free(&((struct ref *)b)->frozen);
    free(b);
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
