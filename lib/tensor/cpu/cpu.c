#include "tensor/cpu/cpu.h"

#include "tensor/cpu/attention.h"
#include "tensor/cpu/dnnl.h"
#include "tensor/cpu/gemm.h"
#include "tensor/cpu/kernels.h"

#include <stdlib.h>

#define KERNEL(name) [SD_OP_##name] = &sd_cpu_##name

/* input, var and reshape never run. */
static const struct sd_kernel *const kernels[SD_OP_COUNT] = {
    KERNEL(fill),
    KERNEL(cast),
    KERNEL(concat),
    KERNEL(slice),
    KERNEL(pad_channels),
    KERNEL(upsample),
    KERNEL(upsample_bwd),
    KERNEL(add),
    KERNEL(mul),
    KERNEL(scale),
    KERNEL(act),
    KERNEL(act_bwd),
    KERNEL(geglu),
    KERNEL(geglu_bwd),
    KERNEL(reduce_to),
    KERNEL(matmul),
    KERNEL(conv2d),
    KERNEL(conv2d_dx),
    KERNEL(conv2d_dw),
    KERNEL(group_norm),
    KERNEL(group_norm_bwd),
    KERNEL(layer_norm),
    KERNEL(layer_norm_bwd),
    KERNEL(attention),
    KERNEL(attention_bwd),
    KERNEL(embedding),
    KERNEL(embedding_bwd),
    KERNEL(timestep_embedding),
    KERNEL(randn),
    KERNEL(noise_offset),
    KERNEL(noise_levels),
    KERNEL(mix),
    KERNEL(combine),
    KERNEL(loss),
    KERNEL(loss_bwd),
    KERNEL(assign),
    KERNEL(accumulate),
    KERNEL(clip),
    KERNEL(step),
    KERNEL(adafactor),
    KERNEL(adapt_step),
    KERNEL(adapt),
    KERNEL(loss_scale),
    KERNEL(ema),
};

static void cpu_free(struct sd_backend *b)
{
    struct sd_cpu *cpu = (struct sd_cpu *)b;
    sd_dnnl_packed_free(cpu);
    sd_frozen_free(&cpu->frozen);
    if (cpu->stream)
        dnnl_stream_destroy(cpu->stream);
    if (cpu->engine)
        dnnl_engine_destroy(cpu->engine);
    free(cpu);
}

static const void *frozen(struct sd_backend *b, struct sd_var *var, enum sd_dtype dtype, struct sd_err *err)
{
    return sd_frozen_get(&((struct sd_cpu *)b)->frozen, var, dtype, err);
}

static size_t frozen_bytes(const struct sd_backend *b)
{
    const struct sd_cpu *cpu = (const struct sd_cpu *)b;
    return cpu->frozen.bytes + cpu->packed_bytes;
}

struct sd_backend *sd_cpu_backend_new(struct sd_err *err)
{
#ifdef __SANITIZE_ADDRESS__
    /* While oneDNN 2.6 makes some AMX convolutions it reads one element past the end of a vector of its own,
     * and does not use it. With this allocator the memory may end there. It takes effect only before oneDNN's
     * first other call. */
    dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
#endif
    struct sd_cpu *cpu = calloc(1, sizeof *cpu);
    if (!cpu) {
        sd_err_memory(err, sizeof *cpu);
        return NULL;
    }
    cpu->base = (struct sd_backend){
        .name = "cpu", .kernel = kernels, .free = cpu_free, .frozen = frozen, .frozen_bytes = frozen_bytes};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        enum sd_isa isa = sd_isa_best(bf16);
        cpu->attention[bf16] = sd_attn_kernels(isa);
        cpu->gemm[bf16] = sd_gemm_kernels(isa);
    }
    dnnl_status_t st = dnnl_engine_create(&cpu->engine, dnnl_cpu, 0);
    if (!st)
        st = dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags);
    if (sd_dnnl_status(err, st, "the cpu backend")) {
        cpu_free(&cpu->base);
        return NULL;
    }
    return &cpu->base;
}
