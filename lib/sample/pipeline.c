#include "sample/pipeline.h"

#include "base/rng.h"
#include "diffusion/step.h"
#include "model/declare.h"
#include "model/text_context.h"
#include "model/unet.h"
#include "sample/autoencoder.h"
#include "tensor/frozen.h"
#include "tensor/pass.h"
#include "text/clip_bpe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CHUNKS = 3, MAX_INPUTS = 2 };

enum stage { STAGE_TEXT, STAGE_STEP };

/* A compiled stage of one shape. */
struct stage_plan {
    struct stage_plan *next;
    enum stage stage;
    int64_t shape[4]; /* text: prompts, chunks; step: prompts, h, w, context tokens */
    struct sd_graph *graph;
    struct sd_plan *plan;
    struct sd_tensor *in[MAX_INPUTS]; /* text: ids; step: coefficients, timesteps */
    struct sd_tensor *out;            /* text: states; step: the norm of the latents (sd_graph_clip) */
    struct sd_var latents, context;   /* step: what a run goes on from, and what it only reads */
};

struct sd_pipeline {
    struct sd_model_file *model;
    struct sd_model_config config;
    struct sd_pipeline_options options;
    struct sd_backend *backend;
    struct sd_weights *weights;
    struct sd_autoencoder *vae;
    struct sd_clip_bpe *bpe;
    struct sd_workspace workspace;
    struct stage_plan *plans;
};

int sd_pipeline_new(struct sd_pipeline **out, struct sd_model_file *model, struct sd_model_file *vae,
                    struct sd_backend *backend, const struct sd_pipeline_options *options, struct sd_err *err)
{
    struct sd_pipeline *p = *out = calloc(1, sizeof *p);
    if (!p)
        return sd_err_memory(err, sizeof *p);
    p->model = model;
    p->config = *sd_model_file_config(model);
    p->config.vae = sd_model_file_config(vae ? vae : model)->vae;
    p->options = *options;
    p->backend = backend;
    if (sd_model_check(model, SD_PART_UNET, err) || sd_model_check(model, SD_PART_TEXT, err) ||
        sd_clip_bpe_new(p->config.text.pad == 0 ? SD_CLIP_SD2 : SD_CLIP_SD1, &p->bpe, err) ||
        !(p->weights = sd_weights_new(options->find ? options->find : sd_model_file_find,
                                      options->find ? options->find_ctx : model, err)) ||
        sd_autoencoder_new(&p->vae, vae ? vae : model, backend, options->dtype, &p->workspace, err)) {
        sd_pipeline_free(p);
        *out = NULL;
        return -1;
    }
    return 0;
}

static void stage_free(struct sd_pipeline *p, struct stage_plan *s)
{
    sd_plan_free(s->plan);
    sd_graph_free(s->graph);
    sd_var_drop(p->backend, &s->latents);
    sd_var_drop(p->backend, &s->context);
    free(s->latents.state);
    free(s->context.state);
    free(s);
}

void sd_pipeline_free(struct sd_pipeline *p)
{
    if (!p)
        return;
    for (struct stage_plan *s = p->plans, *next; s; s = next) {
        next = s->next;
        stage_free(p, s);
    }
    sd_autoencoder_free(p->vae);
    sd_workspace_free(&p->workspace);
    sd_weights_free(p->weights);
    sd_clip_bpe_free(p->bpe);
    free(p);
}

/* --- the stages as graphs
 * ----------------------------------------------------------------------------------------- */

static void build_text(struct sd_pipeline *p, struct sd_nn *b, struct stage_plan *s)
{
    int64_t n = s->shape[0], chunks = s->shape[1];
    s->in[0] = sd_graph_input(b->g, "ids", SD_I32, 2, (int64_t[]){n * chunks, p->config.text.positions});
    struct sd_tensor *h = sd_text_context(b, &p->config.text, s->in[0], (int)chunks, p->options.clip_skip);
    s->out = sd_graph_cast(b->g, h, SD_F32);
}

/* A step of the sampler: the U-Net once for each prompt, guidance, and the latents after it. */
static void build_step(struct sd_pipeline *p, struct sd_nn *b, struct stage_plan *s)
{
    const struct sd_unet_config *c = &p->config.unet;
    struct sd_tensor *coef = sd_graph_input(b->g, "coefficients", SD_F32, 2,
                                            (int64_t[]){1, SD_STEP_COEFFICIENTS}),
                     *t = sd_graph_input(b->g, "timesteps", SD_F32, 1, &s->shape[0]);
    struct sd_tensor *x = sd_graph_var(b->g, &s->latents, SD_F32),
                     *context = sd_graph_var(b->g, &s->context, SD_F32);
    struct sd_tensor *in = sd_step_input(b->g, x, coef, s->shape[0] == 2);
    struct sd_tensor *out = sd_unet(b, c, in, t, sd_nn_cast(b, context, b->dtype));
    struct sd_tensor *next = sd_step_update(b->g, x, coef, out);
    s->in[0] = coef;
    s->in[1] = t;
    s->out = sd_graph_clip(b->g, &next, 1, 0, NULL);
}

