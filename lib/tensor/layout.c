#include "tensor/layout.h"

#include "tensor/op.h"

#include <stdlib.h>

/* The last node that reads each tensor. */
static void find_last_use(const struct sd_graph *g, int *last)
{
    for (int i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i]->n_in; k++)
            if (g->nodes[i]->in[k])
                last[g->nodes[i]->in[k]->id] = i;
}

static int new_buffer(struct sd_layout *l, const struct sd_tensor *t, int at)
{
    struct sd_layout_buffer *b = &l->buffers[l->n_buffers];
    *b = (struct sd_layout_buffer){.bytes = sd_layout_align(sd_tensor_bytes(t)), .first = at, .last = at};
    b->outside = t->node->op == SD_OP_var;
    return l->n_buffers++;
}

/* The input whose memory out[0] of the node at `at` takes over, or NULL. Its buffer's last reader must be
 * this node, and no other input of the node may lie in that buffer: a product would read what it overwrites.
 */
static const struct sd_tensor *overwritten(const struct sd_layout *l, const struct sd_node *n, int at)
{
    const struct sd_tensor *y = n->n_out ? n->out[0] : NULL;
    unsigned may = sd_op_info[n->op].inplace; /* a bit an input */
    for (int k = 0; y && may && k < n->n_in; k++, may >>= 1) {
        const struct sd_tensor *x = n->in[k];
        if (!(may & 1) || !x || sd_tensor_bytes(x) != sd_tensor_bytes(y))
            continue;
        int id = l->buffer_of[x->id];
        const struct sd_layout_buffer *b = &l->buffers[id];
        bool alone = !b->outside && b->last == at;
        for (int j = 0; j < n->n_in; j++)
            alone &= j == k || !n->in[j] || l->buffer_of[n->in[j]->id] != id;
        if (alone)
            return x;
    }
    return NULL;
}

/* t lies in the buffer: it must hold until whoever reads t last, or until a run is over. */
static void extend(struct sd_layout *l, int id, const int *last, const struct sd_tensor *t, int n_nodes)
{
    struct sd_layout_buffer *b = &l->buffers[id];
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

static void make_buffers(const struct sd_graph *g, struct sd_layout *l, const int *last)
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
    const struct sd_layout_buffer *x = *(struct sd_layout_buffer *const *)a,
                                  *y = *(struct sd_layout_buffer *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x > y) - (x < y);
}

/* Greedy by size (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020): the
 * largest buffers first, each at the lowest offset free over its whole life. placed is kept sorted by offset.
 */
static size_t place(struct sd_layout_buffer **placed, int n_placed, const struct sd_layout_buffer *b)
{
    size_t at = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (int i = 0; i < n_placed; i++) {
        const struct sd_layout_buffer *o = placed[i];
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

static int assign_offsets(struct sd_layout *l, int n_nodes, struct sd_err *err)
{
    size_t n = (size_t)l->n_buffers;
    struct sd_layout_buffer **order = malloc((n + 1) * sizeof *order),
                            **placed = malloc((n + 1) * sizeof *placed);
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
        struct sd_layout_buffer *b = order[i];
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

int sd_layout_make(const struct sd_graph *g, struct sd_layout *l, struct sd_err *err)
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
    find_last_use(g, last);
    push_reshapes_back(g, last);
    make_buffers(g, l, last);
    /* Inputs hold from the start: they are written before a run. */
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == SD_OP_input)
            l->buffers[l->buffer_of[g->nodes[i]->out[0]->id]].first = 0;
    free(last);
    return assign_offsets(l, g->n_nodes, err);
}

void sd_layout_free(struct sd_layout *l)
{
    free(l->buffer_of);
    free(l->buffers);
}
