/* Table look-up, and the sinusoidal embedding of timesteps. */
#include "tensor/op.h"

struct sd_tensor *sd_graph_embedding(struct sd_graph *g, struct sd_tensor *table, struct sd_tensor *ids)
{
    if (!table || !ids)
        return NULL;
    if (table->ndim != 2 || ids->ndim != 2 || ids->dtype != SD_I32)
        return sd_graph_fail(g, SD_OP_embedding, "takes a table [V,C] and ids [N,T] i32");
    struct sd_node *node =
        sd_graph_node(g, SD_OP_embedding, (struct sd_tensor *[]){table, ids}, 2, 2, 1, NULL);
    return sd_graph_add_out(g, node, 0, table->dtype, 3,
                            (int64_t[]){ids->dim[0], ids->dim[1], table->dim[1]});
}

void sd_grad_embedding(struct sd_graph *g, const struct sd_node *node, struct sd_tensor *const *dy,
                       struct sd_tensor **dx)
{
    struct sd_tensor *table = node->in[0];
    struct sd_node *bwd =
        sd_graph_node(g, SD_OP_embedding_bwd, (struct sd_tensor *[]){node->in[1], dy[0]}, 2, 2, 1, NULL);
    dx[0] = sd_graph_cast(g, sd_graph_add_out(g, bwd, 0, SD_F32, 2, table->dim),
                          table->node->op == SD_OP_cast ? SD_F32 : table->dtype);
}

struct sd_tensor *sd_graph_timestep_embedding(struct sd_graph *g, struct sd_tensor *t, int64_t dim,
                                              float max_period, bool flip)
{
    if (!t)
        return NULL;
    if (t->ndim != 1 || t->dtype != SD_F32)
        return sd_graph_fail(g, SD_OP_timestep_embedding, "takes timesteps [N] f32");
    struct sd_attr attr = {.max_period = max_period, .flip = flip};
    struct sd_node *node = sd_graph_node(g, SD_OP_timestep_embedding, &t, 1, 1, 1, &attr);
    return sd_graph_add_out(g, node, 0, SD_F32, 2, (int64_t[]){t->dim[0], dim});
}
