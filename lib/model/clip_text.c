#include "model/clip_text.h"

#include "nn/blocks.h"

static const struct sd_nn_attention_names names = {"q_proj", "k_proj", "v_proj", "out_proj", true};

static struct sd_tensor *embeddings(struct sd_nn *b, const struct sd_text_config *c, struct sd_tensor *ids)
{
    if (!ids)
        return NULL;
    int64_t length = ids->dim[1];
    sd_nn_push(b, "embeddings");
    struct sd_tensor *h = sd_nn_embedding(b, "token_embedding", ids, c->vocab, c->width);
    struct sd_tensor *p =
        sd_nn_value(b, "position_embedding.weight", b->dtype, 2, (int64_t[]){c->positions, c->width});
    if (length < c->positions) { /* the first rows, as the first columns of one long row */
        p = sd_graph_reshape(b->g, p, 1, (int64_t[]){c->positions * c->width});
        p = sd_graph_slice(b->g, p, 0, length * c->width);
    }
    p = sd_graph_reshape(b->g, p, 3, (int64_t[]){1, length, c->width});
    h = sd_graph_add(b->g, h, p, 1);
    sd_nn_pop(b);
    return h;
}

static struct sd_tensor *layer(struct sd_nn *b, const struct sd_text_config *c, struct sd_tensor *x)
{
    struct sd_tensor *h = sd_nn_layer_norm(b, "layer_norm1", x, c->eps);
    x = sd_nn_attention(b, "self_attn", &names, h, h, c->heads, true, x);
    h = sd_nn_layer_norm(b, "layer_norm2", x, c->eps);
    h = sd_nn_linear(b, "mlp.fc1", h, c->mlp, true);
    h = sd_graph_act(b->g, h, c->act);
    return sd_nn_linear_onto(b, "mlp.fc2", h, c->width, true, x);
}

struct sd_tensor *sd_clip_text(struct sd_nn *b, const struct sd_text_config *c, struct sd_tensor *ids,
                               int clip_skip)
{
    sd_nn_push(b, "text_encoder.text_model");
    struct sd_tensor *h = embeddings(b, c, ids);
    int64_t layers = clip_skip > 1 ? c->layers - (clip_skip - 1) : c->layers;
    for (int64_t i = 0; i < layers; i++) {
        sd_nn_push(b, "encoder.layers.%lld", (long long)i);
        h = sd_nn_block_output(b, layer(b, c, h));
        sd_nn_pop(b);
    }
    h = sd_nn_layer_norm(b, "final_layer_norm", h, c->eps);
    sd_nn_pop(b);
    return h;
}
