/* matmul through oneDNN, or through our own AMX kernel where that is faster (gemm_amx.h).
 *
 * Frozen weights are packed once where a graph only runs forward. A training graph multiplies by the same
 * weight both ways, which would need two packed copies; it uses the plain weights (for a file of the right
 * type: the mapped file itself), and oneDNN copies panels as it goes. Measured cost: about 20 % of the
 * products, against 0.65 GB for SD1. */
#include "tensor/cpu/dnnl.h"
#include "tensor/cpu/gemm_amx.h"
#include "tensor/cpu/kernels.h"

#include <string.h>

enum { ARG_SRC, ARG_WEIGHTS, ARG_DST, ARG_BIAS }; /* offsets after the scratchpad */

struct shape {
    dnnl_dim_t m, n, k;
};

static struct shape shape_of(const struct sd_node *node)
{
    const struct sd_tensor *y = node->out[0], *a = node->in[0];
    struct shape s = {.n = y->dim[y->ndim - 1]};
    s.m = sd_tensor_count(y) / s.n;
    s.k = sd_tensor_count(a) / s.m;
    return s;
}

/* A matrix [rows, cols], stored as such or transposed. */
static dnnl_memory_desc_t matrix(dnnl_dim_t rows, dnnl_dim_t cols, dnnl_data_type_t type, bool transposed)
{
    dnnl_memory_desc_t md;
    dnnl_memory_desc_init_by_strides(&md, 2, (dnnl_dims_t){rows, cols}, type,
                                     transposed ? (dnnl_dims_t){1, rows} : (dnnl_dims_t){cols, 1});
    return md;
}

static dnnl_memory_desc_t any_layout(const dnnl_memory_desc_t *md)
{
    dnnl_memory_desc_t any;
    dnnl_memory_desc_init_by_tag(&any, md->ndims, md->dims, md->data_type, dnnl_format_tag_any);
    return any;
}

static int plan_dnnl(struct sd_call *c, struct sd_err *err)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    const struct sd_node *node = c->node;
    struct shape s = shape_of(node);
    enum sd_dtype type = node->in[0]->dtype;
    struct sd_var *frozen = c->graph->n_forward < 0 ? sd_frozen_var(node->in[1]) : NULL;
    dnnl_memory_desc_t a = matrix(s.m, s.k, sd_dnnl_type(type), node->attr.trans_a);
    dnnl_memory_desc_t plain = matrix(s.k, s.n, sd_dnnl_type(type), node->attr.trans_b), b = plain;
    dnnl_memory_desc_t y = matrix(s.m, s.n, sd_dnnl_type(node->out[0]->dtype), false);
    dnnl_memory_desc_t bias = matrix(1, s.n, dnnl_f32, false);
    if (frozen)
        b = any_layout(&plain);
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    if (sd_dnnl_attr(&attr, node->attr.scale, node->in[3] != NULL, err))
        return -1;
    dnnl_status_t st = dnnl_matmul_desc_init(&desc, &a, &b, node->in[2] ? &bias : NULL, &y);
    if (!st)
        st = dnnl_primitive_desc_create(&pd, &desc, attr, cpu->engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    if (sd_dnnl_status(err, st, "matmul"))
        return -1;
    b = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    struct sd_dnnl *d = sd_dnnl_new(c, pd, err);
    if (!d || sd_dnnl_arg(c, d, DNNL_ARG_SRC, &a, err) < 0 ||
        sd_dnnl_arg(c, d, DNNL_ARG_WEIGHTS, &b, err) < 0 || sd_dnnl_arg(c, d, DNNL_ARG_DST, &y, err) < 0 ||
        (node->in[2] && sd_dnnl_arg(c, d, DNNL_ARG_BIAS, &bias, err) < 0))
        return -1;
    if (frozen) {
        const void *data = sd_dnnl_packed(cpu, frozen, type, &plain, &b, err);
        if (!data)
            return -1;
        sd_dnnl_set(d, d->scratch + 1 + ARG_WEIGHTS, data);
        c->in_unused[1] = true;
    }
    if (node->in[2] &&
        node->attr.scale != 1) /* oneDNN scales the bias too: a copy divided by it lies in front */
        c->scratch_bytes += ((size_t)s.n * sizeof(float) + 63) & ~(size_t)63;
    return 0;
}

static const void *unscaled_bias(const struct sd_call *c, int64_t n)
{
    float *copy = c->scratch;
    for (int64_t i = 0; i < n; i++)
        copy[i] = ((const float *)c->in[2])[i] / c->node->attr.scale;
    return copy;
}

static void run_dnnl(const struct sd_call *c)
{
    struct sd_dnnl *d = c->state;
    int first = d->scratch + 1;
    const struct sd_tensor *y = c->node->out[0];
    struct sd_call inner = *c;
    if (c->in[3] && c->in[3] != c->out[0])
        memcpy(c->out[0], c->in[3], sd_tensor_bytes(y));
    sd_dnnl_set(d, first + ARG_SRC, c->in[0]);
    if (!c->in_unused[1])
        sd_dnnl_set(d, first + ARG_WEIGHTS, c->in[1]);
    sd_dnnl_set(d, first + ARG_DST, c->out[0]);
    if (c->in[2]) {
        const void *bias = c->in[2];
        if (c->node->attr.scale != 1) {
            int64_t n = y->dim[y->ndim - 1];
            bias = unscaled_bias(c, n);
            inner.scratch = (char *)c->scratch + (((size_t)n * sizeof(float) + 63) & ~(size_t)63);
        }
        sd_dnnl_set(d, first + ARG_BIAS, bias);
    }
    sd_dnnl_run(&inner, d);
}

/* The node as our own kernel takes it. */
static struct sd_gemm gemm_of(const struct sd_node *node)
{
    struct shape s = shape_of(node);
    return (struct sd_gemm){.m = s.m,
                            .n = s.n,
                            .k = s.k,
                            .trans_a = node->attr.trans_a,
                            .trans_b = node->attr.trans_b,
                            .y_f32 = node->out[0]->dtype == SD_F32,
                            .scale = node->attr.scale};
}

/* A call of ours has no state. */
static int plan(struct sd_call *c, struct sd_err *err)
{
    struct sd_gemm gemm = gemm_of(c->node);
    bool amx = ((const struct sd_cpu *)c->backend)->amx,
         packed = c->graph->n_forward < 0 && sd_frozen_var(c->node->in[1]);
    if (c->node->in[0]->dtype != SD_BF16 || !amx || packed || !sd_gemm_fits(&gemm))
        return plan_dnnl(c, err);
    c->scratch_bytes = sd_gemm_scratch(&gemm);
    return 0;
}

static void run(const struct sd_call *c)
{
    if (c->state) {
        run_dnnl(c);
        return;
    }
    struct sd_gemm gemm = gemm_of(c->node);
    sd_gemm_run(&gemm, c->in[0], c->in[1], c->in[2], c->in[3], c->out[0], c->scratch);
}

const struct sd_kernel sd_cpu_matmul = {plan, run, sd_dnnl_drop};
