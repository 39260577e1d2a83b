/* The device, its memory, its errors, and launches. */
#include "emu.h"

#include <errno.h>
#include <pthread.h>
#include <search.h>
#include <stdlib.h>
#include <unistd.h>

namespace
{

pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
cudaError_t lost, last; /* what every call fails with from now on; what the last failure was */

struct allocation {
    char *memory;
    size_t bytes;
    bool host;
};
void *allocations; /* tsearch's tree */
size_t used;

struct opt_in { /* cudaFuncSetAttribute's word on dynamic shared memory */
    struct opt_in *next;
    const void *kernel;
    size_t bytes;
};
opt_in *opt_ins;

/* Ranges that touch are equal, so that looking up a range finds what holds a part of it. */
int compare(const void *a, const void *b)
{
    const allocation *x = static_cast<const allocation *>(a), *y = static_cast<const allocation *>(b);
    if (x->memory + x->bytes <= y->memory)
        return -1;
    return x->memory >= y->memory + y->bytes;
}

/* The allocation that holds bytes at p or some of them; NULL for memory of the host's own. */
allocation *find(const void *p, size_t bytes)
{
    allocation key = {const_cast<char *>(static_cast<const char *>(p)), bytes ? bytes : 1, false};
    void *node = tfind(&key, &allocations, compare);
    return node ? *static_cast<allocation **>(node) : nullptr;
}

/* All of bytes at p is memory of one kind. */
bool lies_in(bool device, const void *p, size_t bytes)
{
    const allocation *a = find(p, bytes);
    if (!a || a->host)
        return !device;
    const char *q = static_cast<const char *>(p);
    return device && q >= a->memory && bytes <= a->bytes && size_t(q - a->memory) <= a->bytes - bytes;
}

size_t number(const char *variable, size_t otherwise)
{
    const char *s = getenv(variable);
    char *end;
    if (!s || !*s)
        return otherwise;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    if (errno || *end || *s < '0' || *s > '9') {
        fprintf(stderr, "gpu emulator: %s is '%s', not a number\n", variable, s);
        abort();
    }
    return n;
}

size_t total(void)
{
    return number("SD_EMU_MEMORY", size_t(sysconf(_SC_PHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE)));
}

cudaError_t allocate(void **p, size_t bytes, bool host)
{
    *p = nullptr;
    if (cudaError_t e = sd_emu_unless_capturing(false))
        return e;
    if (!bytes)
        return cudaSuccess;
    size_t all = host ? SIZE_MAX : total();
    allocation *a = static_cast<allocation *>(malloc(sizeof *a));
    void *memory = nullptr;
    if (!a || used > all || bytes > all - used || posix_memalign(&memory, 256, bytes)) {
        free(a);
        return cudaErrorMemoryAllocation;
    }
    *a = {static_cast<char *>(memory), bytes, host};
    if (!tsearch(a, &allocations, compare)) {
        free(memory);
        free(a);
        return cudaErrorMemoryAllocation;
    }
    memset(memory, 0xff, bytes);
    used += host ? 0 : bytes;
    *p = memory;
    return cudaSuccess;
}

/* Memory goes back even when the device is lost. */
cudaError_t release(void *p, bool host)
{
    if (!p)
        return cudaSuccess;
    if (cudaError_t e = sd_emu_unless_capturing(false))
        return e;
    allocation *a = find(p, 1);
    if (!a || a->host != host || a->memory != p)
        return cudaErrorInvalidValue;
    tdelete(a, &allocations, compare);
    used -= host ? 0 : a->bytes;
    free(a->memory);
    free(a);
    return cudaSuccess;
}

struct copy {
    void *to;
    const void *from;
    size_t bytes;
};

void run_copy(const void *args)
{
    const copy *c = static_cast<const copy *>(args);
    memmove(c->to, c->from, c->bytes);
}

struct fill {
    void *p;
    int byte;
    size_t bytes;
};

void run_fill(const void *args)
{
    const fill *f = static_cast<const fill *>(args);
    memset(f->p, f->byte, f->bytes);
}

size_t dynamic_limit(const void *kernel)
{
    for (const opt_in *o = opt_ins; o; o = o->next)
        if (o->kernel == kernel && o->bytes > SD_EMU_SHARED_STATIC)
            return o->bytes;
    return SD_EMU_SHARED_STATIC;
}

void run_launch(const void *args)
{
    static size_t count; /* launches since SD_EMU_FAIL is set */
    const sd_emu_launch *l = static_cast<const sd_emu_launch *>(args);
    size_t fail = number("SD_EMU_FAIL", 0);
    count = fail ? count + 1 : 0;
    if (fail && count == fail)
        lost = cudaErrorLaunchFailure;
    else
        sd_emu_run(l, dynamic_limit(l->kernel));
}

} // namespace

sd_emu_turn::sd_emu_turn()
{
    pthread_mutex_lock(&turn);
}

sd_emu_turn::~sd_emu_turn()
{
    pthread_mutex_unlock(&turn);
}

cudaError_t sd_emu_lost(void)
{
    return lost;
}

cudaError_t sd_emu_result(cudaError_t e)
{
    if (lost)
        e = lost;
    if (e && e != cudaErrorNotReady)
        last = e;
    return e;
}

void sd_emu_submit_launch(cudaStream_t stream, const sd_emu_launch *launch, size_t bytes)
{
    sd_emu_turn t;
    sd_emu_result(sd_emu_submit(stream, run_launch, launch, bytes));
}

/* --- errors --- */

const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
#define E(name, number, text) \
    case name:                \
        return #name;
        SD_EMU_ERRORS(E)
#undef E
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
#define E(name, number, text) \
    case name:                \
        return text;
        SD_EMU_ERRORS(E)
