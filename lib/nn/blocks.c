#include "nn/blocks.h"

#include <math.h>

struct sd_tensor *sd_nn_resnet(struct sd_nn *b, const char *name, struct sd_tensor *x, struct sd_tensor *temb,
                               int64_t out, int64_t groups, float eps)
{
    if (!x)
        return NULL;
    sd_nn_push(b, "%s", name);
    struct sd_tensor *h = sd_nn_group_norm(b, "norm1", x, groups, eps, SD_ACT_SILU);
    h = sd_nn_conv2d(b, "conv1", h, out, 3, NULL);
    if (temb) {
        struct sd_tensor *t = sd_nn_linear(b, "time_emb_proj", temb, out, true);
        t = sd_graph_reshape(b->g, t, 4, (int64_t[]){x->dim[0], 1, 1, out});
        h = sd_graph_add(b->g, h, t, 1);
    }
    h = sd_nn_group_norm(b, "norm2", h, groups, eps, SD_ACT_SILU);
    struct sd_tensor *shortcut = x->dim[3] == out ? x : sd_nn_conv2d(b, "conv_shortcut", x, out, 1, NULL);
    h = sd_nn_conv2d(b, "conv2", h, out, 3, shortcut);
    sd_nn_pop(b);
    return sd_nn_block_output(b, h);
}

const struct sd_nn_attention_names sd_nn_attention_diffusers = {"to_q", "to_k", "to_v", "to_out.0", false};

struct sd_tensor *sd_nn_attention(struct sd_nn *b, const char *name,
                                  const struct sd_nn_attention_names *names, struct sd_tensor *h,
                                  struct sd_tensor *context, int64_t heads, bool causal,
                                  struct sd_tensor *residual)
{
    if (!h)
        return NULL;
    int64_t width = h->dim[2];
    sd_nn_push(b, "%s", name);
    struct sd_tensor *q = sd_nn_linear(b, names->q, h, width, names->qkv_bias);
    struct sd_tensor *k = sd_nn_linear(b, names->k, context, width, names->qkv_bias);
    struct sd_tensor *v = sd_nn_linear(b, names->v, context, width, names->qkv_bias);
    float scale = (float)(1 / sqrt((double)width / (double)heads));
    h = sd_graph_attention(b->g, q, k, v, heads, scale, causal);
    if (h && b->keep & SD_NN_KEEP_ATTENTION) /* with its other output, which its gradient needs */
        for (int i = 0; i < h->node->n_out; i++)
            sd_graph_keep(h->node->out[i]);
    h = sd_nn_linear_onto(b, names->out, h, width, true, residual);
    sd_nn_pop(b);
    return h;
}

struct sd_tensor *sd_nn_upsample(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t height,
                                 int64_t width)
{
    if (!x)
        return NULL;
    sd_nn_push(b, "%s", name);
    struct sd_tensor *h = sd_graph_upsample(b->g, x, height, width);
    h = sd_nn_conv2d(b, "conv", h, x->dim[3], 3, NULL);
    sd_nn_pop(b);
    return h;
}

struct sd_tensor *sd_nn_downsample(struct sd_nn *b, const char *name, struct sd_tensor *x, bool asymmetric)
{
    if (!x)
        return NULL;
    int64_t before = asymmetric ? 0 : 1;
    sd_nn_push(b, "%s", name);
    struct sd_conv window = {
        .stride = 2, .pad_top = before, .pad_left = before, .pad_bottom = 1, .pad_right = 1};
    struct sd_tensor *h = sd_nn_conv2d_window(b, "conv", x, x->dim[3], 3, &window, NULL);
    sd_nn_pop(b);
    return h;
}

struct sd_tensor *sd_nn_tokens(struct sd_nn *b, struct sd_tensor *x)
{
    if (!x)
        return NULL;
    return sd_graph_reshape(b->g, x, 3, (int64_t[]){x->dim[0], x->dim[1] * x->dim[2], x->dim[3]});
}

struct sd_tensor *sd_nn_pixels(struct sd_nn *b, struct sd_tensor *x, const struct sd_tensor *like)
{
    if (!x)
        return NULL;
    return sd_graph_reshape(b->g, x, 4, (int64_t[]){x->dim[0], like->dim[1], like->dim[2], x->dim[2]});
}
