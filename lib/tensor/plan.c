#include "tensor/plan.h"

#include "tensor/layout.h"
#include "tensor/pass.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ALIGN ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

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
    bool serial; /* one thread: its nodes are too small to share */
    bool profile;
    double seconds[SD_OP_COUNT];
};

static bool runs(const struct sd_node *n)
{
    return n->op != SD_OP_input && n->op != SD_OP_var && n->op != SD_OP_reshape;
}

/* --- calls
 * ------------------------------------------------------------------------------------------------------ */

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
        return v->state ? v->state : (void *)p->backend->frozen(p->backend, v, root->dtype, err);
    }
    return p->workspace->arena + p->layout.buffers[p->layout.buffer_of[t->id]].offset;
}

static int bind_memory(struct sd_plan *p, struct sd_err *err)
{
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

/* The kernel promises memory it has not got; asking it for the real amount beats being killed half-way. */
static int fits_machine(size_t bytes, struct sd_err *err)
{
    size_t pages = (size_t)sysconf(_SC_PHYS_PAGES), page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes / page < pages)
        return 0;
    return sd_err_set(err, SD_ERR_MACHINE,
                      "this size needs %zu MiB of activations, the machine has %zu MiB of memory",
                      bytes >> 20, pages * page >> 20);
}

/* At least bytes at *p, which held *have; what was there is lost. */
static int grow(char **p, size_t *have, size_t bytes, struct sd_err *err)
{
    bytes = (bytes + ALIGN) & ~(ALIGN - 1);
    if (*p && *have >= bytes)
        return 0;
    if (fits_machine(bytes, err))
        return -1;
    free(*p);
    *have = 0;
    *p = aligned_alloc(bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGN, (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (!*p)
        return sd_err_memory(err, bytes);
    *have = bytes;
    madvise(*p, bytes, MADV_HUGEPAGE); /* fewer page faults and TLB misses; a refusal does no harm */
    return 1;
}

static int claim(struct sd_plan *p, struct sd_err *err)
{
    struct sd_workspace *w = p->workspace;
    int arena = grow(&w->arena, &w->arena_bytes, p->layout.arena, err);
    int scratch = arena < 0 ? -1 : grow(&w->scratch, &w->scratch_bytes, p->scratch_bytes, err);
    if (arena > 0 || scratch > 0)
        w->generation++;
    return scratch < 0 ? -1 : 0;
}

void sd_workspace_free(struct sd_workspace *w)
{
    free(w->arena);
    free(w->scratch);
    *w = (struct sd_workspace){0};
}

/* Below this many operations a node on average, waking the other threads costs more than they bring. */
#define SHARED_FLOPS 4e6

/* Threads never change a result, so a small plan may run on one. Primitives are made for the number they run
 * with. */
static int threads_for(const struct sd_plan *p)
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
    int threads = threads_for(p);
    bool bad = sd_graph_verify(g, err) || sd_layout_make(g, &p->layout, err) || make_calls(p, err) ||
               plan_kernels(p, err) || claim(p, err) || bind_memory(p, err);
    omp_set_num_threads(threads);
    if (bad) {
        sd_plan_free(p);
        return NULL;
    }
    p->generation = p->workspace->generation;
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
    sd_layout_free(&p->layout);
    free(p->calls);
    free(p->pointers);
    free(p->unused);
    sd_workspace_free(&p->own);
    free(p);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void sd_plan_run(struct sd_plan *p)
{
    if (p->generation !=
        p->workspace->generation) { /* another plan made the workspace grow; nothing here can fail */
        bind_memory(p, NULL);
        p->generation = p->workspace->generation;
    }
    int threads = threads_for(p);
    for (int i = 0; i < p->n_calls; i++) {
        const struct sd_call *c = &p->calls[i];
        double start = p->profile ? now() : 0;
        p->backend->kernel[c->node->op]->run(c);
        if (p->profile)
            p->seconds[c->node->op] += now() - start;
    }
    omp_set_num_threads(threads);
}

void *sd_plan_data(struct sd_plan *p, const struct sd_tensor *t)
{
    return address(p, t, NULL);
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
