/* The cuda backend: the device and its stream, memory of variables, recordings. */
#include "products.h"

extern "C" {
#include "base/err.h"
#include "tensor/plugin.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Device memory of a variable. */
struct sd_cuda_memory {
    struct sd_cuda_memory *next;
    const struct sd_var *var;
    enum sd_dtype dtype;
    void *data;
    bool placed; /* data is not ours */
};

int sd_cuda_check(cudaError_t status, const char *what, struct sd_err *err)
{
    if (status == cudaSuccess)
        return 0;
    cudaGetLastError(); /* told here, so not again by wait(); what broke the device stays all the same */
    return sd_err_set(err, SD_ERR_MACHINE, "%s: %s", what, cudaGetErrorString(status));
}

static struct sd_cuda *of(struct sd_backend *b)
{
    return reinterpret_cast<struct sd_cuda *>(b);
}

/* --- memory --- */

void *sd_cuda_alloc(struct sd_cuda *cuda, size_t bytes, struct sd_err *err)
{
    void *p = NULL;
    size_t free_bytes = 0, total = 0;
    cudaError_t status = cudaMalloc(&p, bytes ? bytes : 1);
    if (status == cudaSuccess)
        return p;
    cudaGetLastError(); /* running out of memory is not a broken device */
    if (status != cudaErrorMemoryAllocation || cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
        sd_cuda_check(status, "memory of the device", err);
    else
        sd_err_set(
            err, SD_ERR_MACHINE,
            "cuda:%d has no %zu MiB more: %zu of its %zu MiB are free, and this program holds %zu MiB of "
            "weights",
            cuda->device, (bytes + (1 << 20) - 1) >> 20, free_bytes >> 20, total >> 20,
            cuda->frozen_bytes >> 20);
    return NULL;
}

void sd_cuda_free(void *memory)
{
    if (memory)
        cudaFree(memory);
}

/* Waits: the host's memory is the caller's again. On the stream, for others are not ordered with it. */
static int transfer(struct sd_cuda *cuda, void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                    struct sd_err *err)
{
    cudaError_t status = bytes ? cudaMemcpyAsync(to, from, bytes, kind, cuda->stream) : cudaSuccess;
    if (status == cudaSuccess)
        status = cudaStreamSynchronize(cuda->stream);
    return sd_cuda_check(status,
                         kind == cudaMemcpyHostToDevice ? "copy to the device" : "copy from the device", err);
}

/* Device memory filled from the host's; NULL with err set. */
static void *copy(struct sd_cuda *cuda, const void *host, size_t bytes, struct sd_err *err)
{
    void *p = sd_cuda_alloc(cuda, bytes, err);
    if (p && transfer(cuda, p, host, bytes, cudaMemcpyHostToDevice, err)) {
        sd_cuda_free(p);
        return NULL;
    }
    return p;
}

static size_t bytes_of(const struct sd_var *v, enum sd_dtype dtype)
{
    return static_cast<size_t>(sd_var_count(v)) * sd_dtype_size(dtype);
}

static unsigned bucket_of(const struct sd_var *var)
{
    return static_cast<unsigned>((reinterpret_cast<uintptr_t>(var) >> 4) * 0x9e3779b97f4a7c15u >> 55);
}
static_assert(SD_CUDA_BUCKETS == 1 << (64 - 55), "as many as the hash has values");

static struct sd_cuda_memory *find(struct sd_cuda_memory *const *table, const struct sd_var *var,
                                   enum sd_dtype dtype)
{
    struct sd_cuda_memory *m = table[bucket_of(var)];
    while (m && (m->var != var || m->dtype != dtype))
        m = m->next;
    return m;
}

/* data is freed with the entry unless it is placed, and at once where none can be made. */
static void *add(struct sd_cuda_memory **table, const struct sd_var *var, enum sd_dtype dtype, void *data,
                 bool placed, struct sd_err *err)
{
    struct sd_cuda_memory *m = data ? static_cast<struct sd_cuda_memory *>(malloc(sizeof *m)) : NULL;
    struct sd_cuda_memory **head = &table[bucket_of(var)];
    if (!m) {
        if (data)
            sd_err_memory(err, sizeof *m);
        if (!placed)
            sd_cuda_free(data);
        return NULL;
    }
    m->placed = placed;
    m->next = *head;
    m->var = var;
    m->dtype = dtype;
    m->data = data;
    *head = m;
    return data;
}

static void free_memory(struct sd_cuda_memory *m)
{
    if (!m->placed)
        sd_cuda_free(m->data);
    free(m);
}

static void free_table(struct sd_cuda_memory **table)
{
    for (int i = 0; i < SD_CUDA_BUCKETS; i++)
        for (struct sd_cuda_memory *m = table[i], *next; m; m = next) {
            next = m->next;
            free_memory(m);
        }
}

/* Converted on the host, a variable at a time: the file's pages are then not needed again. */
void *sd_cuda_upload(struct sd_cuda *cuda, const struct sd_var *var, enum sd_dtype dtype, struct sd_err *err)
{
    if (var->dtype == dtype) {
        void *p = copy(cuda, var->data, bytes_of(var, dtype), err);
        sd_var_drop_pages(var);
        return p;
    }
    struct sd_frozen once = {};
    const void *host = sd_frozen_get(&once, var, dtype, err);
    void *p = host ? copy(cuda, host, bytes_of(var, dtype), err) : NULL;
    sd_frozen_free(&once);
    return p;
}

static const void *frozen(struct sd_backend *b, struct sd_var *var, enum sd_dtype dtype, struct sd_err *err)
{
    struct sd_cuda *cuda = of(b);
    struct sd_cuda_memory *m = find(cuda->frozen, var, dtype);
    if (m)
        return m->data;
    void *p = add(cuda->frozen, var, dtype, sd_cuda_upload(cuda, var, dtype, err), false, err);
    cuda->frozen_bytes += p ? bytes_of(var, dtype) : 0;
    return p;
}

static size_t frozen_bytes(const struct sd_backend *b)
{
    return reinterpret_cast<const struct sd_cuda *>(b)->frozen_bytes;
}

static void *state(struct sd_backend *b, struct sd_var *var, struct sd_err *err)
{
    struct sd_cuda *cuda = of(b);
    struct sd_cuda_memory *m = find(cuda->states, var, var->dtype);
    if (m)
        return m->data;
    return add(cuda->states, var, var->dtype, copy(cuda, var->state, bytes_of(var, var->dtype), err), false,
               err);
}

static int place(struct sd_backend *b, struct sd_var *var, void *memory, struct sd_err *err)
{
    struct sd_cuda *cuda = of(b);
    if (find(cuda->states, var, var->dtype))
        return sd_err_set(err, SD_ERR_MACHINE, "%s has memory of the device already", var->name);
    if (transfer(cuda, memory, var->state, bytes_of(var, var->dtype), cudaMemcpyHostToDevice, err) ||
        !add(cuda->states, var, var->dtype, memory, true, err))
        return -1;
    return 0;
}

static int push(struct sd_backend *b, const struct sd_var *var, struct sd_err *err)
{
    struct sd_cuda_memory *m = find(of(b)->states, var, var->dtype);
    return m ? transfer(of(b), m->data, var->state, bytes_of(var, var->dtype), cudaMemcpyHostToDevice, err)
             : 0;
}

/* What fails here shows in wait(). */
static void copy_in(struct sd_backend *b, void *device, const void *host, size_t bytes)
{
    if (bytes)
        cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, of(b)->stream);
}

static void copy_out(struct sd_backend *b, void *host, const void *device, size_t bytes)
{
    if (bytes)
        cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, of(b)->stream);
}

