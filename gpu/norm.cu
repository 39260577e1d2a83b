#include "norm.h"

namespace
{

constexpr int CHANNELS = SD_WARP, LANES = 8;

/* Block: CHANNELS channels beside each other, LANES runs of slabs. */
__global__ void sum_partials_kernel(int64_t slabs, int64_t ch, const float2 *partial, float *a, float *b)
{
    SD_SHARED(float2, shared, CHANNELS * LANES);
    int64_t k = static_cast<int64_t>(blockIdx.x) * CHANNELS + threadIdx.x % CHANNELS;
    int lane = threadIdx.x / CHANNELS;
    float2 sum = make_float2(0, 0);
    for (int64_t i = lane; i < slabs && k < ch; i += LANES) {
        float2 v = partial[i * ch + k];
        sum.x += v.x;
        sum.y += v.y;
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (lane || k >= ch)
        return;
    for (int i = 1; i < LANES; i++) {
        float2 v = shared[i * CHANNELS + threadIdx.x];
        sum.x += v.x;
        sum.y += v.y;
    }
    if (a)
        a[k] = sum.x;
    if (b)
        b[k] = sum.y;
}

} // namespace

void sd_norm_sum_partials(cudaStream_t stream, const struct sd_norm_cut &s, const float2 *partial, float *a,
                          float *b)
{
    if (a || b)
        sd_launch(stream, dim3(static_cast<unsigned>((s.ch + CHANNELS - 1) / CHANNELS)),
                  dim3(CHANNELS * LANES), 0, sum_partials_kernel, s.images * s.slabs, s.ch, partial, a, b);
}

int sd_norm_plan_bwd(struct sd_call *c, struct sd_err *err)
{
    enum sd_dtype dy = c->node->in[0]->dtype, x = c->node->in[1]->dtype;
    if (dy != x && dy != SD_F32)
        return sd_err_set(err, SD_ERR_MACHINE, "cuda has no %s of %s with a gradient in %s",
                          sd_op_name(c->node->op), sd_dtype_name(x), sd_dtype_name(dy));
    return sd_cuda_plan_floats(c, err);
}
