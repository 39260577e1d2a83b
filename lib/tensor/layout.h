/* Where the tensors of a graph lie in one arena, from the nodes between which each must hold. For plan.c. */
#ifndef SD_TENSOR_LAYOUT_H
#define SD_TENSOR_LAYOUT_H

#include "tensor/graph.h"

/* One stretch of the arena: a tensor, its reshapes and whatever overwrites it in place. */
struct sd_layout_buffer {
    size_t bytes, offset;
    int first, last; /* nodes between which it must hold */
    bool outside;    /* a variable: not in the arena */
};

/* The next multiple of 64: what buffers begin at and take. */
static inline size_t sd_layout_align(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

struct sd_layout {
    int *buffer_of; /* by tensor id; -1: never made */
    struct sd_layout_buffer *buffers;
    int n_buffers;
    size_t arena; /* bytes, 64 aligned */
    size_t live;  /* the largest sum of bytes live at one node */
};

/* For a graph that verifies. l is zeroed by the caller and freed by sd_layout_free whatever comes back: 0, or
 * -1 when memory is out. */
int sd_layout_make(const struct sd_graph *g, struct sd_layout *l, struct sd_err *err);
void sd_layout_free(struct sd_layout *l);

#endif
