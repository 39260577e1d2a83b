/* Samplers against diffusers (t/data/sampler, made by t/ref/samplers.py): timesteps and sigmas, the sampler
 * alone with a formula in place of a model, and with the small U-Net under guidance, step by step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/sampler.h"
#include "model/config_json.h"
#include "model/unet.h"
#include "model/weights.h"
#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/pass.h"
#include "tensor/plan.h"

enum { C = 4, H = 6, W = 8, COUNT = C * H * W };

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

/* A scheduler of the fixture. */
struct kind {
    const char *name;
    const char *sampler;
    bool v, clip, to_first;
    int offset;
    float scale; /* of the guidance */
};

static const struct kind kinds[] = {
    {"ddim-train.eps", "ddim", .clip = true, .scale = 1.5f},
    {"ddim-train.v", "ddim", .v = true, .clip = true, .scale = 1.5f},
    {"ddim-gen.eps", "ddim", .offset = 1, .scale = 7.5f},
    {"ddim-gen.v", "ddim", .v = true, .offset = 1, .scale = 7.5f},
    {"ddim-sd.eps", "ddim", .offset = 1, .to_first = true, .scale = 7.5f},
    {"euler.eps", "euler", .scale = 7.5f},
    {"euler.v", "k_euler", .v = true, .scale = 7.5f},
};

/* The U-Net with prompt and negative prompt, the latter first. */
struct network {
    struct sd_tensor_file *file;
    struct sd_model_config config;
    struct sd_backend *backend;
    struct sd_weights *weights;
    struct sd_graph *g;
    struct sd_plan *plan;
    struct sd_tensor *x, *timesteps, *context, *out;
};

static const struct sd_store_entry *entry(const struct sd_tensor_file *tf, const char *kind, int steps,
                                          const char *what)
{
    char key[96];
    snprintf(key, sizeof key, "out.%s.%d.%s", kind, steps, what);
    return sd_tensor_file_find(tf, key);
}

static const float *need(const struct sd_tensor_file *tf, const char *kind, int steps, const char *what)
{
    const struct sd_store_entry *e = entry(tf, kind, steps, what);
    if (!e)
        bail(what);
    return e->data;
}

static bool find_in_file(void *ctx, const char *name, struct sd_store_entry *e)
{
    const struct sd_store_entry *found = sd_tensor_file_find(ctx, name);
    if (found)
        *e = *found;
    return found != NULL;
}

static void open_network(struct network *n)
{
    struct sd_err err = {0};
    struct sd_nn b;
    n->config = *sd_model_config_builtin("sd1");
    if (sd_tensor_file_open(&n->file, "t/data/model/sd1-small.safetensors", &err) ||
        sd_model_config_parse_text(&n->config, sd_tensor_file_meta(n->file, "sd_config"), &err) ||
        !(n->backend = sd_backend_new(test_backend(), &err)) ||
        !(n->weights = sd_weights_new(find_in_file, n->file, &err)) || !(n->g = sd_graph_new()))
        bail(err.msg);
    const struct sd_store_entry *text = sd_tensor_file_find(n->file, "out.text.last");
    sd_nn_init(&b, n->g, SD_F32, sd_weights_param, n->weights);
    n->x = sd_graph_input(n->g, "x", SD_F32, 4, (int64_t[]){2, H, W, C});
    n->timesteps = sd_graph_input(n->g, "timesteps", SD_F32, 1, (int64_t[]){2});
    n->context = sd_graph_input(n->g, "context", SD_F32, 3, text->shape);
    n->out = sd_unet(&b, &n->config.unet, n->x, n->timesteps, n->context);
    sd_nn_free(&b);
    sd_graph_output(n->g, n->out);
    if (sd_graph_fuse(n->g) || !(n->plan = sd_plan_new(n->g, n->backend, &err)))
        bail(err.msg);
    size_t half = text->bytes / 2;
    char *context = sd_plan_data(n->plan, n->context);
    memcpy(context, (const char *)text->data + half, half);
    memcpy(context + half, text->data, half);
}

static void close_network(struct network *n)
{
    sd_plan_free(n->plan);
    sd_graph_free(n->g);
    sd_weights_free(n->weights);
    sd_backend_free(n->backend);
    sd_tensor_file_close(n->file);
}

/* out = u + scale (c - u), in NCHW. */
static void predict(struct network *n, const float *in, float timestep, float scale, float *out)
{
    float *x = sd_plan_data(n->plan, n->x), *t = sd_plan_data(n->plan, n->timesteps);
    for (int p = 0; p < H * W; p++)
        for (int c = 0; c < C; c++)
            x[p * C + c] = x[COUNT + p * C + c] = in[c * H * W + p];
    t[0] = t[1] = timestep;
    plan_run(n->plan);
    const float *y = sd_plan_data(n->plan, n->out);
    for (int p = 0; p < H * W; p++)
        for (int c = 0; c < C; c++) {
            float u = y[p * C + c], v = y[COUNT + p * C + c];
            out[c * H * W + p] = u + scale * (v - u);
        }
}

/* Largest difference over the largest value. */
static double difference(const float *got, const float *want)
{
    double worst = 0, scale = 0;
    for (int i = 0; i < COUNT; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        worst = d > worst || isnan(d) ? d : worst;
        scale = fmax(scale, fabs((double)want[i]));
    }
    return worst / scale;
}

