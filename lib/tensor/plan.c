#include "tensor/plan.h"

#include "base/progress.h"
#include "tensor/layout.h"
#include "tensor/pass.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#define NOWHERE SIZE_MAX

struct sd_plan {
    const struct sd_graph *graph;
    struct sd_backend *backend;
    struct sd_layout layout;
    struct sd_call *calls;
    int n_calls;
    void **pointers; /* storage behind calls' in and out */
    bool *unused;
    struct sd_workspace *workspace, own;
    unsigned generation; /* of the workspace when the calls were bound to it */
    size_t scratch_bytes;
    char *mirror;      /* device: the host's side of inputs and outputs */
    size_t *mirror_at; /* by tensor id; NOWHERE: not in it */
    bool warm; /* device: ran once since it was bound, so that libraries have made what they make late */
    void *recording;
    unsigned bound; /* how often it was bound to memory */
    void *joint;    /* recording of this plan and another behind it, as it was bound then */
    struct sd_plan *next;
    unsigned next_bound;
    bool serial; /* one thread: its nodes are too small to share */
    bool profile;
    double seconds[SD_OP_COUNT];
};

static bool runs(const struct sd_node *n)
{
    return n->op != SD_OP_input && n->op != SD_OP_var && n->op != SD_OP_reshape;
}

/* --- calls --- */

static int plan_kernels(struct sd_plan *p, struct sd_err *err)
{
    for (int i = 0; i < p->n_calls; i++) {
        struct sd_call *c = &p->calls[i];
        const struct sd_kernel *k = p->backend->kernel[c->node->op];
        if (!k)
            return sd_err_set(err, SD_ERR_MACHINE, "the %s backend has no %s", p->backend->name,
                              sd_op_name(c->node->op));
        if (k->plan && k->plan(c, err))
            return sd_err_prefix(err, "%s", sd_op_name(c->node->op));
        if (c->scratch_bytes > p->scratch_bytes)
            p->scratch_bytes = c->scratch_bytes;
    }
    return 0;
}

static void *address(struct sd_plan *p, const struct sd_tensor *t, struct sd_err *err)
{
    const struct sd_tensor *root = t;
    while (root->node->op == SD_OP_reshape)
        root = root->node->in[0];
    if (root->node->op == SD_OP_var) {
        struct sd_var *v = root->node->attr.var;
        if (!v->state)
            return (void *)p->backend->frozen(p->backend, v, root->dtype, err);
        return p->backend->device ? p->backend->device->state(p->backend, v, err) : v->state;
    }
    return p->workspace->arena + p->layout.buffers[p->layout.buffer_of[t->id]].offset;
}

static void forget(struct sd_plan *p)
{
    if (p->recording)
        p->backend->device->forget(p->backend, p->recording);
    if (p->joint)
        p->backend->device->forget(p->backend, p->joint);
    p->recording = p->joint = NULL;
    p->warm = false;
}

static int bind_memory(struct sd_plan *p, struct sd_err *err)
{
    forget(p);
    p->bound++;
    p->generation = p->workspace->generation;
    for (int i = 0; i < p->n_calls; i++) {
        struct sd_call *c = &p->calls[i];
        c->scratch = p->workspace->scratch;
        for (int k = 0; k < c->node->n_in; k++)
            if (c->node->in[k] && !c->in_unused[k] && !(c->in[k] = address(p, c->node->in[k], err)))
                return -1;
        for (int k = 0; k < c->node->n_out; k++)
            if (c->node->out[k])
                c->out[k] = address(p, c->node->out[k], err);
    }
    return 0;
}

static int make_calls(struct sd_plan *p, struct sd_err *err)
{
    const struct sd_graph *g = p->graph;
    size_t slots = 1, ins = 1, n = 1;
    for (int i = 0; i < g->n_nodes; i++) {
        slots += (size_t)(g->nodes[i]->n_in + g->nodes[i]->n_out);
        ins += (size_t)g->nodes[i]->n_in;
        n += runs(g->nodes[i]);
    }
    p->calls = calloc(n, sizeof *p->calls);
    p->pointers = calloc(slots, sizeof *p->pointers);
    p->unused = calloc(ins, sizeof *p->unused);
    if (!p->calls || !p->pointers || !p->unused)
        return sd_err_memory(err, n * sizeof *p->calls);
    void **slot = p->pointers;
    bool *unused = p->unused;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct sd_node *node = g->nodes[i];
        if (!runs(node))
            continue;
        struct sd_call *c = &p->calls[p->n_calls++];
        *c = (struct sd_call){.backend = p->backend,
                              .graph = g,
                              .node = node,
                              .in = slot,
                              .out = slot + node->n_in,
                              .in_unused = unused};
        slot += node->n_in + node->n_out;
        unused += node->n_in;
    }
    return 0;
}

