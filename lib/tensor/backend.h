/* Backends: how ops run on a device. A backend is a table with one kernel an op; an empty entry means "not
 * supported", there is no second list.
 *
 * plan() runs once when a graph is compiled: it picks and builds primitives, packs frozen weights, declares
 * scratch; it may allocate. run() may only enqueue: no allocation, no wait, no number that changes from step
 * to step passed by value (those live in input tensors), so that a device backend can capture a whole step
 * and replay it. */
#ifndef SD_TENSOR_BACKEND_H
#define SD_TENSOR_BACKEND_H

#include "tensor/graph.h"

struct sd_backend;

/* One node made ready for a backend. */
struct sd_call {
    struct sd_backend *backend;
    const struct sd_graph *graph;
    const struct sd_node *node;
    void **in,
        **out; /* memory of the node's tensors, NULL where the tensor is NULL; set before the first run */
    bool *in_unused; /* plan() sets [i] when it holds its own packed copy of frozen in[i]: in[i] may stay NULL
                      */
    void *scratch;   /* shared by all calls of a plan, 64-byte aligned */
    size_t scratch_bytes; /* set by plan() */
    void *state;          /* the kernel's own */
};

struct sd_kernel {
    int (*plan)(struct sd_call *c, struct sd_err *err); /* may be NULL: nothing to prepare */
    void (*run)(const struct sd_call *c);
    void (*drop)(struct sd_call *c); /* may be NULL; frees state */
};

/* Memory and order of a backend that computes beside the host. Copies, kernels and replays happen in the
 * order they were enqueued; a failure among them shows in the next wait(), and the backend is of no use after
 * it. */
struct sd_device {
    void *(*alloc)(struct sd_backend *b, size_t bytes,
                   struct sd_err *err); /* 256-byte aligned, on the device */
    void (*release)(struct sd_backend *b, void *memory);
    void *(*alloc_host)(struct sd_backend *b, size_t bytes, struct sd_err *err); /* for copies below */
    void (*release_host)(struct sd_backend *b, void *memory);
    void (*copy_in)(struct sd_backend *b, void *device, const void *host, size_t bytes);
    void (*copy_out)(struct sd_backend *b, void *host, const void *device, size_t bytes);
    int (*wait)(struct sd_backend *b, struct sd_err *err); /* until all that was enqueued is done */
    /* What is enqueued between record and recorded does not run: it becomes a recording, NULL with err set
     * when it cannot be one. record is NULL where nothing is recorded. */
    int (*record)(struct sd_backend *b, struct sd_err *err);
    void *(*recorded)(struct sd_backend *b, struct sd_err *err);
    void (*replay)(struct sd_backend *b, void *recording);
    void (*forget)(struct sd_backend *b, void *recording);
    /* The device's memory of a mutable variable, filled from var->state when it is made. */
    void *(*state)(struct sd_backend *b, struct sd_var *var, struct sd_err *err);
    /* Makes memory of the device, which stays the caller's, that of a mutable variable which has none yet,
     * and fills it. 0 or -1. */
    int (*place)(struct sd_backend *b, struct sd_var *var, void *memory, struct sd_err *err);
    int (*push)(struct sd_backend *b, const struct sd_var *var, struct sd_err *err); /* sd_var_push, _pull */
    int (*pull)(struct sd_backend *b, const struct sd_var *var, struct sd_err *err);
    void (*drop)(struct sd_backend *b, const struct sd_var *var); /* sd_var_drop */
};

struct sd_backend {
    const char *name;
    const struct sd_device *device; /* NULL: computes in the host's memory */
    uint64_t threads; /* of a device, that it runs at once, as PyTorch counts them (base/philox.h); else 0 */
    bool tf32;        /* products of f32 may round their factors to TF32, where the device has it */
    bool share_small; /* run small plans on all threads too, which is slower: for tests of what threads do */
    const struct sd_kernel *const *kernel; /* [SD_OP_COUNT] */
    void (*free)(struct sd_backend *b);
    /* A frozen variable as plain dense memory of dtype where the backend computes, made at most once; NULL
     * with err set when memory is out. */
    const void *(*frozen)(struct sd_backend *b, struct sd_var *var, enum sd_dtype dtype, struct sd_err *err);
    size_t (*frozen_bytes)(const struct sd_backend *b); /* memory held for converted and packed weights */
};

/* "ref", "cpu", or "cuda" with ":N" for the card of that number (plugin.h). NULL with err set for a name that
 * is none of these or cannot run here. Variables must outlive the backends that used them, but for mutable
 * ones that were dropped. */
struct sd_backend *sd_backend_new(const char *name, struct sd_err *err);
void sd_backend_free(struct sd_backend *b);

/* A device has mutable variables in memory of its own. Whoever writes var->state between runs pushes it
 * after, whoever reads it pulls it before; both do nothing where the host computes, and for variables that no
 * plan of the backend has. 0, or -1 when the device failed. */
int sd_var_push(struct sd_backend *b, const struct sd_var *var, struct sd_err *err);
int sd_var_pull(struct sd_backend *b, const struct sd_var *var, struct sd_err *err);
/* Ends a device's memory of a mutable variable, after the plans that have it. */
void sd_var_drop(struct sd_backend *b, const struct sd_var *var);

#endif
