/* The launch emulator finds planted mistakes: those that depend on order by other results, the others in a
 * child that it aborts. Reads and writes out of bounds are found in the sanitizers' build. */
#include "emulator.h"

namespace
{

constexpr unsigned ALL = 0xffffffffu;

__global__ void no_barrier_kernel(int *y, bool barrier)
{
    SD_SHARED(int, s, 64);
    s[threadIdx.x] = int(threadIdx.x);
    if (barrier)
        __syncthreads();
    y[threadIdx.x] = s[(threadIdx.x + 1) % 64];
}

__global__ void unwritten_kernel(float *y)
{
    SD_SHARED(float, s, 64);
    SD_SHARED_DYNAMIC(float, d);
    if (threadIdx.x != 7)
        s[threadIdx.x] = d[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x] + d[threadIdx.x];
}

__global__ void left_barrier_kernel(int early)
{
    if (int(threadIdx.x) >= early)
        return;
    __syncthreads();
}

__global__ void two_barriers_kernel(int *y)
{
    if (threadIdx.x < 32) {
        *y = 1;
        __syncthreads();
    } else {
        *y = 2;
        __syncthreads();
    }
}

__global__ void left_shuffle_kernel(int *y)
{
    if (threadIdx.x == 9)
        return;
    *y = __shfl_xor_sync(ALL, *y, 1);
}

__global__ void elsewhere_shuffle_kernel(int *y)
{
    if (threadIdx.x < 8)
        __syncthreads();
    *y = __shfl_xor_sync(ALL, *y, 1);
    if (threadIdx.x >= 8)
        __syncthreads();
}

__global__ void other_mask_kernel(int *y)
{
    *y = __shfl_xor_sync(threadIdx.x < 16 ? ALL : 0xffff8000u, *y, 1);
}

__global__ void unnamed_kernel(int *y)
{
    *y = __ballot_sync(1, 1);
}

/* Reads or writes item at of an array of 64. */
__global__ void global_kernel(const int *x, int *y, int at)
{
    y[threadIdx.x == 3 ? at : 0] = x[threadIdx.x];
}

__global__ void shared_kernel(int *y, int at)
{
    SD_SHARED(int, s, 64);
    int *p = s;
    p[at] = 1;
    *y = 1;
}

__global__ void dynamic_kernel(int *y, int at)
{
    SD_SHARED_DYNAMIC(int, s);
    s[at] = 1;
    *y = 1;
}

__global__ void large_kernel(char *y)
{
    SD_SHARED(char, a, 40 << 10);
    SD_SHARED(char, b, 9 << 10);
    a[0] = b[0] = 1;
    *y = a[0];
}

void test_orders()
{
    int *y[4][3];
    for (int k = 0; k < 4; k++) {
        setenv("SD_EMU_ORDER", orders[k], 1);
        for (int i = 0; i < 3; i++)
            y[k][i] = device<int>(64);
        sd_launch(stream, 1, 64, 0, no_barrier_kernel, y[k][0], false);
        sd_launch(stream, 1, 64, 0, no_barrier_kernel, y[k][1], true);
        sd_launch(stream, 100, 1, 0, block_order_kernel, y[k][2]);
    }
    size_t bytes = 64 * sizeof(int);
    ok(memcmp(y[0][0], y[1][0], bytes) && memcmp(y[0][0], y[2][0], bytes) && memcmp(y[1][0], y[2][0], bytes),
       "without its barrier a kernel gives other results in each order");
    ok(!memcmp(y[0][1], y[1][1], bytes) && !memcmp(y[0][1], y[2][1], bytes), "with it the same");
    ok(*y[0][2] == 99 && *y[1][2] == 0 && *y[2][2] != *y[3][2], "blocks run in the order asked for");
    for (auto &of_order : y)
        for (int *p : of_order)
            cudaFree(p);
    unsetenv("SD_EMU_ORDER");
}

void test_unwritten()
{
    float *y = device<float>(64);
    ok(isnan(y[0]) && isnan(y[63]), "device memory that nobody wrote is NaN");
    int wrong = 0;
    for (int again = 0; again < 2; again++) {
        sd_launch(stream, 2, 64, 64 * sizeof(float), unwritten_kernel, y);
        for (int i = 0; i < 64; i++)
            wrong += i == 7 ? !isnan(y[i]) : y[i] != 2;
    }
    ok(!wrong, "so is shared memory, in each block anew");
    cudaFree(y);
}

const char *const found_in_shared =
#ifdef __SANITIZE_ADDRESS__
    "heap-buffer-overflow";
constexpr bool sanitized = true;
#else
    "written past its 256 bytes, at byte 256";
constexpr bool sanitized = false;
#endif

int *ints()
{
    int *y = device<int>(64);
    memset(y, 0, 64 * sizeof *y);
    return y;
}

void test_planted()
{
    const struct {
        const char *name;
        void (*f)(void);
        const char *text;
        bool needs_sanitizer;
    } planted[] = {
        {"a barrier that a thread left", [] { sd_launch(stream, 2, 64, 0, left_barrier_kernel, 63); },
         "block (0, 0, 0), thread (62, 0, 0): waits at __syncthreads", false},
        {"the kernel is named", [] { sd_launch(stream, 2, 64, 0, left_barrier_kernel, 63); },
         "left_barrier_kernel, 63), block", false},
        {"barriers in two branches", [] { sd_launch(stream, 1, 64, 0, two_barriers_kernel, ints()); },
         "but thread (0, 0, 0) waits at __syncthreads", false},
        {"a shuffle that a lane left", [] { sd_launch(stream, 1, 64, 0, left_shuffle_kernel, ints()); },
         "with mask 0xffffffff", false},
        {"the lane is named", [] { sd_launch(stream, 1, 64, 0, left_shuffle_kernel, ints()); },
         "but thread (9, 0, 0) has left the kernel", false},
        {"a shuffle while a lane is at the barrier",
         [] { sd_launch(stream, 1, 64, 0, elsewhere_shuffle_kernel, ints()); },
         "but thread (0, 0, 0) waits at __syncthreads", false},
        {"lanes that differ on the mask", [] { sd_launch(stream, 1, 32, 0, other_mask_kernel, ints()); },
         "but thread (16, 0, 0) waits at __shfl_xor_sync with mask 0xffff8000 (t/unit/emulator_finds.cu:",
         false},
        {"a mask without the lane itself", [] { sd_launch(stream, 1, 32, 0, unnamed_kernel, ints()); },
         "does not name lane 1", false},
        {"too much static shared memory",
         [] { sd_launch(stream, 1, 1, 0, large_kernel, reinterpret_cast<char *>(ints())); },
         "shared array b brings static shared memory to 50176 bytes", false},
        {"dynamic shared memory that was not asked for",
         [] { sd_launch(stream, 1, 1, (48 << 10) + 4, dynamic_kernel, ints(), 0); },
         "without cudaFuncSetAttribute", false},
        {"dynamic shared memory that was",
         [] {
             cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10);
             sd_launch(stream, 1, 1, 227 << 10, dynamic_kernel, ints(), (227 << 8) - 1);
         },
         nullptr, false},
        {"too large a block", [] { sd_launch(stream, 1, dim3(32, 33), 0, block_order_kernel, ints()); },
         "a block of 32 x 33 x 1 threads", false},
        {"an empty grid", [] { sd_launch(stream, dim3(1, 0), 1, 0, block_order_kernel, ints()); },
         "a grid of 1 x 0 x 1 blocks", false},
        {"an unknown order",
         [] {
             setenv("SD_EMU_ORDER", "sideways", 1);
             sd_launch(stream, 1, 1, 0, block_order_kernel, ints());
         },
         "SD_EMU_ORDER is 'sideways'", false},
        {"a write past a shared array", [] { sd_launch(stream, 1, 1, 0, shared_kernel, ints(), 64); },
         found_in_shared, false},
        {"a write past dynamic shared memory",
         [] { sd_launch(stream, 1, 1, 256, dynamic_kernel, ints(), 64); }, found_in_shared, false},
        {"a write past global memory", [] { sd_launch(stream, 1, 64, 0, global_kernel, ints(), ints(), 64); },
         "heap-buffer-overflow", true},
        {"a write before global memory",
         [] { sd_launch(stream, 1, 64, 0, global_kernel, ints(), ints(), -1); }, "heap-buffer-overflow",
         true},
        {"a read past global memory",
         [] { sd_launch(stream, 1, 64, 0, global_kernel, ints() + 1, ints(), 1); }, "heap-buffer-overflow",
         true},
        {"a read of freed global memory",
         [] {
             int *x = ints();
             cudaFree(x);
             sd_launch(stream, 1, 64, 0, global_kernel, x, ints(), 1);
         },
         "heap-use-after-free", true},
    };
    for (const auto &p : planted) {
        if (p.needs_sanitizer && !sanitized)
            skip(p.name, "only AddressSanitizer finds this");
        else
            ok(child(p.f, p.text), "found: %s", p.name);
    }
}

} // namespace

int main(void)
{
    cudaStreamCreate(&stream);
    test_orders();
    test_unwritten();
    test_planted();
    cudaStreamDestroy(stream);
    return tap_end();
}
