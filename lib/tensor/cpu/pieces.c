#include "tensor/cpu/pieces.h"

#include <stdlib.h>

int sd_cpu_cut(struct sd_call *c, int end, int step, struct sd_err *err)
{
    int64_t n = 0;
    for (int k = 0; k < end; k += step)
        n += (sd_tensor_count(c->node->in[k]) + SD_CPU_CHUNK - 1) / SD_CPU_CHUNK;
    size_t bytes = sizeof(struct sd_cpu_pieces) + (size_t)n * sizeof(struct sd_cpu_piece);
    struct sd_cpu_pieces *p = malloc(bytes);
    if (!p)
        return sd_err_memory(err, bytes);
    p->n = 0;
    for (int k = 0; k < end; k += step)
        for (int64_t at = 0, count = sd_tensor_count(c->node->in[k]); at < count; at += SD_CPU_CHUNK)
            p->piece[p->n++] = (struct sd_cpu_piece){k, at, sd_cpu_min(count, at + SD_CPU_CHUNK)};
    c->state = p;
    return 0;
}

void sd_cpu_drop_pieces(struct sd_call *c)
{
    free(c->state);
}
