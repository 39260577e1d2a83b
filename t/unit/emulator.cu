/* The launch emulator: what kernels and the backend rely on, in all orders, and that it finds planted
 * mistakes. Those run in children, which it aborts; reads and writes out of bounds are found in the
 * sanitizers' build. */
#include "../../gpu/kernel.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

namespace
{

constexpr unsigned ALL = 0xffffffffu;
const char *const orders[] = {"forward", "backward", "shuffle:1", "shuffle:12345"};

cudaStream_t stream;

/* Device memory of count items, which the host may look into: the emulator's device memory is the host's. */
template <typename T> T *device(size_t count)
{
    T *p;
    return cudaMalloc(&p, count * sizeof *p) ? nullptr : p;
}

/* --- kernels that are right --- */

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
    int plain, up, down, across;
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

/* --- kernels that are wrong --- */

__global__ void no_barrier_kernel(int *y, bool barrier)
{
    SD_SHARED(int, s, 64);
    s[threadIdx.x] = int(threadIdx.x);
    if (barrier)
        __syncthreads();
    y[threadIdx.x] = s[(threadIdx.x + 1) % 64];
}

__global__ void block_order_kernel(int *y)
{
    *y = int(blockIdx.x);
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

__global__ void value_kernel(float *y, const float *x, float by_value)
{
    y[threadIdx.x] = x[threadIdx.x] + by_value;
}

/* --- what is right is right in all orders --- */

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

/* --- what depends on order shows --- */

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

/* --- the runtime --- */

void test_memory()
{
    char *a, *b, host[100] = "";
    size_t unused, total;
    setenv("SD_EMU_MEMORY", "1000", 1);
    ok(cudaMalloc(&a, 600) == cudaSuccess && cudaMalloc(&b, 401) == cudaErrorMemoryAllocation && !b &&
           cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess,
       "memory runs out where SD_EMU_MEMORY says");
    ok(cudaMemGetInfo(&unused, &total) == cudaSuccess && unused == 400 && total == 1000,
       "what is left is told");
    ok(cudaMalloc(&b, 400) == cudaSuccess, "all of it can be had");
    ok(cudaMemcpy(a + 500, host, 100, cudaMemcpyHostToDevice) == cudaSuccess &&
           cudaMemcpy(b, a + 500, 100, cudaMemcpyDeviceToDevice) == cudaSuccess &&
           cudaMemcpy(host, b, 100, cudaMemcpyDefault) == cudaSuccess && !memcmp(host, a + 500, 100),
       "copies to, on and from the device");
    ok(cudaMemcpy(a + 501, host, 100, cudaMemcpyHostToDevice) == cudaErrorInvalidValue &&
           cudaMemset(a + 501, 0, 100) == cudaErrorInvalidValue,
       "copies past the end of an allocation are refused");
    ok(cudaMemcpy(host, host, 100, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue &&
           cudaMemcpy(a, host, 100, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue,
       "copies in the wrong direction are refused");
    ok(cudaMemset(a, 7, 600) == cudaSuccess && a[0] == 7 && a[599] == 7, "memory is filled");
    ok(cudaFree(a + 1) == cudaErrorInvalidValue && cudaFree(a) == cudaSuccess && cudaFree(b) == cudaSuccess &&
           cudaFree(a) == cudaErrorInvalidValue && cudaFree(nullptr) == cudaSuccess,
       "memory is freed once");
    ok(cudaMallocHost(&a, 5000) == cudaSuccess && cudaFree(a) == cudaErrorInvalidValue &&
           cudaFreeHost(a) == cudaSuccess,
       "pinned memory is the host's");
    unsetenv("SD_EMU_MEMORY");
    cudaGetLastError();
}

void test_events()
{
    cudaEvent_t a, b;
    float ms = -1;
    cudaEventCreate(&a);
    cudaEventCreate(&b);
    ok(cudaEventElapsedTime(&ms, a, b) == cudaErrorInvalidResourceHandle,
       "no time between events not recorded");
    cudaEventRecord(a, stream);
    cudaEventRecord(b, stream);
    ok(cudaEventElapsedTime(&ms, a, b) == cudaSuccess && ms >= 0, "time between events that are");
    cudaEventDestroy(a);
    cudaEventDestroy(b);
    cudaGetLastError();
}

void test_replay()
{
    float *x = device<float>(4), *y = device<float>(4), host[4] = {1, 2, 3, 4}, back[4] = {0}, value = 10;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamCaptureStatus status;
    cudaMemset(y, 0, 16);
    ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess &&
           cudaStreamIsCapturing(stream, &status) == cudaSuccess && status == cudaStreamCaptureStatusActive,
       "a capture begins");
    cudaMemcpyAsync(x, host, 16, cudaMemcpyHostToDevice, stream);
    sd_launch(stream, 1, 4, 0, value_kernel, y, x, value);
    cudaMemcpyAsync(back, y, 16, cudaMemcpyDeviceToHost, stream);
    ok(cudaStreamEndCapture(stream, &graph) == cudaSuccess && y[0] == 0 && back[0] == 0 && isnan(x[0]),
       "what is captured does not run");
    ok(cudaGraphInstantiate(&exec, graph) == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess,
       "a graph is made");
    cudaGraphLaunch(exec, stream);
    ok(back[0] == 11 && back[3] == 14, "replayed it runs");
    host[0] = 5;
    value = 20;
    cudaGraphLaunch(exec, stream);
    ok(back[0] == 15 && back[3] == 14, "again, with memory as it is and values as they were");
    cudaGraphExecDestroy(exec);
    cudaFree(x);
    cudaFree(y);
}

void test_fork()
{
    float *x = device<float>(1), *y = device<float>(1);
    cudaStream_t second;
    cudaEvent_t event;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    *x = *y = 0;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    sd_launch(stream, 1, 1, 0, value_kernel, y, x, 1.0f);
    cudaEventRecord(event, stream);
    cudaStreamWaitEvent(second, event);
    sd_launch(second, 1, 1, 0, value_kernel, x, y, 1.0f);
    cudaEventRecord(event, second);
    cudaStreamWaitEvent(stream, event);
    ok(cudaStreamEndCapture(stream, &graph) == cudaSuccess && *x == 0,
       "a stream that waits joins the capture");
    cudaGraphInstantiate(&exec, graph);
    cudaGraphLaunch(exec, second);
    ok(*y == 1 && *x == 2, "and is replayed with it");
    sd_launch(second, 1, 1, 0, value_kernel, y, x, 1.0f);
    ok(*y == 3, "and runs by itself after");
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    cudaEventDestroy(event);
    cudaStreamDestroy(second);
    cudaFree(x);
    cudaFree(y);
}

cudaError_t try_malloc()
{
    void *p;
    return cudaMalloc(&p, 1);
}
cudaError_t try_copy()
{
    static char host;
    return cudaMemcpy(&host, &host, 1, cudaMemcpyHostToHost);
}
cudaError_t try_stream_synchronize()
{
    return cudaStreamSynchronize(stream);
}

void test_refused()
{
    const struct {
        const char *name;
        cudaError_t (*call)(void);
        cudaError_t expected;
    } calls[] = {{"cudaMalloc", try_malloc, cudaErrorStreamCaptureUnsupported},
                 {"cudaDeviceSynchronize", cudaDeviceSynchronize, cudaErrorStreamCaptureUnsupported},
                 {"cudaStreamSynchronize", try_stream_synchronize, cudaErrorStreamCaptureUnsupported},
                 {"cudaMemcpy", try_copy, cudaErrorStreamCaptureImplicit}};
    for (const auto &c : calls) {
        cudaGraph_t graph;
        int *y = device<int>(64);
        *y = 0;
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
        cudaError_t e = c.call();
        sd_launch(stream, 1, 1, 0, block_order_kernel, y);
        ok(e == c.expected && cudaGetLastError() == cudaErrorStreamCaptureInvalidated &&
               cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && !graph,
           "%s is refused during a capture, which it spoils", c.name);
        cudaGetLastError();
        *y = -1;
        sd_launch(stream, 1, 1, 0, block_order_kernel, y);
        ok(cudaGetLastError() == cudaSuccess && *y == 0, "after which the stream works");
        cudaFree(y);
    }
}

/* --- planted mistakes, each in a child --- */

/* Runs f in a child; true when it ended badly with text on standard error, or well if text is NULL. */
bool child(void (*f)(void), const char *text)
{
    static char said[1 << 16];
    int fd[2], status;
    size_t n = 0;
    fflush(stdout);
    if (pipe(fd))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fd[1], 2);
        close(fd[0]);
        f();
        fflush(stderr);
        _exit(0);
    }
    close(fd[1]);
    for (ssize_t got; (got = read(fd[0], said + n, sizeof said - 1 - n)) > 0;)
        n += size_t(got);
    close(fd[0]);
    said[n] = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    bool good = text ? status && strstr(said, text) : !status;
    if (!good)
        fprintf(stderr, "# status %d, expected '%s', got: %s\n", status, text ? text : "", said);
    return good;
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
         "but thread (16, 0, 0) waits at __shfl_xor_sync with mask 0xffff8000 (t/unit/emulator.cu:", false},
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

void lose_device()
{
    int *y = ints();
    setenv("SD_EMU_FAIL", "2", 1);
    sd_launch(stream, 3, 1, 0, block_order_kernel, y);
    bool good = cudaGetLastError() == cudaSuccess && *y == 2;
    *y = 0;
    sd_launch(stream, 3, 1, 0, block_order_kernel, y);
    good = good && *y == 0 && cudaGetLastError() == cudaErrorLaunchFailure &&
           cudaGetLastError() == cudaErrorLaunchFailure;
    unsetenv("SD_EMU_FAIL");
    sd_launch(stream, 3, 1, 0, block_order_kernel, y);
    good = good && *y == 0 && cudaDeviceSynchronize() == cudaErrorLaunchFailure &&
           try_malloc() == cudaErrorLaunchFailure && cudaMemset(y, 0, 4) == cudaErrorLaunchFailure &&
           cudaStreamSynchronize(stream) == cudaErrorLaunchFailure && cudaFree(y) == cudaErrorLaunchFailure;
    if (!good)
        abort();
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
    unsetenv("SD_EMU_ORDER");
    test_numbers();
    test_orders();
    test_unwritten();
    test_memory();
    test_events();
    test_replay();
    test_fork();
    test_refused();
    test_planted();
    ok(child(lose_device, nullptr), "SD_EMU_FAIL loses the device for good");
    ok(cudaGetLastError() == cudaSuccess, "no error is left over");
    cudaStreamDestroy(stream);
    return tap_end();
}
