/* add, mul, scale, cast, fill, activations, GEGLU: memory-bound, one pass each. */
#include "tensor/cpu/block.h"
#include "tensor/cpu/vmath.h"
#include "tensor/op.h"

/* y = a + scale*b or a*b, in pieces that lie in one row of the broadcast (all of it when nothing is
 * broadcast). */
SD_CPU_CLONES static void pair_chunk(const struct sd_call *c, int64_t from, int64_t to, bool product)
{
    const struct sd_node *node = c->node;
    enum sd_dtype type = node->out[0]->dtype;
    float ba[SD_CPU_BLOCK], bb[SD_CPU_BLOCK], by[SD_CPU_BLOCK], scale = node->attr.scale;
    int64_t outer, mid, inner, n;
    sd_op_broadcast(node->in[0], node->in[1], &outer, &mid, &inner);
    if (mid == 1)
        inner *= outer;
    for (int64_t at = from; at < to; at += n) {
        int64_t col = at % inner;
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), inner - col);
        const float *a = sd_cpu_load(c->in[0], type, at, n, ba);
        const float *b = sd_cpu_load(c->in[1], type, at / (mid * inner) * inner + col, n, bb);
        float *y = sd_cpu_place(c->out[0], type, at, by);
        if (product)
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                y[i] = a[i] * b[i];
        else
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                y[i] = a[i] + scale * b[i];
        sd_cpu_store(c->out[0], type, at, n, y);
    }
}

static void add_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    pair_chunk(c, from, to, false);
}

static void mul_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    pair_chunk(c, from, to, true);
}

static void split_output(const struct sd_call *c, sd_cpu_body *body)
{
    sd_cpu_split(c, sd_tensor_count(c->node->out[0]), SD_CPU_CHUNK, body);
}

static void add(const struct sd_call *c)
{
    split_output(c, add_chunk);
}
const struct sd_kernel sd_cpu_add = {.plan = sd_cpu_plan_floats, .run = add};

static void mul(const struct sd_call *c)
{
    split_output(c, mul_chunk);
}
const struct sd_kernel sd_cpu_mul = {.plan = sd_cpu_plan_floats, .run = mul};

SD_CPU_CLONES static void scale_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    enum sd_dtype type = c->node->out[0]->dtype;
    float bx[SD_CPU_BLOCK], by[SD_CPU_BLOCK], scale = c->node->attr.scale;
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(SD_CPU_BLOCK, to - at);
        const float *x = sd_cpu_load(c->in[0], type, at, n, bx);
        float *y = sd_cpu_place(c->out[0], type, at, by);
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = scale * x[i];
        sd_cpu_store(c->out[0], type, at, n, y);
    }
}

static void scale(const struct sd_call *c)
{
    split_output(c, scale_chunk);
}
const struct sd_kernel sd_cpu_scale = {.plan = sd_cpu_plan_floats, .run = scale};

static void cast_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    enum sd_dtype xt = c->node->in[0]->dtype, yt = c->node->out[0]->dtype;
    float buf[SD_CPU_BLOCK];
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(SD_CPU_BLOCK, to - at);
        float *y = sd_cpu_place(c->out[0], yt, at, buf);
        sd_cpu_store(c->out[0], yt, at, n, sd_cpu_load(c->in[0], xt, at, n, y));
    }
}

static void cast(const struct sd_call *c)
{
    split_output(c, cast_chunk);
}
const struct sd_kernel sd_cpu_cast = {.plan = sd_cpu_plan_floats, .run = cast};

static void fill_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    enum sd_dtype type = c->node->out[0]->dtype;
    float v[SD_CPU_BLOCK];
    for (int i = 0; i < SD_CPU_BLOCK; i++)
        v[i] = c->node->attr.scale;
    for (int64_t at = from; at < to; at += SD_CPU_BLOCK)
        sd_cpu_store(c->out[0], type, at, sd_cpu_min(SD_CPU_BLOCK, to - at), v);
}

static void fill(const struct sd_call *c)
{
    split_output(c, fill_chunk);
}
const struct sd_kernel sd_cpu_fill = {.plan = sd_cpu_plan_floats, .run = fill};

#define MAP(expression)                                                          \
    do {                                                                         \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = (expression); \
    } while (0)

SD_CPU_CLONES static void act_block(enum sd_act act, int64_t n, const float *x, float *y)
{
    if (act == SD_ACT_SILU)
        MAP(vsilu(x[i]));
    else if (act == SD_ACT_GELU)
        MAP(vgelu(x[i]));
    else if (act == SD_ACT_QUICK_GELU)
        MAP(vquick_gelu(x[i]));
    else if (act == SD_ACT_GELU_TANH)
        MAP(vgelu_tanh(x[i]));
    else if (act == SD_ACT_SIGMOID)
        MAP(vlogistic(x[i]));
    else
        MAP(x[i]);
}

static void act_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    enum sd_dtype type = c->node->out[0]->dtype;
    float bx[SD_CPU_BLOCK], by[SD_CPU_BLOCK];
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(SD_CPU_BLOCK, to - at);
        float *y = sd_cpu_place(c->out[0], type, at, by);
        act_block(c->node->attr.act, n, sd_cpu_load(c->in[0], type, at, n, bx), y);
        sd_cpu_store(c->out[0], type, at, n, y);
    }
}

