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

struct sd_backend {
    const char *name;
    bool share_small; /* run small plans on all threads too, which is slower: for tests of what threads do */
    const struct sd_kernel *const *kernel; /* [SD_OP_COUNT] */
    void (*free)(struct sd_backend *b);
    /* A frozen variable as plain dense memory of dtype, made at most once; NULL with err set when memory is
     * out. */
    const void *(*frozen)(struct sd_backend *b, struct sd_var *var, enum sd_dtype dtype, struct sd_err *err);
    size_t (*frozen_bytes)(const struct sd_backend *b); /* memory held for converted and packed weights */
};

/* "ref" or "cpu". NULL with err set for a name that is not built in or cannot run here. */
struct sd_backend *sd_backend_new(const char *name, struct sd_err *err);
void sd_backend_free(struct sd_backend *b);

#endif