static void start(const struct sd_sampler *s, const float *noise, float *x)
{
    for (int i = 0; i < COUNT; i++)
        x[i] = noise[i] * s->init_sigma;
}

/* 0.7 sin(x) + t/2000 in place of a model. */
static double run_formula(const struct sd_sampler *s, const float *noise, const float *want)
{
    float x[COUNT], in[COUNT];
    start(s, noise, x);
    for (int i = 0; i < s->n; i++) {
        sd_sampler_input(s, i, x, in, COUNT);
        for (int k = 0; k < COUNT; k++)
            in[k] = 0.7f * sinf(in[k]) + s->timestep[i] / 2000;
        sd_sampler_step(s, i, in, x, COUNT);
    }
    return difference(x, want);
}

/* The worst of the latents that the fixture has: every step of 5, else every fifth. */
static double run_network(struct network *n, const struct sd_sampler *s, float scale, const float *noise,
                          const float *want)
{
    float x[COUNT], in[COUNT];
    int every = s->n > 5 ? 5 : 1;
    double worst = 0;
    start(s, noise, x);
    for (int i = 0; i < s->n; i++) {
        sd_sampler_input(s, i, x, in, COUNT);
        predict(n, in, s->timestep[i], scale, in);
        sd_sampler_step(s, i, in, x, COUNT);
        if ((i + 1) % every == 0)
            worst = fmax(worst, difference(x, want + ((i + 1) / every - 1) * COUNT));
    }
    return worst;
}

/* To the last place: torch's x**0.5 is not always the float nearest to the root. */
static bool sigmas_are(const struct sd_sampler *s, const float *want)
{
    bool same = true;
    for (int i = 0; i <= s->n; i++)
        same &= fabsf(s->sigma[i] - want[i]) <= 1.2e-7f * want[i];
    return same;
}

static void check(struct network *n, const struct sd_tensor_file *tf, const struct kind *k, int steps)
{
    struct sd_sampler s;
    struct sd_err err = {0};
    const struct sd_sampler_setup setup = {.name = k->sampler,
                                           .steps = steps,
                                           .v_prediction = k->v,
                                           .clip_sample = k->clip,
                                           .steps_offset = k->offset,
                                           .end_at_first = k->to_first};
    const float *noise = sd_tensor_file_find(tf, "in.noise")->data;
    if (sd_sampler_init(&s, &setup, &err))
        bail(err.msg);
    ok(s.n == steps && !memcmp(s.timestep, need(tf, k->name, steps, "timesteps"), (size_t)steps * 4),
       "%s %d: timesteps", k->name, steps);
    if (entry(tf, k->name, steps, "sigmas"))
        ok(sigmas_are(&s, need(tf, k->name, steps, "sigmas")), "%s %d: sigmas", k->name, steps);
    double d = run_formula(&s, noise, need(tf, k->name, steps, "fake"));
    ok(d < 1e-5, "%s %d: the sampler alone (%.1e)", k->name, steps, d);
    if (entry(tf, k->name, steps, "latents")) {
        d = run_network(n, &s, k->scale, noise, need(tf, k->name, steps, "latents"));
        ok(d < 1e-4, "%s %d: with a U-Net (%.1e)", k->name, steps, d);
    }
    sd_sampler_free(&s);
}

/* One step, and as many as there are. */
static void test_ends(const char *name)
{
    static const int steps[] = {1, 2, 999, 1000};
    for (int i = 0; i < 4; i++) {
        struct sd_sampler s;
        struct sd_err err = {0};
        float x[2] = {1, -2}, in[2];
        const struct sd_sampler_setup setup = {.name = name, .steps = steps[i]};
        bool good = !sd_sampler_init(&s, &setup, &err);
        for (int k = 0; good && k < s.n; k++) {
            good = s.timestep[k] >= 0 && s.timestep[k] <= 999 && (!k || s.timestep[k] < s.timestep[k - 1]);
            sd_sampler_input(&s, k, x, in, 2);
            in[0] = in[1] = 0;
            sd_sampler_step(&s, k, in, x, 2);
        }
        ok(good && isfinite(x[0]) && isfinite(x[1]), "%s: %d steps", name, steps[i]);
        sd_sampler_free(&s);
    }
}

static void refuses(struct sd_sampler_setup setup)
{
    struct sd_sampler s;
    struct sd_err err = {0};
    bool refused = sd_sampler_init(&s, &setup, &err) && err.code == SD_ERR_USAGE;
    sd_sampler_free(&s);
    ok(refused, "%s", err.msg);
}

int main(void)
{
    static const int steps[] = {5, 20, 30};
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    struct network n = {0};
    if (sd_tensor_file_open(&tf, "t/data/sampler/samplers.safetensors", &err))
        bail(err.msg);
    open_network(&n);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int k = 0; k < 3; k++)
            check(&n, tf, &kinds[i], steps[k]);
    close_network(&n);
    sd_tensor_file_close(tf);
    test_ends("ddim");
    test_ends("euler");
    refuses((struct sd_sampler_setup){.name = "heun", .steps = 5});
    refuses((struct sd_sampler_setup){.name = "ddim", .steps = 0});
    refuses((struct sd_sampler_setup){.name = "euler", .steps = 1001});
    refuses((struct sd_sampler_setup){.name = "ddim", .steps = 1000, .steps_offset = 1});
    refuses((struct sd_sampler_setup){.name = "ddim", .steps = 5, .steps_offset = -1});
    return tap_end();
}