static int wait(struct sd_backend *b, struct sd_err *err)
{
    char what[32];
    snprintf(what, sizeof what, "cuda:%d", of(b)->device);
    cudaError_t launched = cudaGetLastError(), done = cudaStreamSynchronize(of(b)->stream);
    const struct sd_err *refused = sd_cuda_run_error(of(b));
    if (launched != cudaSuccess || done != cudaSuccess || !refused)
        return sd_cuda_check(launched != cudaSuccess ? launched : done, what, err);
    return sd_err_set(err, SD_ERR_MACHINE, "%s: %s", what, refused->msg);
}

static void *alloc_host(struct sd_backend *, size_t bytes, struct sd_err *err)
{
    void *p = NULL;
    return sd_cuda_check(cudaMallocHost(&p, bytes), "pinned memory", err) ? NULL : p;
}

static void release_host(struct sd_backend *, void *memory)
{
    if (memory)
        cudaFreeHost(memory);
}

static int pull(struct sd_backend *b, const struct sd_var *var, struct sd_err *err)
{
    struct sd_cuda_memory *m = find(of(b)->states, var, var->dtype);
    return m ? transfer(of(b), var->state, m->data, bytes_of(var, var->dtype), cudaMemcpyDeviceToHost, err)
             : 0;
}

static void drop(struct sd_backend *b, const struct sd_var *var)
{
    struct sd_cuda_memory **at = &of(b)->states[bucket_of(var)];
    while (*at && (*at)->var != var)
        at = &(*at)->next;
    if (struct sd_cuda_memory *m = *at) {
        *at = m->next;
        free_memory(m);
    }
}

static void *alloc(struct sd_backend *b, size_t bytes, struct sd_err *err)
{
    return sd_cuda_alloc(of(b), bytes, err);
}

