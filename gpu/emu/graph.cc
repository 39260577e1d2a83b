/* Streams, events, and the capture of streams into graphs. An operation is a function and a copy of its
 * arguments: done at once, or, when its stream is being captured, put at the end of the graph. The order of
 * the host's calls keeps every dependence between streams that events can express. */
#include "emu.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

namespace
{

struct operation {
    struct operation *next;
    void (*run)(const void *);
    alignas(16) char args[];
};

struct operations {
    int holders; /* the graph, and what was instantiated from it */
    struct operation *first, **end;
};

uint64_t captures; /* begun in this process */

} // namespace

struct CUgraph_st {
    operations *list;
    uint64_t capture; /* which of captures */
    cudaStream_t origin;
    cudaStreamCaptureMode mode;
    pthread_t thread;
    bool spoilt;
};

struct CUgraphExec_st {
    operations *list;
};

struct CUstream_st {
    unsigned flags;
    cudaGraph_t capture; /* NULL unless it is being captured */
    struct CUstream_st *next;
};

struct CUevent_st {
    unsigned flags;
    bool recorded;
    uint64_t capture; /* the one it was last recorded in, or 0 */
    struct timespec when;
};

static cudaStream_t streams;

static void let_go(operations *list)
{
    if (--list->holders)
        return;
    for (operation *o = list->first, *next; o; o = next) {
        next = o->next;
        free(o);
    }
    free(list);
}

static void free_graph(cudaGraph_t g)
{
    let_go(g->list);
    free(g);
}

static cudaGraph_t captured(cudaStream_t s)
{
    return s ? s->capture : nullptr;
}

static cudaError_t spoil(cudaGraph_t g, cudaError_t e)
{
    g->spoilt = true;
    return e;
}

/* The legacy stream waits for all streams that did not ask otherwise, which captured ones cannot grant. */
static cudaError_t check_legacy(cudaStream_t stream)
{
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = streams; s && !stream; s = s->next)
        if (s->capture && !(s->flags & cudaStreamNonBlocking))
            e = spoil(s->capture, cudaErrorStreamCaptureImplicit);
    return e;
}

cudaError_t sd_emu_unless_capturing(bool even_relaxed)
{
    cudaError_t e = cudaSuccess;
    for (cudaStream_t s = streams; s; s = s->next) {
        cudaGraph_t g = s->capture;
        if (g && (even_relaxed || g->mode == cudaStreamCaptureModeGlobal ||
                  (g->mode == cudaStreamCaptureModeThreadLocal && pthread_equal(g->thread, pthread_self()))))
            e = spoil(g, cudaErrorStreamCaptureUnsupported);
    }
    return e;
}

cudaError_t sd_emu_submit(cudaStream_t stream, void (*run)(const void *), const void *args, size_t bytes)
{
    if (cudaError_t e = sd_emu_lost())
        return e;
    if (cudaError_t e = check_legacy(stream))
        return e;
    cudaGraph_t g = captured(stream);
    if (!g) {
        run(args);
        return sd_emu_lost();
    }
    if (g->spoilt)
        return cudaErrorStreamCaptureInvalidated;
    operation *o = static_cast<operation *>(malloc(sizeof *o + bytes));
    if (!o)
        return spoil(g, cudaErrorMemoryAllocation);
    o->next = nullptr;
    o->run = run;
    memcpy(o->args, args, bytes);
    *g->list->end = o;
    g->list->end = &o->next;
    return cudaSuccess;
}