static bool is_outside(const struct sd_tensor *t)
{
    return t->output || t->node->op == SD_OP_input;
}

/* Inputs and outputs are written and read in memory of the host, which copies connect with the arena. */
static int make_mirror(struct sd_plan *p, struct sd_err *err)
{
    const struct sd_graph *g = p->graph;
    size_t bytes = 0;
    p->mirror_at = malloc(((size_t)g->n_tensors + 1) * sizeof *p->mirror_at);
    if (!p->mirror_at)
        return sd_err_memory(err, (size_t)g->n_tensors * sizeof *p->mirror_at);
    for (int i = 0; i < g->n_tensors; i++) {
        const struct sd_tensor *t = g->tensors[i];
        p->mirror_at[i] = is_outside(t) ? bytes : NOWHERE;
        bytes += is_outside(t) ? sd_layout_align(sd_tensor_bytes(t)) : 0;
    }
    p->mirror = p->backend->device->alloc_host(p->backend, bytes + 1, err);
    return p->mirror ? 0 : -1;
}

/* Below this many operations a node on average, waking the other threads costs more than they bring. */
#define SHARED_FLOPS 4e6

/* Sets the number of threads that p is compiled for and runs on; comes back with what it was. Threads never
 * change a result, so a small plan may run on one. */
static int take_threads(const struct sd_plan *p)
{
    int before = omp_get_max_threads();
    if (p->serial)
        omp_set_num_threads(1);
    return before;
}

int sd_plan_arena_bytes(const struct sd_graph *g, size_t *bytes, struct sd_err *err)
{
    struct sd_layout l = {0};
    int rc = sd_graph_verify(g, err) ? -1 : sd_layout_make(g, &l, err);
    *bytes = l.arena;
    sd_layout_free(&l);
    return rc;
}

struct sd_plan *sd_plan_new_in(const struct sd_graph *g, struct sd_backend *b, struct sd_workspace *w,
                               struct sd_err *err)
{
    struct sd_plan *p = calloc(1, sizeof *p);
    if (!p) {
        sd_err_memory(err, sizeof *p);
        return NULL;
    }
    p->graph = g;
    p->backend = b;
    p->workspace = w ? w : &p->own;
    p->serial = !b->share_small && sd_graph_flops(g) < SHARED_FLOPS * g->n_nodes;
    int threads = take_threads(p);
    bool bad = sd_graph_verify(g, err) || sd_layout_make(g, &p->layout, err) || make_calls(p, err) ||
               plan_kernels(p, err) ||
               sd_workspace_claim(p->workspace, b, p->layout.arena, p->scratch_bytes, err) ||
               bind_memory(p, err) || (b->device && make_mirror(p, err));
    omp_set_num_threads(threads);
    if (bad) {
        sd_plan_free(p);
        return NULL;
    }
    return p;
}

struct sd_plan *sd_plan_new(const struct sd_graph *g, struct sd_backend *b, struct sd_err *err)
{
    return sd_plan_new_in(g, b, NULL, err);
}

void sd_plan_free(struct sd_plan *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_calls; i++) {
        const struct sd_kernel *k = p->backend->kernel[p->calls[i].node->op];
        if (k && k->drop)
            k->drop(&p->calls[i]);
    }
    if (p->backend->device) {
        p->backend->device->wait(p->backend, NULL); /* whoever runs it no longer needs it */
        forget(p);
        p->backend->device->release_host(p->backend, p->mirror);
    }
    free(p->mirror_at);
    sd_layout_free(&p->layout);
    free(p->calls);
    free(p->pointers);
    free(p->unused);
    sd_workspace_free(&p->own);
    free(p);
}

