#include "sample/autoencoder.h"

#include "model/declare.h"
#include "model/vae.h"
#include "model/weights.h"
#include "tensor/pass.h"

#include <math.h>
#include <stdlib.h>

struct shape_plan {
    struct shape_plan *next;
    bool decode;
    int64_t n, h, w; /* of the input: pictures, or latents */
    struct sd_graph *graph;
    struct sd_plan *plan;
    struct sd_tensor *in, *out;
};

struct sd_autoencoder {
    struct sd_model_file *model;
    struct sd_vae_config config;
    struct sd_backend *backend;
    enum sd_dtype dtype;
    struct sd_weights *weights;
    struct sd_workspace own, *workspace;
    struct shape_plan *plans;
};

int sd_autoencoder_new(struct sd_autoencoder **out, struct sd_model_file *model, struct sd_backend *backend,
                       enum sd_dtype dtype, struct sd_workspace *workspace, struct sd_err *err)
{
    struct sd_autoencoder *a = *out = calloc(1, sizeof *a);
    if (!a)
        return sd_err_memory(err, sizeof *a);
    *a = (struct sd_autoencoder){
        .model = model, .config = sd_model_file_config(model)->vae, .backend = backend, .dtype = dtype};
    a->workspace = workspace ? workspace : &a->own;
    if (sd_model_check(model, SD_PART_VAE, err) ||
        !(a->weights = sd_weights_new(sd_model_file_find, model, err))) {
        sd_autoencoder_free(a);
        *out = NULL;
        return -1;
    }
    return 0;
}

static void plan_free(struct shape_plan *p)
{
    sd_plan_free(p->plan);
    sd_graph_free(p->graph);
    free(p);
}

void sd_autoencoder_free(struct sd_autoencoder *a)
{
    if (!a)
        return;
    for (struct shape_plan *p = a->plans, *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    sd_workspace_free(&a->own);
    sd_weights_free(a->weights);
    free(a);
}

int64_t sd_autoencoder_channels(const struct sd_autoencoder *a)
{
    return a->config.latent_channels;
}

static int build(struct sd_autoencoder *a, struct shape_plan *p, struct sd_err *err)
{
    struct sd_nn b;
    sd_nn_init(&b, p->graph, a->dtype, sd_weights_param, a->weights);
    const struct sd_vae_config *c = &a->config;
    int64_t shape[] = {p->n, p->h, p->w, p->decode ? c->latent_channels : c->in_channels};
    p->in = sd_graph_input(p->graph, p->decode ? "z" : "picture", SD_F32, 4, shape);
    p->out = p->decode ? sd_vae_decode(&b, c, p->in) : sd_vae_encode(&b, c, p->in);
    sd_nn_free(&b);
    sd_graph_output(p->graph, p->out);
    if (sd_graph_error(p->graph, err) || sd_weights_check(a->weights, sd_model_file_path(a->model), err))
        return -1;
    if (sd_graph_fuse(p->graph) || sd_graph_prune(p->graph))
        return sd_graph_error(p->graph, err);
    return (p->plan = sd_plan_new_in(p->graph, a->backend, a->workspace, err)) ? 0 : -1;
}

static struct shape_plan *plan_get(struct sd_autoencoder *a, bool decode, int64_t n, int64_t h, int64_t w,
                                   struct sd_err *err)
{
    struct shape_plan *p = a->plans;
    while (p && (p->decode != decode || p->n != n || p->h != h || p->w != w))
        p = p->next;
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (!p || !(p->graph = sd_graph_new())) {
        free(p);
        sd_err_memory(err, sizeof *p);
        return NULL;
    }
    p->decode = decode;
    p->n = n;
    p->h = h;
    p->w = w;
    if (build(a, p, err)) {
        plan_free(p);
        return NULL;
    }
    p->next = a->plans;
    a->plans = p;
    return p;
}

/* moments [n,h,w,2c] to a draw [n,c,h,w]. */
static void posterior(const float *moments, const float *noise, int64_t n, int64_t c, int64_t hw, float *out)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < c; k++)
            for (int64_t p = 0; p < hw; p++) {
                const float *m = moments + (i * hw + p) * 2 * c;
                float logvar = fminf(fmaxf(m[c + k], -30), 20);
                int64_t at = (i * c + k) * hw + p;
                out[at] = m[k] + (noise ? expf(0.5f * logvar) * noise[at] : 0);
            }
}

int sd_autoencoder_encode(struct sd_autoencoder *a, const struct sd_image *const *pictures, int64_t n,
                          const float *noise, float *latents, struct sd_err *err)
{
    int64_t h = pictures[0]->height, w = pictures[0]->width;
    struct shape_plan *p = plan_get(a, false, n, h, w, err);
    if (!p)
        return -1;
    float *in = sd_plan_data(p->plan, p->in);
    size_t count = (size_t)(h * w * 3);
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < count; k++) /* sd-scripts: x/255, then (x - 0.5)/0.5 */
            in[(size_t)i * count + k] = ((float)pictures[i]->data[k] / 255.0f - 0.5f) / 0.5f;
    if (sd_plan_run(p->plan, err))
        return -1;
    posterior(sd_plan_data(p->plan, p->out), noise, n, a->config.latent_channels,
              p->out->dim[1] * p->out->dim[2], latents);
    return 0;
}

int sd_autoencoder_check(const float *latents, size_t n, struct sd_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(latents[i]))
            return sd_err_set(err, SD_ERR_DATA,
                              "the VAE gives %s for it (some are not made for bf16: compute them in f32)",
                              isnan(latents[i]) ? "NaN" : "infinity");
    return 0;
}

/* [-1,1] to 8 bits, rounded to nearest even as NumPy does. */
static void to_bytes(const float *from, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = fminf(fmaxf(from[i] / 2 + 0.5f, 0), 1);
        to[i] = (uint8_t)rintf(v * 255);
    }
}

int sd_autoencoder_decode(struct sd_autoencoder *a, const float *latents, int64_t h, int64_t w,
                          struct sd_image *im, struct sd_err *err)
{
    int64_t c = a->config.latent_channels;
    *im = SD_IMAGE_INIT;
    struct shape_plan *p = plan_get(a, true, 1, h, w, err);
    if (!p || sd_image_alloc(im, (uint64_t)p->out->dim[2], (uint64_t)p->out->dim[1], 3, err))
        return -1;
    float *in = sd_plan_data(p->plan, p->in);
    for (int64_t k = 0; k < c; k++)
        for (int64_t i = 0; i < h * w; i++)
            in[i * c + k] = latents[k * h * w + i];
    if (sd_plan_run(p->plan, err)) {
        sd_image_free(im);
        return -1;
    }
    to_bytes(sd_plan_data(p->plan, p->out), im->data, (size_t)im->width * im->height * 3);
    return 0;
}
