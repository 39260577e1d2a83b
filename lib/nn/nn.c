#include "nn/nn.h"

#include <stdarg.h>
#include <stdio.h>

void sd_nn_init(struct sd_nn *b, struct sd_graph *g, enum sd_dtype dtype, sd_nn_param *param, void *ctx)
{
    *b = (struct sd_nn){
        .g = g,
        .dtype = dtype,
        .keep = SD_NN_KEEP_BLOCKS | SD_NN_KEEP_ATTENTION,
        .param = param,
        .param_ctx = ctx,
    };
}

void sd_nn_free(struct sd_nn *b)
{
    sd_buf_free(&b->path);
}

static void fail(struct sd_nn *b, const struct sd_err *err)
{
    if (!b->g->err.code)
        b->g->err = *err;
}

void sd_nn_push(struct sd_nn *b, const char *fmt, ...)
{
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    struct sd_err err = {0};
    if (b->depth >= SD_NN_DEPTH || len < 0 || len >= (int)sizeof name) {
        sd_err_set(&err, SD_ERR_USAGE, "%s: scope %s is too deep or too long",
                   b->path.data ? b->path.data : "", name);
        fail(b, &err);
    } else {
        b->mark[b->depth] = b->path.len;
        if (sd_buf_addf(&b->path, "%s.", name)) {
            sd_err_memory(&err, b->path.len + (size_t)len + 2);
            fail(b, &err);
        }
    }
    b->depth++;
}

void sd_nn_pop(struct sd_nn *b)
{
    b->depth--;
    if (b->depth < SD_NN_DEPTH && b->path.data) {
        b->path.len = b->mark[b->depth];
        b->path.data[b->path.len] = 0;
    }
}

struct sd_tensor *sd_nn_value(struct sd_nn *b, const char *name, enum sd_dtype dtype, int ndim,
                              const int64_t *dim)
{
    if (b->g->err.code)
        return NULL;
    struct sd_err err = {0};
    struct sd_var *var = NULL;
    size_t len = b->path.len;
    if (sd_buf_adds(&b->path, name)) {
        sd_err_memory(&err, len);
    } else {
        var = b->param(b->param_ctx, b->path.data, ndim, dim, &err);
        b->path.len = len;
        b->path.data[len] = 0;
    }
    if (!var) {
        fail(b, &err);
        return NULL;
    }
    return sd_nn_var(b, var, dtype);
}

struct sd_tensor *sd_nn_var(struct sd_nn *b, struct sd_var *var, enum sd_dtype dtype)
{
    if (!var->state)
        return sd_graph_var(b->g, var, dtype);
    return sd_nn_cast(b, sd_graph_var(b->g, var, var->dtype), dtype);
}

struct sd_tensor *sd_nn_cast(struct sd_nn *b, struct sd_tensor *x, enum sd_dtype dtype)
{
    return !x || x->dtype == dtype ? x : sd_graph_cast(b->g, x, dtype);
}

struct sd_tensor *sd_nn_block_output(struct sd_nn *b, struct sd_tensor *x)
{
    return x && b->keep & SD_NN_KEEP_BLOCKS ? sd_graph_keep(x) : x;
}

/* Lets the adapter have its say about the layer whose scope is open. */
static struct sd_tensor *adapted(struct sd_nn *b, struct sd_nn_layer *layer, struct sd_tensor *x,
                                 struct sd_tensor *y)
{
    if (!b->adapt || !y)
        return y;
    b->path.data[b->path.len - 1] = 0; /* the dot that ends every scope */
    layer->path = b->path.data;
    y = b->adapt(b->adapt_ctx, b, layer, x, y);
    b->path.data[b->path.len - 1] = '.';
    return y;
}

/* y + residual, y being a product that nothing else uses: fusion makes the residual its accumulator. */
static struct sd_tensor *plus(struct sd_nn *b, struct sd_tensor *y, struct sd_tensor *residual)
{
    return residual ? sd_graph_add(b->g, y, residual, 1) : y;
}

