/* What a part of a model looks like in a file: the keys and shapes of its tensors in a given spelling
 * (model/names.h), and which parameters each of them holds. Writers of model files go by it. */
#ifndef SD_MODEL_LAYOUT_H
#define SD_MODEL_LAYOUT_H

#include "base/arena.h"
#include "model/names.h"
#include "tensor/graph.h"

struct sd_layout_tensor {
    const char *key; /* with the spelling's prefix */
    int ndim;
    int64_t shape[4];
    const char *param[3]; /* their names, unet. and so on in front; three lie on one another: q, k, v */
    int params;           /* 1 or 3 */
};

/* The tensors of a part in the order of the network, in the arena. The original VAE has 1x1 convolutions
 * where diffusers has linear layers. c is that of the network as it is used: of OpenCLIP's text encoder one
 * layer less than original files hold. */
int sd_layout_part(const struct sd_model_config *c, enum sd_part part, const struct sd_part_names *names,
                   struct sd_arena *arena, struct sd_layout_tensor **out, size_t *count, struct sd_err *err);

#endif