static int make_var(struct sd_var *v, const char *name, int ndim, const int64_t *dim, struct sd_err *err)
{
    *v = (struct sd_var){.name = name, .dtype = SD_F32, .ndim = ndim};
    memcpy(v->dim, dim, (size_t)ndim * sizeof *dim);
    size_t n = (size_t)sd_var_count(v);
    v->data = v->state = calloc(n, sizeof(float));
    return v->state ? 0 : sd_err_memory(err, n * sizeof(float));
}

static int make_vars(struct sd_pipeline *p, struct stage_plan *s, struct sd_err *err)
{
    const struct sd_unet_config *c = &p->config.unet;
    const int64_t *shape = s->shape, x[] = {1, shape[1], shape[2], c->in_channels},
                  context[] = {shape[0], shape[3], c->context};
    return make_var(&s->latents, "latents", 4, x, err) || make_var(&s->context, "context", 3, context, err)
               ? -1
               : 0;
}

static int build(struct sd_pipeline *p, struct stage_plan *s, struct sd_err *err)
{
    struct sd_nn b;
    if (s->stage == STAGE_STEP && make_vars(p, s, err))
        return -1;
    sd_nn_init(&b, s->graph, p->options.dtype, sd_weights_param, p->weights);
    b.adapt = p->options.adapt;
    b.adapt_ctx = p->options.adapt_ctx;
    (s->stage == STAGE_TEXT ? build_text : build_step)(p, &b, s);
    sd_nn_free(&b);
    sd_graph_output(s->graph, s->out);
    if (sd_graph_error(s->graph, err) || sd_weights_check(p->weights, sd_model_file_path(p->model), err))
        return -1;
    if (sd_graph_fuse(s->graph) || sd_graph_prune(s->graph))
        return sd_graph_error(s->graph, err);
    return (s->plan = sd_plan_new_in(s->graph, p->backend, &p->workspace, err)) ? 0 : -1;
}

static struct stage_plan *stage_get(struct sd_pipeline *p, enum stage stage, const int64_t shape[4],
                                    struct sd_err *err)
{
    for (struct stage_plan *s = p->plans; s; s = s->next)
        if (s->stage == stage && !memcmp(s->shape, shape, sizeof s->shape))
            return s;
    struct stage_plan *s = calloc(1, sizeof *s);
    if (!s || !(s->graph = sd_graph_new())) {
        free(s);
        sd_err_memory(err, sizeof *s);
        return NULL;
    }
    s->stage = stage;
    memcpy(s->shape, shape, sizeof s->shape);
    if (build(p, s, err)) {
        stage_free(p, s);
        return NULL;
    }
    s->next = p->plans;
    p->plans = s;
    return s;
}

static void *in(struct stage_plan *s, int i)
{
    return sd_plan_data(s->plan, s->in[i]);
}

/* The output, NULL with err set when the device failed. */
static const float *run(struct stage_plan *s, struct sd_err *err)
{
    return sd_plan_run(s->plan, err) ? NULL : sd_plan_data(s->plan, s->out);
}

/* --- drawing
 * ------------------------------------------------------------------------------------------------------ */

/* Chunks of 75 tokens that a prompt needs, at most MAX_CHUNKS: the rest is cut, as sd-scripts does. */
static int chunks_of(struct sd_pipeline *p, const char *text, size_t *chunks, struct sd_err *err)
{
    int32_t *ids;
    size_t n, inner = SD_CLIP_CONTEXT - 2;
    if (sd_clip_bpe_encode(p->bpe, text, strlen(text), &ids, &n, err))
        return -1;
    free(ids);
    size_t need = n ? (n + inner - 1) / inner : 1;
    need = need > MAX_CHUNKS ? MAX_CHUNKS : need;
    *chunks = need > *chunks ? need : *chunks;
    return 0;
}

/* Encodes the prompt, behind the negative one when n is 2: *step is the stage for what came out, with that as
 * its context. */
static int encode(struct sd_pipeline *p, const struct sd_draw *d, int64_t n, struct stage_plan **step,
                  struct sd_err *err)
{
    const char *text[2] = {d->negative ? d->negative : "", d->prompt};
    size_t chunks = 1;
    for (int64_t i = 2 - n; i < 2; i++)
        if (chunks_of(p, text[i], &chunks, err))
            return -1;
    struct stage_plan *s = stage_get(p, STAGE_TEXT, (int64_t[4]){n, (int64_t)chunks}, err);
    if (!s || !(*step = stage_get(p, STAGE_STEP, (int64_t[4]){n, d->height / 8, d->width / 8, s->out->dim[1]},
                                  err)))
        return -1;
    int32_t *ids = in(s, 0);
    int length = (int)(chunks * (SD_CLIP_CONTEXT - 2)) + 2;
    for (int64_t i = 0; i < n; i++) {
        const char *t = text[2 - n + i];
        if (sd_clip_bpe_chunks(p->bpe, t, strlen(t), length, ids + (size_t)i * chunks * SD_CLIP_CONTEXT, err))
            return -1;
    }
    const float *states = run(s, err);
    if (!states)
        return -1;
    memcpy((*step)->context.state, states, sd_tensor_bytes(s->out));
    return sd_var_push(p->backend, &(*step)->context, err);
}