#undef E
    }
    return "unrecognized error code";
}

cudaError_t cudaGetLastError(void)
{
    sd_emu_turn t;
    cudaError_t e = last;
    last = lost;
    return e;
}

cudaError_t cudaPeekAtLastError(void)
{
    sd_emu_turn t;
    return last;
}

/* --- the device --- */

cudaError_t cudaGetDeviceCount(int *count)
{
    sd_emu_turn t;
    *count = 1;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaGetDevice(int *device)
{
    sd_emu_turn t;
    *device = 0;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaSetDevice(int device)
{
    sd_emu_turn t;
    return sd_emu_result(device ? cudaErrorInvalidDevice : cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    sd_emu_turn t;
    if (device)
        return sd_emu_result(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof p->name, "emulator");
    memcpy(p->uuid.bytes, "sd gpu emulator", sizeof p->uuid.bytes);
    p->totalGlobalMem = total();
    p->sharedMemPerBlock = SD_EMU_SHARED_STATIC;
    p->sharedMemPerBlockOptin = SD_EMU_SHARED_MAX;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->major = 9;
    p->multiProcessorCount = 132;
    p->warpSize = warpSize;
    p->regsPerBlock = 65536;
    p->l2CacheSize = 50 << 20;
    p->memoryBusWidth = 5120;
    p->maxThreadsPerBlock = SD_EMU_THREADS;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = SD_EMU_THREADS;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->concurrentKernels = p->asyncEngineCount = 1;
    return sd_emu_result(cudaSuccess);
}

static int attribute(const cudaDeviceProp *p, cudaDeviceAttr name)
{
    switch (name) {
    case cudaDevAttrMaxThreadsPerBlock:
        return p->maxThreadsPerBlock;
    case cudaDevAttrMaxGridDimX:
        return p->maxGridSize[0];
    case cudaDevAttrMaxGridDimY:
        return p->maxGridSize[1];
    case cudaDevAttrMaxGridDimZ:
        return p->maxGridSize[2];
    case cudaDevAttrMaxSharedMemoryPerBlock:
        return int(p->sharedMemPerBlock);
    case cudaDevAttrWarpSize:
        return p->warpSize;
    case cudaDevAttrMultiProcessorCount:
        return p->multiProcessorCount;
    case cudaDevAttrL2CacheSize:
        return p->l2CacheSize;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        return p->maxThreadsPerMultiProcessor;
    case cudaDevAttrComputeCapabilityMajor:
        return p->major;
    case cudaDevAttrComputeCapabilityMinor:
        return p->minor;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        return int(p->sharedMemPerMultiprocessor);
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        return int(p->sharedMemPerBlockOptin);
    }
    return -1;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr name, int device)
{
    cudaDeviceProp p;
    if (cudaError_t e = cudaGetDeviceProperties(&p, device))
        return e;
    sd_emu_turn t;
    *value = attribute(&p, name);
    return sd_emu_result(*value < 0 ? cudaErrorInvalidValue : cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void)
{
    sd_emu_turn t;
    return sd_emu_result(sd_emu_unless_capturing(true));
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute name, int value)
{
    sd_emu_turn t;
    if (name != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return sd_emu_result(name == cudaFuncAttributePreferredSharedMemoryCarveout ? cudaSuccess
                                                                                    : cudaErrorInvalidValue);
    if (value < 0 || size_t(value) > SD_EMU_SHARED_MAX)
        return sd_emu_result(cudaErrorInvalidValue);
    opt_in *o = opt_ins;
    while (o && o->kernel != kernel)
        o = o->next;
    if (!o) {
        o = static_cast<opt_in *>(malloc(sizeof *o));
        if (!o)
            return sd_emu_result(cudaErrorMemoryAllocation);
        o->next = opt_ins;
        opt_ins = o;
    }
    o->kernel = kernel;
    o->bytes = size_t(value);
    return sd_emu_result(cudaSuccess);
}

/* --- memory --- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    sd_emu_turn t;
    *p = nullptr;
    return sd_emu_result(lost ? lost : allocate(p, bytes, false));
}

cudaError_t cudaFree(void *p)
{
    sd_emu_turn t;
    return sd_emu_result(release(p, false));
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    sd_emu_turn t;
    *p = nullptr;
    return sd_emu_result(lost ? lost : allocate(p, bytes, true));
}

cudaError_t cudaFreeHost(void *p)
{
    sd_emu_turn t;
    return sd_emu_result(release(p, true));
}

cudaError_t cudaMemGetInfo(size_t *unused, size_t *all)
{
    sd_emu_turn t;
    *all = total();
    *unused = used < *all ? *all - used : 0;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    sd_emu_turn t;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
        return sd_emu_result(cudaErrorInvalidMemcpyDirection);
    if (!bytes)
        return sd_emu_result(cudaSuccess);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        to_device = find(to, bytes) && !find(to, bytes)->host;
        from_device = find(from, bytes) && !find(from, bytes)->host;
    }
    if (!lies_in(to_device, to, bytes) || !lies_in(from_device, from, bytes))
        return sd_emu_result(cudaErrorInvalidValue);
    copy c = {to, from, bytes};
    return sd_emu_result(sd_emu_submit(stream, run_copy, &c, sizeof c));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    sd_emu_turn t;
    if (!bytes)
        return sd_emu_result(cudaSuccess);
    if (!lies_in(true, p, bytes))
        return sd_emu_result(cudaErrorInvalidValue);
    fill f = {p, byte, bytes};
    return sd_emu_result(sd_emu_submit(stream, run_fill, &f, sizeof f));
}

cudaError_t cudaMemset(void *p, int byte, size_t bytes)
{
    return cudaMemsetAsync(p, byte, bytes, nullptr);
}
