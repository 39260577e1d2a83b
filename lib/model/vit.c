#include "model/vit.h"

#include <stdio.h>
#include <string.h>

#include "nn/blocks.h"

const struct sd_vit_config sd_vit_wd = {.image = 448,
                                        .patch = 16,
                                        .width = 768,
                                        .mlp = 3072,
                                        .layers = 12,
                                        .heads = 12,
                                        .outputs = 10861,
                                        .result = SD_VIT_MEAN,
                                        .act = SD_ACT_GELU_TANH,
                                        .eps = 1e-5f};

static const struct sd_nn_attention_names names = {"q", "k", "v", "proj", true};

/* The class token before those of each picture: both as rows of one picture each. */
static struct sd_tensor *with_class(struct sd_nn *b, struct sd_tensor *x)
{
    if (!x)
        return NULL;
    int64_t n = x->dim[0], tokens = x->dim[1], width = x->dim[2];
    struct sd_tensor *cls = sd_nn_value(b, "cls_token", x->dtype, 3, (int64_t[]){1, 1, width});
    cls = sd_graph_add(b->g, sd_graph_fill(b->g, x->dtype, 3, (int64_t[]){n, 1, width}, 0), cls, 1);
    x = sd_graph_concat(b->g, sd_graph_reshape(b->g, cls, 2, (int64_t[]){n, width}),
                        sd_graph_reshape(b->g, x, 2, (int64_t[]){n, tokens * width}));
    return sd_graph_reshape(b->g, x, 3, (int64_t[]){n, tokens + 1, width});
}

static struct sd_tensor *embeddings(struct sd_nn *b, const struct sd_vit_config *c, struct sd_tensor *x)
{
    int64_t side = c->image / c->patch, tokens = side * side + c->class_token;
    x = sd_nn_conv2d_window(b, "patch_embed.proj", sd_nn_cast(b, x, b->dtype), c->width, c->patch,
                            &(struct sd_conv){.stride = c->patch}, NULL);
    x = sd_nn_tokens(b, x);
    if (c->class_token)
        x = with_class(b, x);
    return sd_graph_add(b->g, x, sd_nn_value(b, "pos_embed", b->dtype, 3, (int64_t[]){1, tokens, c->width}),
                        1);
}

static struct sd_tensor *block(struct sd_nn *b, const struct sd_vit_config *c, struct sd_tensor *x)
{
    struct sd_tensor *h = sd_nn_layer_norm(b, "norm1", x, c->eps);
    x = sd_nn_attention(b, "attn", &names, h, h, c->heads, false, x);
    h = sd_nn_layer_norm(b, "norm2", x, c->eps);
    h = sd_graph_act(b->g, sd_nn_linear(b, "mlp.fc1", h, c->mlp, true), c->act);
    return sd_nn_linear_onto(b, "mlp.fc2", h, c->width, true, x);
}

/* Tokens [from, to) of each picture, as columns of a row a picture. */
static struct sd_tensor *tokens(struct sd_nn *b, struct sd_tensor *x, int64_t from, int64_t to)
{
    if (!x || (from == 0 && to == x->dim[1]))
        return x;
    int64_t n = x->dim[0], width = x->dim[2];
    x = sd_graph_reshape(b->g, x, 2, (int64_t[]){n, x->dim[1] * width});
    x = sd_graph_slice(b->g, x, from * width, (to - from) * width);
    return sd_graph_reshape(b->g, x, 3, (int64_t[]){n, to - from, width});
}

/* [N,T,width] to [N,width]. Divided before it is summed: sums might be too large for f16. */
static struct sd_tensor *mean(struct sd_nn *b, struct sd_tensor *x)
{
    if (!x)
        return NULL;
    int64_t n = x->dim[0], width = x->dim[2];
    struct sd_tensor *like = sd_graph_fill(b->g, x->dtype, 3, (int64_t[]){n, 1, width}, 0);
    x = sd_graph_reduce_to(b->g, sd_graph_scale(b->g, x, 1 / (float)x->dim[1]), like);
    return sd_graph_reshape(b->g, x, 2, (int64_t[]){n, width});
}

static struct sd_tensor *result(struct sd_nn *b, const struct sd_vit_config *c, struct sd_tensor *x)
{
    if (!x || c->result == SD_VIT_TOKENS)
        return x;
    if (c->result == SD_VIT_CLASS)
        x = sd_graph_reshape(b->g, tokens(b, x, 0, 1), 2, (int64_t[]){x->dim[0], c->width});
    else
        x = mean(b, tokens(b, x, c->class_token, x->dim[1]));
    return sd_nn_linear(b, "head", sd_nn_cast(b, x, SD_F32), c->outputs, true);
}

struct sd_tensor *sd_vit(struct sd_nn *b, const struct sd_vit_config *c, struct sd_tensor *x)
{
    sd_nn_push(b, "vit");
    x = embeddings(b, c, x);
    for (int64_t i = 0; i < c->layers; i++) {
        sd_nn_push(b, "blocks.%lld", (long long)i);
        x = sd_nn_block_output(b, block(b, c, x));
        sd_nn_pop(b);
    }
    x = result(b, c, sd_nn_layer_norm(b, "norm", x, c->eps));
    sd_nn_pop(b);
    return x;
}

/* key gets the name of the file's tensor; *part becomes which third of its rows the parameter is, or -1: all.
 */
static bool key_of(const struct sd_vit_file *f, const char *name, char *key, size_t size, int *part)
{
    static const char *const thirds[] = {".attn.q.", ".attn.k.", ".attn.v."};
    const char *at = NULL;
    int n;
    if (strncmp(name, "vit.", 4))
        return false;
    name += 4;
    for (*part = 2; *part >= 0; --*part)
        if ((at = strstr(name, thirds[*part])))
            break;
    if (at)
        n = snprintf(key, size, "%s%.*s.attn.qkv.%s", f->prefix, (int)(at - name), name,
                     at + strlen(thirds[0]));
    else
        n = snprintf(key, size, "%s%s", f->prefix, name);
    return n > 0 && (size_t)n < size;
}

bool sd_vit_find(void *ctx, const char *name, struct sd_store_entry *entry)
{
    struct sd_vit_file *f = ctx;
    char key[256];
    int part;
    const struct sd_store_entry *e = NULL;
    if (key_of(f, name, key, sizeof key, &part))
        e = sd_tensor_file_find(f->file, key);
    if (!e)
        return false;
    *entry = *e;
    if (part < 0)
        return true;
    if (!e->data || e->ndim < 1 || e->ndim > SD_MAX_DIMS || e->shape[0] % 3)
        return false;
    memcpy(f->shape, e->shape, (size_t)e->ndim * sizeof *f->shape);
    f->shape[0] /= 3;
    entry->shape = f->shape; /* read before the next call */
    entry->bytes = e->bytes / 3;
    entry->data = (const char *)e->data + (size_t)part * entry->bytes;
    entry->offset = e->offset + (uint64_t)part * entry->bytes;
    return true;
}