static void act(const struct sd_call *c)
{
    split_output(c, act_chunk);
}
const struct sd_kernel sd_cpu_act = {.plan = sd_cpu_plan_floats, .run = act};

SD_CPU_CLONES static void act_bwd_block(enum sd_act act, int64_t n, const float *dy, const float *x, float *y)
{
    if (act == SD_ACT_SILU)
        MAP(dy[i] * vsilu_slope(x[i]));
    else if (act == SD_ACT_GELU)
        MAP(dy[i] * vgelu_slope(x[i]));
    else if (act == SD_ACT_QUICK_GELU)
        MAP(dy[i] * vquick_gelu_slope(x[i]));
    else if (act == SD_ACT_GELU_TANH)
        MAP(dy[i] * vgelu_tanh_slope(x[i]));
    else if (act == SD_ACT_SIGMOID)
        MAP(dy[i] * vsigmoid(x[i]) * (1 - vsigmoid(x[i])));
    else
        MAP(dy[i]);
}

static void act_bwd_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_node *node = c->node;
    float bd[SD_CPU_BLOCK], bx[SD_CPU_BLOCK], by[SD_CPU_BLOCK];
    for (int64_t at = from, n; at < to; at += n) {
        n = sd_cpu_min(SD_CPU_BLOCK, to - at);
        const float *dy = sd_cpu_load(c->in[0], node->in[0]->dtype, at, n, bd);
        const float *x = sd_cpu_load(c->in[1], node->in[1]->dtype, at, n, bx);
        float *y = sd_cpu_place(c->out[0], node->out[0]->dtype, at, by);
        act_bwd_block(node->attr.act, n, dy, x, y);
        sd_cpu_store(c->out[0], node->out[0]->dtype, at, n, y);
    }
}

static void act_bwd(const struct sd_call *c)
{
    split_output(c, act_bwd_chunk);
}
const struct sd_kernel sd_cpu_act_bwd = {.plan = sd_cpu_plan_floats, .run = act_bwd};

/* Elements [from, to) of the half-width side of geglu; x's row is values, then gates. */
SD_CPU_CLONES static void geglu_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *out = c->node->out[0];
    enum sd_dtype type = out->dtype;
    float bv[SD_CPU_BLOCK], bg[SD_CPU_BLOCK], by[SD_CPU_BLOCK];
    int64_t width = out->dim[out->ndim - 1];
    for (int64_t at = from, n; at < to; at += n) {
        int64_t col = at % width, x = (at - col) * 2 + col;
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), width - col);
        const float *value = sd_cpu_load(c->in[0], type, x, n, bv);
        const float *gate = sd_cpu_load(c->in[0], type, x + width, n, bg);
        float *y = sd_cpu_place(c->out[0], type, at, by);
        MAP(value[i] * vgelu(gate[i]));
        sd_cpu_store(c->out[0], type, at, n, y);
    }
}

static void geglu(const struct sd_call *c)
{
    split_output(c, geglu_chunk);
}
const struct sd_kernel sd_cpu_geglu = {.plan = sd_cpu_plan_floats, .run = geglu};

SD_CPU_CLONES static void geglu_bwd_block(int64_t n, const float *dy, const float *value, const float *gate,
                                          float *dvalue, float *dgate)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float cdf = vcdf(gate[i]);
        dvalue[i] = dy[i] * gate[i] * cdf;
        dgate[i] = dy[i] * value[i] * (cdf + gate[i] * vpdf(gate[i]));
    }
}

static void geglu_bwd_chunk(const struct sd_call *c, int64_t from, int64_t to)
{
    const struct sd_tensor *const *in = (const struct sd_tensor *const *)c->node->in;
    enum sd_dtype dt = in[0]->dtype, type = in[1]->dtype, out = c->node->out[0]->dtype;
    float bd[SD_CPU_BLOCK], bv[SD_CPU_BLOCK], bg[SD_CPU_BLOCK], bdv[SD_CPU_BLOCK], bdg[SD_CPU_BLOCK];
    int64_t width = in[0]->dim[in[0]->ndim - 1];
    for (int64_t at = from, n; at < to; at += n) {
        int64_t col = at % width, x = (at - col) * 2 + col;
        n = sd_cpu_min(sd_cpu_min(SD_CPU_BLOCK, to - at), width - col);
        const float *dy = sd_cpu_load(c->in[0], dt, at, n, bd);
        const float *value = sd_cpu_load(c->in[1], type, x, n, bv);
        const float *gate = sd_cpu_load(c->in[1], type, x + width, n, bg);
        float *dvalue = sd_cpu_place(c->out[0], out, x, bdv),
              *dgate = sd_cpu_place(c->out[0], out, x + width, bdg);
        geglu_bwd_block(n, dy, value, gate, dvalue, dgate);
        sd_cpu_store(c->out[0], out, x, n, dvalue);
        sd_cpu_store(c->out[0], out, x + width, n, dgate);
    }
}

static void geglu_bwd(const struct sd_call *c)
{
    sd_cpu_split(c, sd_tensor_count(c->node->in[0]), SD_CPU_CHUNK, geglu_bwd_chunk);
}
const struct sd_kernel sd_cpu_geglu_bwd = {.plan = sd_cpu_plan_floats, .run = geglu_bwd};