static void run_calls(struct sd_plan *p)
{
    int threads = take_threads(p);
    for (int i = 0; i < p->n_calls; i++) {
        const struct sd_call *c = &p->calls[i];
        int64_t start = p->profile ? sd_clock_ns() : 0;
        p->backend->kernel[c->node->op]->run(c);
        if (p->profile && p->backend->device)
            p->backend->device->wait(p->backend, NULL);
        if (p->profile)
            p->seconds[c->node->op] += 1e-9 * (double)(sd_clock_ns() - start);
    }
    omp_set_num_threads(threads);
}

/* Inputs in, everything, outputs out: what a device can record, since no address and no number of it changes.
 */
static void enqueue(struct sd_plan *p)
{
    const struct sd_device *d = p->backend->device;
    const struct sd_graph *g = p->graph;
    for (int i = 0; i < g->n_tensors; i++)
        if (g->tensors[i]->node->op == SD_OP_input && p->layout.buffer_of[i] >= 0)
            d->copy_in(p->backend, address(p, g->tensors[i], NULL), p->mirror + p->mirror_at[i],
                       sd_tensor_bytes(g->tensors[i]));
    run_calls(p);
    for (int i = 0; i < g->n_tensors; i++)
        if (g->tensors[i]->output && p->layout.buffer_of[i] >= 0)
            d->copy_out(p->backend, p->mirror + p->mirror_at[i], address(p, g->tensors[i], NULL),
                        sd_tensor_bytes(g->tensors[i]));
}

/* The recording of p, and of next behind it where there is one; NULL with err set. */
static void *record(struct sd_plan *p, struct sd_plan *next, struct sd_err *err)
{
    const struct sd_device *d = p->backend->device;
    if (d->record(p->backend, err))
        return NULL;
    enqueue(p);
    if (next)
        enqueue(next);
    return d->recorded(p->backend, err);
}

static bool replays(const struct sd_plan *p)
{
    return p->backend->device && p->backend->device->record && p->warm && !p->profile;
}

/* Another plan may have made the workspace grow. */
static int rebind(struct sd_plan *p, struct sd_err *err)
{
    return p->generation != p->workspace->generation ? bind_memory(p, err) : 0;
}

int sd_plan_start(struct sd_plan *p, struct sd_err *err)
{
    if (rebind(p, err))
        return -1;
    if (replays(p)) {
        if (!p->recording && !(p->recording = record(p, NULL, err)))
            return -1;
        p->backend->device->replay(p->backend, p->recording);
    } else if (p->backend->device) {
        enqueue(p);
        p->warm = true;
    } else {
        run_calls(p);
    }
    return 0;
}

int sd_plan_start_with(struct sd_plan *p, struct sd_plan *next, struct sd_err *err)
{
    if (rebind(p, err) || rebind(next, err))
        return -1;
    if (!replays(p) || !replays(next))
        return sd_plan_start(p, err) || sd_plan_start(next, err) ? -1 : 0;
    if (p->joint && (p->next != next || p->next_bound != next->bound)) {
        p->backend->device->forget(p->backend, p->joint);
        p->joint = NULL;
    }
    if (!p->joint && !(p->joint = record(p, next, err)))
        return -1;
    p->next = next;
    p->next_bound = next->bound;
    p->backend->device->replay(p->backend, p->joint);
    return 0;
}

int sd_plan_wait(struct sd_plan *p, struct sd_err *err)
{
    return p->backend->device ? p->backend->device->wait(p->backend, err) : 0;
}

int sd_plan_run(struct sd_plan *p, struct sd_err *err)
{
    return sd_plan_start(p, err) || sd_plan_wait(p, err) ? -1 : 0;
}

void *sd_plan_data(struct sd_plan *p, const struct sd_tensor *t)
{
    return p->backend->device ? p->mirror + p->mirror_at[t->id] : address(p, t, NULL);
}

struct sd_plan_memory sd_plan_memory(const struct sd_plan *p)
{
    return (struct sd_plan_memory){.arena = p->layout.arena,
                                   .scratch = p->scratch_bytes,
                                   .frozen = p->backend->frozen_bytes(p->backend),
                                   .live = p->layout.live};
}

void sd_plan_profile(struct sd_plan *p, bool on)
{
    p->profile = on;
}

double sd_plan_seconds(const struct sd_plan *p, enum sd_op op)
{
    return p->seconds[op];
}
