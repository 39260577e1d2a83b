/* Noise that is more than normal numbers. Nothing of it is trained: there are no gradients. */
#include "tensor/op.h"

static bool is_image(const struct sd_tensor *t)
{
    return t->ndim == 4 && t->dtype == SD_F32;
}

struct sd_tensor *sd_graph_noise_offset(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *normal,
                                        struct sd_tensor *strength, struct sd_tensor *latents)
{
    if (!x || !normal || !strength)
        return NULL;
    if (!is_image(x) || !is_image(normal) || normal->dim[0] != x->dim[0] || normal->dim[1] != 1 ||
        normal->dim[2] != 1 || normal->dim[3] != x->dim[3] || strength->dtype != SD_F32 ||
        sd_tensor_count(strength) != 2 ||
        (latents && (!is_image(latents) || !sd_tensor_same_shape(x, latents))))
        return sd_graph_fail(g, SD_OP_noise_offset,
                             "takes x [N,H,W,C], normal [N,1,1,C], strength [2] and latents like x, all f32");
    struct sd_node *node = sd_graph_node(g, SD_OP_noise_offset,
                                         (struct sd_tensor *[]){x, normal, strength, latents}, 4, 3, 1, NULL);
    return sd_graph_add_out(g, node, 0, SD_F32, 4, x->dim);
}

struct sd_tensor *sd_graph_noise_levels(struct sd_graph *g, struct sd_tensor *x, struct sd_tensor *levels,
                                        struct sd_tensor *turns)
{
    if (!x || !levels || !turns)
        return NULL;
    if (!is_image(x) || levels->dtype != SD_F32 || levels->ndim != 1 || turns->dtype != SD_F32 ||
        turns->ndim != 2 || turns->dim[1] != 3)
        return sd_graph_fail(g, SD_OP_noise_levels, "takes x [N,H,W,C], levels [M] and turns [T,3], all f32");
    struct sd_node *node =
        sd_graph_node(g, SD_OP_noise_levels, (struct sd_tensor *[]){x, levels, turns}, 3, 3, 1, NULL);
    return sd_graph_add_out(g, node, 0, SD_F32, 4, x->dim);
}