static void release(struct sd_backend *, void *memory)
{
    sd_cuda_free(memory);
}

/* --- order --- */

static int record(struct sd_backend *b, struct sd_err *err)
{
    return sd_cuda_check(cudaStreamBeginCapture(of(b)->stream, cudaStreamCaptureModeThreadLocal),
                         "recording a run", err);
}

static void *recorded(struct sd_backend *b, struct sd_err *err)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    int rc = sd_cuda_check(cudaStreamEndCapture(of(b)->stream, &graph), "recording a run", err);
    if (!rc)
        rc = sd_cuda_check(cudaGraphInstantiate(&exec, graph, 0), "making a graph of a run", err);
    if (graph)
        cudaGraphDestroy(graph);
    return rc ? NULL : exec;
}

static void replay(struct sd_backend *b, void *recording)
{
    cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), of(b)->stream);
}

static void forget(struct sd_backend *, void *recording)
{
    cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording));
}

template <bool records>
static constexpr struct sd_device device = {
    .alloc = alloc,
    .release = release,
    .alloc_host = alloc_host,
    .release_host = release_host,
    .copy_in = copy_in,
    .copy_out = copy_out,
    .wait = wait,
    .record = records ? record : nullptr,
    .recorded = recorded,
    .replay = replay,
    .forget = forget,
    .state = state,
    .place = place,
    .push = push,
    .pull = pull,
    .drop = drop,
};

/* --- kernels --- */

int sd_cuda_plan_floats(struct sd_call *c, struct sd_err *err)
{
    const struct sd_node *n = c->node;
    for (int i = 0; i < n->n_in + n->n_out; i++) {
        const struct sd_tensor *t = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
        if (t && t->dtype != SD_F32 && t->dtype != SD_F16 && t->dtype != SD_BF16)
            return sd_err_set(err, SD_ERR_MACHINE, "cuda has no %s of %s", sd_op_name(n->op),
                              sd_dtype_name(t->dtype));
    }
    return 0;
}

/* By enum sd_op; input, var and reshape never run. C++ has no array designators, so the order is ops.def's.
 */
static const struct sd_kernel *const kernels[SD_OP_COUNT] = {
#define OP(name, ...)                                                                         \
    SD_OP_##name == SD_OP_input || SD_OP_##name == SD_OP_var || SD_OP_##name == SD_OP_reshape \
        ? NULL                                                                                \
        : &sd_cuda_##name,
#include "tensor/ops.def"
#undef OP
};

/* --- from open to free --- */

static void free_backend(struct sd_backend *b)
{
    struct sd_cuda *cuda = of(b);
    if (cuda->stream)
        cudaStreamSynchronize(cuda->stream);
    sd_cuda_products_free(cuda);
    sd_cuda_libraries_close(cuda->libraries);
    if (cuda->stream) /* after the libraries, which know it */
        cudaStreamDestroy(cuda->stream);
    free_table(cuda->frozen);
    free_table(cuda->states);
    free(cuda);
}

static uint64_t threads_of(int index)
{
    int processors = 0, threads = 0;
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, index);
    cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, index);
    return static_cast<uint64_t>(processors) * static_cast<uint64_t>(threads / 256 * 256);
}

static struct sd_backend *open_backend(int index, struct sd_err *err)
{
    if (sd_cuda_check_device(index, err))
        return NULL;
    struct sd_cuda *cuda = static_cast<struct sd_cuda *>(calloc(1, sizeof *cuda));
    if (!cuda) {
        sd_err_memory(err, sizeof *cuda);
        return NULL;
    }
    cuda->base.name = "cuda";
    cuda->base.kernel = kernels;
    cuda->base.free = free_backend;
    cuda->base.frozen = frozen;
    cuda->base.frozen_bytes = frozen_bytes;
    cuda->base.threads = threads_of(index);
    cuda->device = index;
    if (sd_cuda_products_make(cuda, err) || sd_cuda_check(cudaSetDevice(index), "cuda", err) ||
        sd_cuda_check(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "cuda", err)) {
        free_backend(&cuda->base);
        return NULL;
    }
    cuda->base.device = sd_cuda_allows(cuda, SD_CUDA_GRAPHS) ? &device<true> : &device<false>;
    return &cuda->base;
}

extern "C" __attribute__((visibility("default"))) const struct sd_plugin sd_plugin = {
    .version = SD_PLUGIN_VERSION,
    .call_bytes = sizeof(struct sd_call),
    .node_bytes = sizeof(struct sd_node),
    .ops = SD_OP_COUNT,
    .name = "cuda",
    .count = sd_cuda_count,
    .describe = sd_cuda_describe,
    .open = open_backend,
};
