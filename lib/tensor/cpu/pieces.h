/* Many tensors cut into pieces, that the threads share them evenly, large and small. */
#ifndef SD_TENSOR_CPU_PIECES_H
#define SD_TENSOR_CPU_PIECES_H

#include "tensor/cpu/block.h"

/* A chunk of one tensor. */
struct sd_cpu_piece {
    int tensor; /* which of the node's inputs */
    int64_t from, to;
};

struct sd_cpu_pieces {
    int64_t n;
    struct sd_cpu_piece piece[];
};

/* Cuts every `step`th input, from 0 to before `end`, into pieces of SD_CPU_CHUNK, which become the call's
 * state. 0 or -1. */
int sd_cpu_cut(struct sd_call *c, int end, int step, struct sd_err *err);
/* A kernel's drop(). */
void sd_cpu_drop_pieces(struct sd_call *c);

static inline int64_t sd_cpu_pieces_of(const struct sd_call *c)
{
    return ((const struct sd_cpu_pieces *)c->state)->n;
}

static inline struct sd_cpu_piece sd_cpu_piece_of(const struct sd_call *c, int64_t i)
{
    return ((const struct sd_cpu_pieces *)c->state)->piece[i];
}

#endif
