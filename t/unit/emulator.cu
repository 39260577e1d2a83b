/* The launch emulator runs kernels as a device would, in all orders. */
#include "emulator.h"

namespace
{

constexpr unsigned ALL = 0xffffffffu;

__global__ void index_kernel(unsigned *y)
{
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = block << 16 | thread;
}

/* Sum and largest of a row a block. */
template <typename T>
__global__ void __launch_bounds__(256) row_kernel(const T *x, int n, float *sums, T *largest)
{
    SD_SHARED(float, spare, SD_WARP);
    SD_SHARED(T, all, 256);
    float sum = 0, top = -INFINITY;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        sum += to_f32(x[blockIdx.x * n + i]);
        top = fmaxf(top, to_f32(x[blockIdx.x * n + i]));
    }
    sum = sd_block_sum(sum, spare);
    all[threadIdx.x] = from_f32<T>(top);
    for (unsigned half = blockDim.x / 2; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half && to_f32(all[threadIdx.x + half]) > to_f32(all[threadIdx.x]))
            all[threadIdx.x] = all[threadIdx.x + half];
    }
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
        largest[blockIdx.x] = all[0];
    }
}

/* Running sums within a block of any size, between two halves of dynamic memory. */
__global__ void scan_kernel(const int *x, int *y)
{
    SD_SHARED_DYNAMIC(int, both);
    unsigned n = blockDim.x, i = threadIdx.x;
    int *from = both, *to = both + n;
    from[i] = x[blockIdx.x * n + i];
    __syncthreads();
    for (unsigned step = 1; step < n; step *= 2) {
        to[i] = from[i] + (i >= step ? from[i - step] : 0);
        int *other = from;
        from = to;
        to = other;
        __syncthreads();
    }
    y[blockIdx.x * n + i] = from[i];
}

struct shuffled {
    int plain, up, down, across, beyond;
    float f;
    double d;
    long long l;
    unsigned half;
};

__global__ void shuffle_kernel(shuffled *y, int width)
{
    int i = threadIdx.x, x = 100 + i;
    shuffled s;
    s.plain = __shfl_sync(ALL, x, 5, width);
    s.up = __shfl_up_sync(ALL, x, 3, width);
    s.down = __shfl_down_sync(ALL, x, 3, width);
    s.across = __shfl_xor_sync(ALL, x, 6, width);
    s.beyond = __shfl_xor_sync(ALL, x, 12, width); /* with segments of 8 only earlier ones can be had */
    s.f = __shfl_sync(ALL, 0.5f * i, (i + 1) % 32);
    s.d = __shfl_xor_sync(ALL, 0.25 * i, 1);
    s.l = __shfl_up_sync(ALL, static_cast<long long>(i) << 40, 1);
    if (i % 32 < 16) /* the halves of a warp apart, the upper one more often */
        s.half = __shfl_xor_sync(0xffffu, unsigned(i), 15);
    else
        for (int k = 0; k < 4; k++)
            s.half = __shfl_xor_sync(0xffff0000u, unsigned(i + k), 1);
    y[i] = s;
}

__global__ void vote_kernel(unsigned *y)
{
    unsigned i = threadIdx.x, n = 0;
    unsigned *v = y + i * 9;
    v[n++] = __ballot_sync(ALL, i % 3 == 0);
    v[n++] = unsigned(__any_sync(ALL, i == 40));
    v[n++] = unsigned(__all_sync(ALL, i < 32));
    v[n++] = unsigned(__syncthreads_count(i % 5 == 0));
    v[n++] = unsigned(__syncthreads_or(i == 63));
    v[n++] = unsigned(__syncthreads_or(i == 64));
    v[n++] = unsigned(__syncthreads_and(i < 64));
    v[n++] = unsigned(__syncthreads_and(i < 63));
    __syncwarp();
    v[n++] = __activemask();
}

__global__ void atomic_kernel(unsigned *sum, int *top, unsigned long long *product)
{
    if (threadIdx.x % 7 == 6)
        return; /* a thread may leave where nobody waits for it */
    atomicAdd(sum, threadIdx.x);
    atomicMax(top, int(blockIdx.x * blockDim.x + threadIdx.x));
    if (threadIdx.x % 32)
        return;
    unsigned long long old = *product, was;
    do {
        was = old;
        old = atomicCAS(product, was, was * 3);
    } while (old != was);
}

void test_grids(const char *order)
{
    dim3 grid(3, 4, 5), block(7, 2, 9);
    unsigned blocks = 60, threads = 126, wrong = 0, *y = device<unsigned>(blocks * threads);
    sd_launch(stream, grid, block, 0, index_kernel, y);
    for (unsigned i = 0; i < blocks * threads; i++)
        wrong += y[i] != (i / threads << 16 | i % threads);
    ok(!wrong, "%s: each thread of a grid runs once and knows its place", order);
    cudaFree(y);
}

template <typename T> void test_rows(const char *order, const char *type)
{
    constexpr int rows = 9, n = 1000;
    T *x = device<T>(rows * n), *largest = device<T>(rows);
    float *sums = device<float>(rows);
    int wrong = 0;
    for (int i = 0; i < rows * n; i++)
        x[i] = from_f32<T>(float(i * 7919 % 101 - 50));
    sd_launch(stream, rows, 256, 0, row_kernel<T>, x, n, sums, largest);
    for (int r = 0; r < rows; r++) {
        float sum = 0, top = -INFINITY;
        for (int i = 0; i < n; i++) {
            sum += to_f32(x[r * n + i]);
            top = fmaxf(top, to_f32(x[r * n + i]));
        }
        wrong += sums[r] != sum || to_f32(largest[r]) != top;
    }
    ok(!wrong, "%s: barriers, shared memory and shuffles reduce rows of %s", order, type);
    cudaFree(x);
    cudaFree(largest);
    cudaFree(sums);
}

