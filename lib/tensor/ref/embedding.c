#include "tensor/ref/array.h"

#include <math.h>

/* Row of id number i; ids are checked before a run, one out of range would read row 0. */
static int64_t row_of(struct array ids, int64_t i, int64_t rows)
{
    int32_t id = ((const int32_t *)ids.data)[i];
    return id < 0 || id >= rows ? 0 : id;
}

static void embedding(const struct sd_call *c)
{
    struct array table = in(c, 0), ids = in(c, 1), y = out(c, 0);
    int64_t ch = last(table);
    for (int64_t i = 0; i < ids.n; i++)
        for (int64_t k = 0; k < ch; k++)
            st(y, i * ch + k, ld(table, row_of(ids, i, table.dim[0]) * ch + k));
}
const struct sd_kernel sd_ref_embedding = {.run = embedding};

static void embedding_bwd(const struct sd_call *c)
{
    struct array ids = in(c, 0), dy = in(c, 1), dtable = out(c, 0);
    int64_t ch = last(dtable);
    for (int64_t i = 0; i < dtable.n; i++)
        st(dtable, i, 0);
    for (int64_t i = 0; i < ids.n; i++)
        for (int64_t k = 0; k < ch; k++) {
            int64_t at = row_of(ids, i, dtable.dim[0]) * ch + k;
            st(dtable, at, ld(dtable, at) + ld(dy, i * ch + k));
        }
}
const struct sd_kernel sd_ref_embedding_bwd = {.run = embedding_bwd};

static void timestep_embedding(const struct sd_call *c)
{
    const struct sd_attr *at = &c->node->attr;
    struct array t = in(c, 0), y = out(c, 0);
    int64_t dim = last(y), half = dim / 2;
    for (int64_t n = 0; n < t.n; n++) {
        for (int64_t k = 0; k < half; k++) {
            double arg = ld(t, n) * exp(-log(at->max_period) * (double)k / (double)half);
            st(y, n * dim + k, at->flip ? cos(arg) : sin(arg));
            st(y, n * dim + half + k, at->flip ? sin(arg) : cos(arg));
        }
        if (dim % 2)
            st(y, n * dim + dim - 1, 0);
    }
}
const struct sd_kernel sd_ref_timestep_embedding = {.run = timestep_embedding};
