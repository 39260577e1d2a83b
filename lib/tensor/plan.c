#include "tensor/plan.h"

#include "tensor/op.h"
#include "tensor/pass.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ALIGN ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

/* One stretch of the arena: a tensor, its reshapes and whatever overwrites it in place. */
struct buffer {
    size_t bytes, offset;
    int first, last; /* nodes between which it must hold */
    bool outside;    /* a variable: not in the arena */
};

struct layout {
    int *buffer_of; /* by tensor id; -1: never made */
    struct buffer *buffers;
    int n_buffers;
    size_t arena, live;
};

struct sd_plan {
    const struct sd_graph *graph;
    struct sd_backend *backend;
    struct layout layout;
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

/* --- where things lie
 * ------------------------------------------------------------------------------------------- */

static int last_use(const struct sd_graph *g, int *last)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i]->n_in; k++)
            if (g->nodes[i]->in[k])
                last[g->nodes[i]->in[k]->id] = i;
    return 0;
}

static int new_buffer(struct layout *l, const struct sd_tensor *t, int at)
{
    struct buffer *b = &l->buffers[l->n_buffers];
    *b = (struct buffer){.bytes = (sd_tensor_bytes(t) + ALIGN - 1) & ~(ALIGN - 1), .first = at, .last = at};
    b->outside = t->node->op == SD_OP_var;
    return l->n_buffers++;
}

/* The input whose memory out[0] of the node at `at` takes over, or NULL. Its buffer's last reader must be
 * this node, and no other input of the node may lie in that buffer: a product would read what it overwrites.
 */
static const struct sd_tensor *overwritten(const struct layout *l, const struct sd_node *n, int at)
{
    const struct sd_tensor *y = n->n_out ? n->out[0] : NULL;
    unsigned may = sd_op_info[n->op].inplace; /* a bit an input */
    for (int k = 0; y && may && k < n->n_in; k++, may >>= 1) {
        const struct sd_tensor *x = n->in[k];
        if (!(may & 1) || !x || sd_tensor_bytes(x) != sd_tensor_bytes(y))
            continue;
        int id = l->buffer_of[x->id];
        const struct buffer *b = &l->buffers[id];
        bool alone = !b->outside && b->last == at;
        for (int j = 0; j < n->n_in; j++)
            alone &= j == k || !n->in[j] || l->buffer_of[n->in[j]->id] != id;
        if (alone)
            return x;
    }
    return NULL;
}

/* The last node that reads anything in a buffer, were t to join it: over t and the reshapes of t. */
static void extend(struct layout *l, int id, const int *last, const struct sd_tensor *t, int n_nodes)
{
    struct buffer *b = &l->buffers[id];
    int to = t->output || t->node->op == SD_OP_input ? n_nodes : last[t->id];
    if (to > b->last)
        b->last = to;
}

/* Reshapes lie in the same memory but are read later: their readers count for the tensor they view. */
static void push_reshapes_back(const struct sd_graph *g, int *last)
{
    for (int i = g->n_nodes; i-- > 0;) {
        const struct sd_node *n = g->nodes[i];
        if (n->op != SD_OP_reshape)
            continue;
        int to = n->out[0]->output ? g->n_nodes : last[n->out[0]->id];
        if (to > last[n->in[0]->id])
            last[n->in[0]->id] = to;
    }
}

static void make_buffers(const struct sd_graph *g, struct layout *l, const int *last)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct sd_node *n = g->nodes[i];
        const struct sd_tensor *x = n->op == SD_OP_reshape ? n->in[0] : overwritten(l, n, i);
        for (int k = 0; k < n->n_out; k++) {
            const struct sd_tensor *y = n->out[k];
            if (!y)
                continue;
            int id = k == 0 && x ? l->buffer_of[x->id] : new_buffer(l, y, i);
            l->buffer_of[y->id] = id;
            extend(l, id, last, y, g->n_nodes);
        }
    }
}

static int by_size(const void *a, const void *b)
{
    const struct buffer *x = *(struct buffer *const *)a, *y = *(struct buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x > y) - (x < y);
}

/* Greedy by size (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020): the
 * largest buffers first, each at the lowest offset free over its whole life. placed is kept sorted by offset.
 */
static size_t place(struct buffer **placed, int n_placed, const struct buffer *b)
{
    size_t at = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (int i = 0; i < n_placed; i++) {
        const struct buffer *o = placed[i];
        if (o->last < b->first || o->first > b->last)
            continue;
        if (o->offset > at && o->offset - at >= b->bytes && o->offset - at < best_gap) {
            best = at;
            best_gap = o->offset - at;
        }
        if (o->offset + o->bytes > at)
            at = o->offset + o->bytes;
    }
    return best != SIZE_MAX ? best : at;
}

static int assign_offsets(struct layout *l, int n_nodes, struct sd_err *err)
{
    size_t n = (size_t)l->n_buffers;
    struct buffer **order = malloc((n + 1) * sizeof *order), **placed = malloc((n + 1) * sizeof *placed);
    size_t *live = calloc((size_t)n_nodes + 2, sizeof *live);
    int n_order = 0, n_placed = 0, rc = -1;
    if (!order || !placed || !live) {
        sd_err_memory(err, n * sizeof *order);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        if (!l->buffers[i].outside)
            order[n_order++] = &l->buffers[i];
    qsort(order, (size_t)n_order, sizeof *order, by_size);
    for (int i = 0; i < n_order; i++) {
        struct buffer *b = order[i];
        b->offset = place(placed, n_placed, b);
        int at = n_placed++;
        for (; at > 0 && placed[at - 1]->offset > b->offset; at--)
            placed[at] = placed[at - 1];
        placed[at] = b;
        if (b->offset + b->bytes > l->arena)
            l->arena = b->offset + b->bytes;
        for (int k = b->first; k <= b->last; k++)
            live[k] += b->bytes;
    }
    for (int k = 0; k <= n_nodes; k++)
        l->live = live[k] > l->live ? live[k] : l->live;
    rc = 0;
out:
    free(order);
    free(placed);
    free(live);
    return rc;
}

static int layout_make(const struct sd_graph *g, struct layout *l, struct sd_err *err)
{
    size_t n = (size_t)g->n_tensors + 1;
    int *last = malloc(n * sizeof *last);
    l->buffer_of = malloc(n * sizeof *l->buffer_of);
    l->buffers = malloc(n * sizeof *l->buffers);
    if (!last || !l->buffer_of || !l->buffers) {
        free(last);
        return sd_err_memory(err, n * sizeof *l->buffers);
    }
    for (size_t i = 0; i < n; i++)
        last[i] = l->buffer_of[i] = -1;
    last_use(g, last);
    push_reshapes_back(g, last);
    make_buffers(g, l, last);
    /* Inputs hold from the start: they are written before a run. */
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == SD_OP_input)
            l->buffers[l->buffer_of[g->nodes[i]->out[0]->id]].first = 0;
    free(last);
    return assign_offsets(l, g->n_nodes, err);
}

static void layout_free(struct layout *l)
{
    free(l->buffer_of);
    free(l->buffers);
}

int sd_plan_arena_bytes(const struct sd_graph *g, size_t *bytes, struct sd_err *err)
{
    struct layout l = {0};
    int rc = sd_graph_verify(g, err) ? -1 : layout_make(g, &l, err);
    *bytes = l.arena;
    layout_free(&l);
    return rc;
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
    bool bad = sd_graph_verify(g, err) || layout_make(g, &p->layout, err) || make_calls(p, err) ||
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
    layout_free(&p->layout);
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
