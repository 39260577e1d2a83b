/* The emulator's runtime: memory, events, captures and what they refuse, a lost device. */
#include "emulator.h"

namespace
{

__global__ void value_kernel(float *y, const float *x, float by_value)
{
    y[threadIdx.x] = x[threadIdx.x] + by_value;
}

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
    int *y = device<int>(1);
    for (const auto &c : calls) {
        cudaGraph_t graph;
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
    }
    cudaFree(y);
}

void lose_device()
{
    int *y = device<int>(1);
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
    test_memory();
    test_events();
    test_replay();
    test_fork();
    test_refused();
    ok(child(lose_device, nullptr), "SD_EMU_FAIL loses the device for good");
    ok(cudaGetLastError() == cudaSuccess, "no error is left over");
    cudaStreamDestroy(stream);
    return tap_end();
}
