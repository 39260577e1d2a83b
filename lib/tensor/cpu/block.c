#include "tensor/cpu/block.h"

#include "base/half.h"

#include <string.h>

SD_CPU_CLONES static void widen_bf16(const uint16_t *x, int64_t n, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = sd_bf16_to_f32(x[i]);
}

SD_CPU_CLONES static void narrow_bf16(const float *x, int64_t n, uint16_t *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = sd_f32_to_bf16(x[i]);
}

const float *sd_cpu_load(const void *x, enum sd_dtype type, int64_t at, int64_t n, float *buf)
{
    if (type == SD_F32)
        return (const float *)x + at;
    const uint16_t *h = (const uint16_t *)x + at;
    if (type == SD_BF16)
        widen_bf16(h, n, buf);
    else
        for (int64_t i = 0; i < n; i++)
            buf[i] = sd_f16_to_f32(h[i]);
    return buf;
}

void sd_cpu_store(void *y, enum sd_dtype type, int64_t at, int64_t n, const float *v)
{
    if (type == SD_F32) {
        if ((float *)y + at != v)
            memcpy((float *)y + at, v, (size_t)n * sizeof *v);
        return;
    }
    uint16_t *h = (uint16_t *)y + at;
    if (type == SD_BF16)
        narrow_bf16(v, n, h);
    else
        for (int64_t i = 0; i < n; i++)
            h[i] = sd_f32_to_f16(v[i]);
}

void sd_cpu_split(const struct sd_call *c, int64_t n, int64_t chunk, sd_cpu_body *body)
{
    int64_t chunks = (n + chunk - 1) / chunk;
#pragma omp parallel for schedule(static) if (chunks > 1)
    for (int64_t i = 0; i < chunks; i++)
        body(c, i * chunk, sd_cpu_min(n, (i + 1) * chunk));
}

static int check(const struct sd_node *node, const struct sd_tensor *t, struct sd_err *err)
{
    if (!t || t->dtype == SD_F32 || t->dtype == SD_BF16 || t->dtype == SD_F16)
        return 0;
    return sd_err_set(err, SD_ERR_USAGE, "%s: cpu: %s is not a float type", sd_op_name(node->op),
                      sd_dtype_name(t->dtype));
}

int sd_cpu_plan_floats(struct sd_call *c, struct sd_err *err)
{
    for (int i = 0; i < c->node->n_in; i++)
        if (check(c->node, c->node->in[i], err))
            return -1;
    for (int i = 0; i < c->node->n_out; i++)
        if (check(c->node, c->node->out[i], err))
            return -1;
    return 0;
}

SD_CPU_CLONES double sd_cpu_sum_squares(int64_t n, const float *x)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}
