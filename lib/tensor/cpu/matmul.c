/* matmul: the products of gemm.h. */
#include "tensor/cpu/dnnl.h"
#include "tensor/cpu/gemm.h"
#include "tensor/cpu/kernels.h"

static struct sd_gemm gemm_of(const struct sd_node *node)
{
    const struct sd_tensor *y = node->out[0], *a = node->in[0];
    int64_t n = y->dim[y->ndim - 1], m = sd_tensor_count(y) / n;
    return (struct sd_gemm){.m = m,
                            .n = n,
                            .k = sd_tensor_count(a) / m,
                            .trans_a = node->attr.trans_a,
                            .trans_b = node->attr.trans_b,
                            .bf16 = a->dtype == SD_BF16,
                            .y_f32 = y->dtype == SD_F32,
                            .scale = node->attr.scale};
}

static const struct sd_gemm_kernels *kernels(const struct sd_call *c, const struct sd_gemm *g)
{
    return ((const struct sd_cpu *)c->backend)->gemm[g->bf16];
}

/* Frozen weights are packed once where a graph only runs forward; then they are the call's state. A training
 * graph multiplies by the same weights both ways, which would need two packed copies: it reads them as they
 * are, for a file of the right type in the mapped file itself. */
static int plan(struct sd_call *c, struct sd_err *err)
{
    struct sd_gemm g = gemm_of(c->node);
    const struct sd_gemm_kernels *k = kernels(c, &g);
    struct sd_var *frozen = c->graph->n_forward < 0 && k->pack ? sd_frozen_var(c->node->in[1]) : NULL;
    if (frozen) {
        c->state = (void *)sd_gemm_packed((struct sd_cpu *)c->backend, frozen, &g, err);
        if (!c->state)
            return -1;
        c->in_unused[1] = true;
        g.packed_b = true;
    }
    c->scratch_bytes = k->scratch(&g);
    return 0;
}

static void run(const struct sd_call *c)
{
    struct sd_gemm g = gemm_of(c->node);
    g.packed_b = c->state != NULL;
    kernels(c, &g)->run(&g, c->in[0], g.packed_b ? c->state : c->in[1], c->in[2], c->in[3], c->out[0],
                        c->scratch);
}

const struct sd_kernel sd_cpu_matmul = {plan, run, NULL};
