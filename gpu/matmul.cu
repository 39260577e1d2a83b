/* matmul: one product of gemm.h. */
#include "gemm.h"

#include <stdlib.h>

namespace
{

struct state {
    sd_cuda_gemm_plan gemm;
    sd_cuda_bias bias;
};

/* b counts as [N,K] or [K,N] whatever its dimensions (1x1 filters): k is what is left. */
sd_cuda_gemm gemm_of(const sd_node *node)
{
    const sd_tensor *y = node->out[0], *a = node->in[0], *b = node->in[1];
    int64_t n = y->dim[y->ndim - 1], m = n ? sd_tensor_count(y) / n : 0;
    int64_t k = m ? sd_tensor_count(a) / m : n ? sd_tensor_count(b) / n : 0;
    sd_cuda_gemm g = sd_cuda_gemm_dense(m, n, k, node->attr.trans_a, node->attr.trans_b, a->dtype, y->dtype);
    g.scale = node->attr.scale;
    g.bias = node->in[2] != NULL;
    g.acc = node->in[3] != NULL;
    return g;
}

int plan(sd_call *c, sd_err *err)
{
    const sd_node *n = c->node;
    if (sd_cuda_make_state(c, sizeof(state), err))
        return -1;
    state *s = static_cast<state *>(c->state);
    sd_cuda_gemm g = gemm_of(n);
    if (sd_cuda_bias_plan(c, 2, g.out, &s->bias, err))
        return -1;
    g.bias_type = s->bias.type;
    if (sd_cuda_gemm_prepare(sd_cuda_of(c), &g, &s->gemm, err))
        return -1;
    c->scratch_bytes = s->gemm.scratch_bytes;
    return 0;
}

void run(const sd_call *c)
{
    const state *s = static_cast<const state *>(c->state);
    sd_cuda_gemm_run(sd_cuda_of(c), &s->gemm, c->in[0], c->in[1], s->bias.frozen ? s->bias.frozen : c->in[2],
                     c->in[3], c->out[0], c->scratch);
}

} // namespace

extern "C" {
const struct sd_kernel sd_cuda_matmul = {.plan = plan, .run = run, .drop = sd_cuda_drop_state};
}