/* torch.randn(1, c, h, w) with a fresh generator, times sigma, to latents [1,h,w,c]. */
static int first_noise(struct sd_pipeline *p, struct sd_var *latents, uint64_t seed, float sigma,
                       struct sd_err *err)
{
    int64_t area = latents->dim[1] * latents->dim[2], c = latents->dim[3];
    size_t n = (size_t)(area * c);
    float *noise = malloc(n * sizeof *noise), *x = latents->state;
    if (!noise)
        return sd_err_memory(err, n * sizeof *noise);
    struct sd_rng rng;
    sd_rng_seed(&rng, seed);
    sd_rng_randn(&rng, noise, n);
    for (int64_t i = 0; i < area; i++)
        for (int64_t k = 0; k < c; k++)
            x[i * c + k] = noise[k * area + i] * sigma;
    free(noise);
    return sd_var_push(p->backend, latents, err);
}

/* The sampler's loop: the stage's latents go from noise to a picture's. */
static int denoise(const struct sd_draw *d, const struct sd_sampler *sampler, struct stage_plan *s,
                   struct sd_err *err)
{
    for (int i = 0; i < sampler->n; i++) {
        float *t = in(s, 1);
        sd_sampler_step(sampler, i, d->scale, in(s, 0));
        for (int64_t k = 0; k < s->shape[0]; k++)
            t[k] = sampler->timestep[i];
        const float *clip = run(s, err);
        if (!clip)
            return -1;
        float norm = clip[SD_CLIP_NORM]; /* finite only if all latents are */
        if (!isfinite(norm))
            return sd_err_set(err, SD_ERR_DATA, "the latents became %s at step %d of %d",
                              isnan(norm) ? "NaN" : "infinite", i + 1, sampler->n);
        if (d->step && !d->step(d->ctx, i + 1, sampler->n))
            return 1;
    }
    return 0;
}

int sd_pipeline_latents(struct sd_pipeline *p, const struct sd_draw *d, float *x, struct sd_err *err)
{
    if (d->width < 8 || d->height < 8 || d->width % 8 || d->height % 8 || d->width > 16384 ||
        d->height > 16384)
        return sd_err_set(err, SD_ERR_USAGE,
                          "a picture of %lldx%lld: sides are multiples of 8, at most 16384",
                          (long long)d->width, (long long)d->height);
    struct sd_sampler sampler;
    struct sd_sampler_setup setup = d->sampler;
    struct stage_plan *s = NULL;
    setup.v_prediction = p->options.v_prediction;
    int rc = sd_sampler_init(&sampler, &setup, err);
    if (!rc)
        rc = encode(p, d, d->scale > 1 ? 2 : 1, &s, err);
    if (!rc)
        rc = first_noise(p, &s->latents, d->seed, sampler.init_sigma, err);
    if (!rc)
        rc = denoise(d, &sampler, s, err);
    if (!rc)
        rc = sd_var_pull(p->backend, &s->latents, err);
    if (!rc)
        memcpy(x, s->latents.state, (size_t)sd_var_count(&s->latents) * sizeof *x);
    sd_sampler_free(&sampler);
    return rc;
}

int sd_pipeline_draw(struct sd_pipeline *p, const struct sd_draw *d, struct sd_image *im, struct sd_err *err)
{
    int64_t h = d->height / 8, w = d->width / 8;
    *im = SD_IMAGE_INIT;
    if (h < 1 || w < 1 || h > 2048 || w > 2048)
        return sd_pipeline_latents(p, d, NULL, err); /* says what is wrong with the size */
    int64_t c = p->config.unet.in_channels;
    size_t n = (size_t)(h * w * c);
    float *x = malloc(2 * n * sizeof *x);
    if (!x)
        return sd_err_memory(err, 2 * n * sizeof *x);
    int rc = sd_pipeline_latents(p, d, x, err);
    float *z = x + n; /* unscaled, [c,h,w] */
    for (int64_t i = 0; !rc && i < h * w; i++)
        for (int64_t k = 0; k < c; k++)
            z[k * h * w + i] = x[i * c + k] * (1 / p->config.vae.scale);
    if (!rc)
        rc = sd_autoencoder_decode(p->vae, z, h, w, im, err);
    free(x);
    return rc;
}
