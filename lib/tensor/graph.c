#include "tensor/graph.h"

#include "base/arena.h"
#include "tensor/op.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sd_graph *sd_graph_new(void)
{
    struct sd_graph *g = calloc(1, sizeof *g);
    struct sd_arena *arena = calloc(1, sizeof *arena);
    if (!g || !arena) {
        free(g);
        free(arena);
        return NULL;
    }
    g->arena = arena;
    g->n_forward = -1;
    return g;
}

void sd_graph_free(struct sd_graph *g)
{
    if (!g)
        return;
    sd_arena_free(g->arena);
    free(g->arena);
    free(g->nodes);
    free(g->tensors);
    free(g);
}

int sd_graph_error(const struct sd_graph *g, struct sd_err *err)
{
    if (!g->err.code)
        return 0;
    if (err)
        *err = g->err;
    return -1;
}

int64_t sd_tensor_count(const struct sd_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++)
        n *= t->dim[i];
    return n;
}

size_t sd_tensor_bytes(const struct sd_tensor *t)
{
    return (size_t)sd_tensor_count(t) * sd_dtype_size(t->dtype);
}

bool sd_tensor_same_shape(const struct sd_tensor *a, const struct sd_tensor *b)
{
    return a->ndim == b->ndim && !memcmp(a->dim, b->dim, (size_t)a->ndim * sizeof *a->dim);
}

const char *sd_op_name(enum sd_op op)
{
    return sd_op_info[op].name;
}

static void *out_of_memory(struct sd_graph *g, size_t bytes)
{
    if (!g->err.code)
        sd_err_memory(&g->err, bytes);
    return NULL;
}

void *sd_graph_alloc(struct sd_graph *g, size_t count, size_t size)
{
    void *p = sd_arena_array(g->arena, count, size);
    return p ? p : out_of_memory(g, count * size);
}

void *sd_graph_fail(struct sd_graph *g, enum sd_op op, const char *fmt, ...)
{
    if (g->err.code)
        return NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = snprintf(g->err.msg, sizeof g->err.msg, "%s: ", sd_op_name(op));
    vsnprintf(g->err.msg + n, sizeof g->err.msg - (size_t)n, fmt, ap);
    va_end(ap);
    g->err.code = SD_ERR_DATA;
    return NULL;
}

/* Appends p to a pointer array that grows by doubling. */
static int append(void *array, int *n, int *cap, void *p)
{
    void ***a = array;
    if (*n == *cap) {
        int more = *cap ? *cap * 2 : 256;
        void **b = realloc(*a, (size_t)more * sizeof *b);
        if (!b)
            return -1;
        *a = b;
        *cap = more;
    }
    (*a)[(*n)++] = p;
    return 0;
}

struct sd_node *sd_graph_node(struct sd_graph *g, enum sd_op op, struct sd_tensor *const *in, int n_in,
                              int n_required, int n_out, const struct sd_attr *attr)
{
    if (g->err.code)
        return NULL;
    for (int i = 0; i < n_required; i++)
        if (!in[i])
            return sd_graph_fail(g, op, "input %d is missing", i);
    struct sd_node *node = sd_graph_alloc(g, 1, sizeof *node);
    struct sd_tensor **ins = sd_graph_alloc(g, (size_t)n_in, sizeof *ins);
    struct sd_tensor **outs = sd_graph_alloc(g, (size_t)n_out, sizeof *outs);
    if (!node || !ins || !outs)
        return NULL;
    *node = (struct sd_node){.op = op, .n_in = n_in, .n_out = n_out, .in = ins, .out = outs};
    if (n_in)
        memcpy(ins, in, (size_t)n_in * sizeof *ins);
    if (attr)
        node->attr = *attr;
    if (append(&g->nodes, &g->n_nodes, &g->cap_nodes, node))
        return out_of_memory(g, sizeof *node);
    return node;
}

struct sd_tensor *sd_graph_add_out(struct sd_graph *g, struct sd_node *node, int index, enum sd_dtype dtype,
                                   int ndim, const int64_t *dim)
{
    if (!node || g->err.code)
        return NULL;
    if (ndim < 1 || ndim > SD_MAX_DIMS)
        return sd_graph_fail(g, node->op, "a tensor has 1 to %d dimensions, not %d", SD_MAX_DIMS, ndim);
    struct sd_tensor *t = sd_graph_alloc(g, 1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct sd_tensor){.dtype = dtype, .ndim = ndim, .node = node, .index = index, .id = g->n_tensors};
    int64_t count = 1;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] < 1 || __builtin_mul_overflow(count, dim[i], &count) || count > INT64_MAX / 16)
            return sd_graph_fail(g, node->op, "dimension %d of the result is %lld", i, (long long)dim[i]);
        t->dim[i] = dim[i];
    }
    for (int i = 0; i < node->n_in; i++)
        t->needs_grad |= node->in[i] && node->in[i]->needs_grad;
    node->out[index] = t;
    if (append(&g->tensors, &g->n_tensors, &g->cap_tensors, t))
        return out_of_memory(g, sizeof *t);
    return t;
}

void sd_graph_output(struct sd_graph *g, struct sd_tensor *t)
{
    (void)g;
    if (t)
        t->output = true;
}

struct sd_tensor *sd_graph_keep(struct sd_tensor *t)
{
    if (t)
        t->keep = true;
    return t;
}
