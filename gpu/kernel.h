/* What every file of kernels starts with. nvcc compiles the files for devices; with SD_GPU_EMULATED any C++
 * compiler compiles the same files against emu/cuda.h, which runs blocks of threads on the host.
 *
 * A kernel file holds device code and, for each op, a struct sd_kernel whose plan() may allocate and whose
 * run() only enqueues on the backend's stream (backend.h): it may be recorded once and replayed. Sums and
 * statistics are f32 or wider whatever the tensors' type. Nothing depends on the order in which blocks run,
 * and no float is added atomically: the same inputs give the same bits. */
#ifndef SD_GPU_KERNEL_H
#define SD_GPU_KERNEL_H

#ifdef SD_GPU_EMULATED
#include "emu/cuda.h"
#define SD_UNROLL(n)
constexpr int64_t SD_BLOCKS = 8; /* so that shapes of tests are larger than a grid */
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
/* Before a loop: its body n times over, so that as many loads are under way at once. */
#define SD_PRAGMA(text) _Pragma(#text)
#define SD_UNROLL(n) SD_PRAGMA(unroll n)
/* Blocks of a grid at most, whose threads then loop: more than any card runs at once. */
constexpr int64_t SD_BLOCKS = 4096;
/* type name[count] in shared memory; the emulator fences and poisons it. */
#define SD_SHARED(type, name, count) __shared__ type name[count]
/* The launch's dynamic shared memory as type *name. */
#define SD_SHARED_DYNAMIC(type, name)                  \
    extern __shared__ __align__(16) char sd_dynamic[]; \
    type *const name = reinterpret_cast<type *>(sd_dynamic)

template <typename... P, typename... A>
void sd_launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... args)
{
    kernel<<<grid, block, shared, stream>>>(static_cast<P>(args)...);
}
#endif

#include "cuda.h"

/* --- numbers --- */

static inline __device__ __host__ float to_f32(float x)
{
    return x;
}
static inline __device__ float to_f32(__half x)
{
    return __half2float(x);
}
static inline __device__ float to_f32(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <typename T> __device__ T from_f32(float x);
template <> inline __device__ float from_f32<float>(float x)
{
    return x;
}
template <> inline __device__ __half from_f32<__half>(float x)
{
    return __float2half_rn(x);
}
template <> inline __device__ __nv_bfloat16 from_f32<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* f(T{}) for the float type that dtype names; plan() has refused all others (sd_cuda_plan_floats). */
template <typename F> void sd_by_type(enum sd_dtype dtype, F f)
{
    if (dtype == SD_BF16)
        f(__nv_bfloat16{});
    else if (dtype == SD_F16)
        f(__half{});
    else
        f(float{});
}

/* What a call reads and writes, as elements of T. */
template <typename T> const T *sd_in(const struct sd_call *c, int i)
{
    return static_cast<const T *>(c->in[i]);
}
template <typename T> T *sd_out(const struct sd_call *c)
{
    return static_cast<T *>(c->out[0]);
}

/* --- threads --- */

constexpr int SD_WARP = 32;
constexpr int SD_THREADS = 256; /* a block, where nothing asks for another size */

/* Index of the first element of a thread in a grid-stride loop, and the stride. */
static inline __device__ int64_t sd_first()
{
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
static inline __device__ int64_t sd_stride()
{
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

/* Blocks for n items in a grid-stride loop, not more than there is work. */
static inline dim3 sd_grid(int64_t n, int threads = SD_THREADS)
{
    int64_t blocks = (n + threads - 1) / threads;
    return dim3(static_cast<unsigned>(blocks < 1 ? 1 : blocks > SD_BLOCKS ? SD_BLOCKS : blocks));
}

template <typename T> __device__ T sd_warp_sum(T x)
{
    for (int step = SD_WARP / 2; step; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* The sum over a block of whole warps, to all its threads; spare holds a value a warp and may be used again
 * after the next barrier. */
template <typename T> __device__ T sd_block_sum(T x, T *spare)
{
    int lane = threadIdx.x % SD_WARP, warp = threadIdx.x / SD_WARP, warps = blockDim.x / SD_WARP;
    x = sd_warp_sum(x);
    __syncthreads(); /* whoever read spare before is done */
    if (lane == 0)
        spare[warp] = x;
    __syncthreads();
    x = lane < warps ? spare[lane] : T(0);
    return sd_warp_sum(x);
}

#endif