static struct sd_tensor *linear(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out,
                                bool bias, struct sd_tensor *residual)
{
    if (!x)
        return NULL;
    int64_t in = x->dim[x->ndim - 1];
    sd_nn_push(b, "%s", name);
    struct sd_tensor *w = sd_nn_value(b, "weight", x->dtype, 2, (int64_t[]){out, in});
    struct sd_tensor *c = bias ? sd_nn_value(b, "bias", SD_F32, 1, (int64_t[]){out}) : NULL;
    struct sd_tensor *y = sd_graph_matmul(b->g, x, w, c, false, true);
    struct sd_nn_layer layer = {.in = in, .out = out, .kernel = 1, .window.stride = 1};
    y = adapted(b, &layer, x, plus(b, y, residual));
    sd_nn_pop(b);
    return y;
}

struct sd_tensor *sd_nn_linear(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out, bool bias)
{
    return linear(b, name, x, out, bias, NULL);
}

struct sd_tensor *sd_nn_linear_onto(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out,
                                    bool bias, struct sd_tensor *residual)
{
    return residual ? linear(b, name, x, out, bias, residual) : NULL;
}

struct sd_tensor *sd_nn_conv2d_window(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out,
                                      int64_t k, const struct sd_conv *window, struct sd_tensor *residual)
{
    if (!x)
        return NULL;
    int64_t in = x->dim[x->ndim - 1];
    sd_nn_push(b, "%s", name);
    struct sd_tensor *w = sd_nn_value(b, "weight", x->dtype, 4, (int64_t[]){out, in, k, k});
    struct sd_tensor *c = sd_nn_value(b, "bias", SD_F32, 1, (int64_t[]){out});
    /* In NHWC a 1x1 convolution is a product over the last dimension. */
    struct sd_tensor *y = k == 1 && window->stride == 1 ? sd_graph_matmul(b->g, x, w, c, false, true)
                                                        : sd_graph_conv2d(b->g, x, w, c, window);
    struct sd_nn_layer layer = {.in = in, .out = out, .kernel = k, .conv = true, .window = *window};
    y = adapted(b, &layer, x, plus(b, y, residual));
    sd_nn_pop(b);
    return y;
}

struct sd_tensor *sd_nn_conv2d(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t out, int64_t k,
                               struct sd_tensor *residual)
{
    int64_t p = k / 2;
    return sd_nn_conv2d_window(b, name, x, out, k, &(struct sd_conv){1, p, p, p, p}, residual);
}

/* The [C] weight and bias of a norm over x's last dimension. */
static void norm_parameters(struct sd_nn *b, const char *name, const struct sd_tensor *x,
                            struct sd_tensor **weight, struct sd_tensor **bias)
{
    const int64_t *channels = &x->dim[x->ndim - 1];
    sd_nn_push(b, "%s", name);
    *weight = sd_nn_value(b, "weight", SD_F32, 1, channels);
    *bias = sd_nn_value(b, "bias", SD_F32, 1, channels);
    sd_nn_pop(b);
}

struct sd_tensor *sd_nn_group_norm(struct sd_nn *b, const char *name, struct sd_tensor *x, int64_t groups,
                                   float eps, enum sd_act act)
{
    struct sd_tensor *weight, *bias;
    if (!x)
        return NULL;
    norm_parameters(b, name, x, &weight, &bias);
    return sd_graph_group_norm(b->g, x, weight, bias, groups, eps, act);
}

struct sd_tensor *sd_nn_layer_norm(struct sd_nn *b, const char *name, struct sd_tensor *x, float eps)
{
    struct sd_tensor *weight, *bias;
    if (!x)
        return NULL;
    norm_parameters(b, name, x, &weight, &bias);
    return sd_graph_layer_norm(b->g, x, weight, bias, eps);
}

struct sd_tensor *sd_nn_embedding(struct sd_nn *b, const char *name, struct sd_tensor *ids, int64_t rows,
                                  int64_t width)
{
    sd_nn_push(b, "%s", name);
    struct sd_tensor *table = sd_nn_value(b, "weight", b->dtype, 2, (int64_t[]){rows, width});
    sd_nn_pop(b);
    return sd_graph_embedding(b->g, table, ids);
}