/* --- streams --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    sd_emu_turn t;
    *stream = nullptr;
    if (flags & ~unsigned(cudaStreamNonBlocking))
        return sd_emu_result(cudaErrorInvalidValue);
    cudaStream_t s = static_cast<cudaStream_t>(calloc(1, sizeof *s));
    if (!s)
        return sd_emu_result(cudaErrorMemoryAllocation);
    s->flags = flags;
    s->next = streams;
    *stream = streams = s;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

/* The streams that are part of a capture leave it. */
static void leave(cudaGraph_t g)
{
    for (cudaStream_t s = streams; s; s = s->next)
        if (s->capture == g)
            s->capture = nullptr;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    sd_emu_turn t;
    cudaStream_t *at = &streams;
    while (*at && *at != stream)
        at = &(*at)->next;
    if (!*at)
        return sd_emu_result(cudaErrorInvalidResourceHandle);
    cudaGraph_t g = stream->capture;
    if (g && g->origin == stream) {
        leave(g);
        free_graph(g);
    } else if (g) {
        spoil(g, cudaErrorStreamCaptureInvalidated);
    }
    *at = stream->next;
    free(stream);
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    sd_emu_turn t;
    if (cudaGraph_t g = captured(stream))
        return sd_emu_result(spoil(g, cudaErrorStreamCaptureUnsupported));
    return sd_emu_result(check_legacy(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return cudaStreamSynchronize(stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    sd_emu_turn t;
    cudaGraph_t from = nullptr, to = captured(stream);
    for (cudaStream_t s = streams; s; s = s->next)
        if (s->capture && event->capture == s->capture->capture)
            from = s->capture;
    if (from == to || (!event->recorded && !event->capture))
        return sd_emu_result(cudaSuccess);
    if (to)
        return sd_emu_result(spoil(to, cudaErrorStreamCaptureIsolation));
    if (!stream)
        return sd_emu_result(spoil(from, cudaErrorStreamCaptureImplicit));
    stream->capture = from;
    return sd_emu_result(cudaSuccess);
}

/* --- events --- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    sd_emu_turn t;
    *event = static_cast<cudaEvent_t>(calloc(1, sizeof **event));
    if (!*event)
        return sd_emu_result(cudaErrorMemoryAllocation);
    (*event)->flags = flags;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    sd_emu_turn t;
    free(event);
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    sd_emu_turn t;
    if (cudaError_t e = check_legacy(stream))
        return sd_emu_result(e);
    cudaGraph_t g = captured(stream);
    event->capture = g ? g->capture : 0;
    event->recorded = !g;
    clock_gettime(CLOCK_MONOTONIC, &event->when);
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    sd_emu_turn t;
    for (cudaStream_t s = streams; s; s = s->next)
        if (s->capture && event->capture == s->capture->capture)
            return sd_emu_result(spoil(s->capture, cudaErrorCapturedEvent));
    return sd_emu_result(event->capture ? cudaErrorCapturedEvent : cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return cudaEventSynchronize(event);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    sd_emu_turn t;
    if (!start->recorded || !end->recorded || (start->flags | end->flags) & cudaEventDisableTiming)
        return sd_emu_result(cudaErrorInvalidResourceHandle);
    *milliseconds = float(double(end->when.tv_sec - start->when.tv_sec) * 1e3 +
                          double(end->when.tv_nsec - start->when.tv_nsec) * 1e-6);
    return sd_emu_result(cudaSuccess);
}

/* --- graphs --- */

static cudaGraph_t new_graph(void)
{
    cudaGraph_t g = static_cast<cudaGraph_t>(calloc(1, sizeof *g));
    operations *list = static_cast<operations *>(calloc(1, sizeof *list));
    if (!g || !list) {
        free(g);
        free(list);
        return nullptr;
    }
    list->holders = 1;
    list->end = &list->first;
    g->list = list;
    return g;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    sd_emu_turn t;
    if (!stream)
        return sd_emu_result(cudaErrorStreamCaptureUnsupported);
    if (stream->capture)
        return sd_emu_result(spoil(stream->capture, cudaErrorIllegalState));
    cudaGraph_t g = new_graph();
    if (!g)
        return sd_emu_result(cudaErrorMemoryAllocation);
    g->capture = ++captures;
    g->origin = stream;
    g->mode = mode;
    g->thread = pthread_self();
    stream->capture = g;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    sd_emu_turn t;
    cudaGraph_t g = captured(stream);
    *graph = nullptr;
    if (!g)
        return sd_emu_result(cudaErrorIllegalState);
    if (g->origin != stream)
        return sd_emu_result(spoil(g, cudaErrorStreamCaptureUnmatched));
    leave(g);
    if (g->spoilt || sd_emu_lost()) {
        free_graph(g);
        return sd_emu_result(cudaErrorStreamCaptureInvalidated);
    }
    *graph = g;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    sd_emu_turn t;
    cudaGraph_t g = captured(stream);
    *status = !g          ? cudaStreamCaptureStatusNone
              : g->spoilt ? cudaStreamCaptureStatusInvalidated
                          : cudaStreamCaptureStatusActive;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    sd_emu_turn t;
    *exec = nullptr;
    if (cudaError_t e = sd_emu_lost())
        return sd_emu_result(e);
    *exec = static_cast<cudaGraphExec_t>(malloc(sizeof **exec));
    if (!*exec)
        return sd_emu_result(cudaErrorMemoryAllocation);
    (*exec)->list = graph->list;
    graph->list->holders++;
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream)
{
    sd_emu_turn t;
    return sd_emu_result(captured(stream) ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    sd_emu_turn t;
    if (cudaGraph_t g = captured(stream)) /* a device would take it as a part; nobody asks for that here */
        return sd_emu_result(spoil(g, cudaErrorStreamCaptureUnsupported));
    if (cudaError_t e = check_legacy(stream))
        return sd_emu_result(e);
    for (const operation *o = exec->list->first; o && !sd_emu_lost(); o = o->next)
        o->run(o->args);
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    sd_emu_turn t;
    let_go(exec->list);
    free(exec);
    return sd_emu_result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    sd_emu_turn t;
    free_graph(graph);
    return sd_emu_result(cudaSuccess);
}
