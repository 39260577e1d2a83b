/* The attention ops on the blocked kernels of attention.h. */
#include "tensor/cpu/attention.h"
#include "tensor/cpu/dnnl.h"
#include "tensor/cpu/kernels.h"

static struct sd_attn dims(const struct sd_node *n, const struct sd_tensor *q, const struct sd_tensor *k)
{
    int64_t c = q->dim[2];
    return (struct sd_attn){.batch = q->dim[0],
                            .heads = n->attr.heads,
                            .q_len = q->dim[1],
                            .k_len = k->dim[1],
                            .head_dim = c / n->attr.heads,
                            .causal = n->attr.causal,
                            .scale = n->attr.scale,
                            .q_stride = c,
                            .k_stride = c,
                            .v_stride = c,
                            .o_stride = c};
}

static const struct sd_attn_kernels *kernels(const struct sd_call *c, bool bf16)
{
    return ((const struct sd_cpu *)c->backend)->attention[bf16];
}

static int plan_forward(struct sd_call *c, struct sd_err *err)
{
    (void)err;
    struct sd_attn a = dims(c->node, c->node->in[0], c->node->in[1]);
    bool bf16 = c->node->in[0]->dtype == SD_BF16;
    c->scratch_bytes = sd_cpu_attn_fwd_scratch(kernels(c, bf16), &a, bf16);
    return 0;
}

static void run_forward(const struct sd_call *c)
{
    struct sd_attn a = dims(c->node, c->node->in[0], c->node->in[1]);
    bool bf16 = c->node->in[0]->dtype == SD_BF16;
    sd_cpu_attn_fwd(kernels(c, bf16), &a, bf16, c->in[0], c->in[1], c->in[2], c->out[0], c->out[1],
                    c->scratch);
}

static int plan_backward(struct sd_call *c, struct sd_err *err)
{
    (void)err;
    struct sd_attn a = dims(c->node, c->node->in[1], c->node->in[2]);
    bool bf16 = c->node->in[1]->dtype == SD_BF16;
    c->scratch_bytes = sd_cpu_attn_bwd_scratch(kernels(c, bf16), &a, bf16);
    return 0;
}

static void run_backward(const struct sd_call *c)
{
    struct sd_attn a = dims(c->node, c->node->in[1], c->node->in[2]);
    bool bf16 = c->node->in[1]->dtype == SD_BF16;
    sd_cpu_attn_bwd(kernels(c, bf16), &a, bf16, c->in[1], c->in[2], c->in[3], c->in[4], c->in[5], c->in[0],
                    c->out[0], c->out[1], c->out[2], c->scratch);
}

const struct sd_kernel sd_cpu_attention = {plan_forward, run_forward, NULL};
const struct sd_kernel sd_cpu_attention_bwd = {plan_backward, run_backward, NULL};