void test_scan(const char *order)
{
    constexpr unsigned sizes[] = {1, 33, 1024};
    for (unsigned n : sizes) {
        unsigned blocks = 3, wrong = 0;
        int *x = device<int>(blocks * n), *y = device<int>(blocks * n);
        for (unsigned i = 0; i < blocks * n; i++)
            x[i] = int(i * 7919 % 13);
        sd_launch(stream, blocks, n, 2 * n * sizeof(int), scan_kernel, x, y);
        for (unsigned i = 0, sum = 0; i < blocks * n; i++) {
            sum = (i % n ? sum : 0) + unsigned(x[i]);
            wrong += y[i] != int(sum);
        }
        ok(!wrong, "%s: %u threads scan in dynamic memory", order, n);
        cudaFree(x);
        cudaFree(y);
    }
}

void test_shuffles(const char *order)
{
    for (int width = 32; width >= 8; width /= 4) {
        int n = 64, wrong = 0;
        shuffled *y = device<shuffled>(n);
        sd_launch(stream, 1, n, 0, shuffle_kernel, y, width);
        for (int i = 0; i < n; i++) {
            int in = i % width, first = i - in, lane = i % 32;
            wrong += y[i].plain != 100 + first + 5;
            wrong += y[i].up != 100 + (in >= 3 ? i - 3 : i);
            wrong += y[i].down != 100 + (in + 3 < width ? i + 3 : i);
            wrong += y[i].across != 100 + (i ^ 6);
            wrong += y[i].beyond != 100 + ((i ^ 12) < first + width ? i ^ 12 : i);
            wrong += y[i].f != 0.5f * (i - lane + (lane + 1) % 32);
            wrong += y[i].d != 0.25 * (i ^ 1);
            wrong += y[i].l != static_cast<long long>(lane ? i - 1 : i) << 40;
            wrong += y[i].half != unsigned(lane < 16 ? i ^ 15 : (i ^ 1) + 3);
        }
        ok(!wrong, "%s: shuffles in segments of %d", order, width);
        cudaFree(y);
    }
}

void test_votes(const char *order)
{
    unsigned n = 64, wrong = 0, *y = device<unsigned>(n * 9);
    sd_launch(stream, 1, n, 0, vote_kernel, y);
    for (unsigned i = 0; i < n; i++) {
        unsigned ballot = 0;
        for (unsigned lane = 0; lane < 32; lane++)
            ballot |= unsigned((i / 32 * 32 + lane) % 3 == 0) << lane;
        const unsigned expected[] = {ballot, i >= 32, i < 32, 13, 1, 0, 1, 0};
        wrong += memcmp(y + i * 9, expected, sizeof expected) != 0;
        wrong += !(y[i * 9 + 8] >> i % 32 & 1);
    }
    ok(!wrong, "%s: votes of warps and blocks", order);
    cudaFree(y);
}

void test_atomics(const char *order)
{
    unsigned *sum = device<unsigned>(1);
    int *top = device<int>(1);
    unsigned long long *product = device<unsigned long long>(1);
    *sum = *top = 0;
    *product = 1;
    sd_launch(stream, 4, 70, 0, atomic_kernel, sum, top, product);
    unsigned expected = 0;
    for (unsigned i = 0; i < 70; i++)
        expected += i % 7 == 6 ? 0 : 4 * i;
    ok(*sum == expected && *top == 3 * 70 + 68 && *product == 531441, "%s: atomics", order);
    cudaFree(sum);
    cudaFree(top);
    cudaFree(product);
}

void test_numbers()
{
    ok(__float2half_rn(1 + 0x1p-11f).bits == 0x3c00 && __float2half_rn(1 + 0x3p-11f).bits == 0x3c02 &&
           __float2half_rn(65520).bits == 0x7c00 && __float2half_rn(0x1p-24f).bits == 1,
       "half numbers round to nearest even");
    ok(__float2bfloat16_rn(1 + 0x1p-8f).bits == 0x3f80 && __float2bfloat16_rn(1 + 0x3p-8f).bits == 0x3f82 &&
           __float2bfloat16_rn(INFINITY).bits == 0x7f80,
       "bfloat16 numbers round to nearest even");
    ok(isnan(__half2float(__float2half_rn(NAN))) &&
           isnan(__bfloat162float(__float2bfloat16_rn(__uint_as_float(0x7f800001)))),
       "NaN stays NaN");
    ok(__umulhi(0x80000000u, 6) == 3 && __clz(1) == 31 && __clz(0) == 32 && __ffs(8) == 4 && __popc(7) == 3,
       "bits");
}

} // namespace

int main(void)
{
    cudaStreamCreate(&stream);
    for (const char *order : orders) {
        setenv("SD_EMU_ORDER", order, 1);
        test_grids(order);
        test_rows<float>(order, "f32");
        test_rows<__half>(order, "f16");
        test_rows<__nv_bfloat16>(order, "bf16");
        test_scan(order);
        test_shuffles(order);
        test_votes(order);
        test_atomics(order);
    }
    test_numbers();
    ok(cudaGetLastError() == cudaSuccess, "no error is left over");
    cudaStreamDestroy(stream);
    return tap_end();
}
