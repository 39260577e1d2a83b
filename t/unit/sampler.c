/* Samplers against diffusers (t/data/sampler, made by t/ref/samplers.py): timesteps and sigmas, the sampler
 * alone with a formula in place of a model, and with the small U-Net under guidance, step by step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/step.h"
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

/* A part of a step, or a whole one. */
struct part {
    struct sd_graph *g;
    struct sd_plan *plan;
    struct sd_tensor *coef, *more; /* inputs */
    struct sd_tensor *out;         /* NULL: it only writes the latents */
};

struct network {
    struct sd_tensor_file *file;
    struct sd_model_config config;
    struct sd_backend *backend;
    struct sd_weights *weights;
    float x[COUNT];
    struct sd_var latents;     /* NHWC */
    struct part input, update; /* what is before the model, and behind it */
    struct part step;          /* with the U-Net, for a negative prompt and a prompt; more: timesteps */
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

static void part_open(struct part *p)
{
    p->g = sd_graph_new();
    p->coef = sd_graph_input(p->g, "coefficients", SD_F32, 2, (int64_t[]){1, SD_STEP_COEFFICIENTS});
}

static void part_compile(struct part *p, struct network *n)
{
    struct sd_err err = {0};
    if (p->out)
        sd_graph_output(p->g, p->out);
    if (sd_graph_fuse(p->g) || sd_graph_prune(p->g) || !(p->plan = sd_plan_new(p->g, n->backend, &err))) {
        sd_graph_error(p->g, &err);
        bail(err.msg);
    }
}

static void part_close(struct part *p)
{
    sd_plan_free(p->plan);
    sd_graph_free(p->g);
}

static struct sd_tensor *latents(struct part *p, struct network *n)
{
    return sd_graph_var(p->g, &n->latents, SD_F32);
}

/* What is around a model that the test is itself. */
static void build_around(struct network *n)
{
    part_open(&n->input);
    n->input.out = sd_step_input(n->input.g, latents(&n->input, n), n->input.coef, false);
    part_compile(&n->input, n);
    part_open(&n->update);
    n->update.more = sd_graph_input(n->update.g, "out", SD_F32, 4, n->latents.dim);
    sd_step_update(n->update.g, latents(&n->update, n), n->update.coef, n->update.more);
    part_compile(&n->update, n);
}

/* The step with the U-Net; returns its context. */
static struct sd_tensor *build_step(struct network *n, const int64_t *context_shape)
{
    struct part *p = &n->step;
    struct sd_nn b;
    part_open(p);
    sd_nn_init(&b, p->g, SD_F32, sd_weights_param, n->weights);
    p->more = sd_graph_input(p->g, "timesteps", SD_F32, 1, (int64_t[]){2});
    struct sd_tensor *context = sd_graph_input(p->g, "context", SD_F32, 3, context_shape);
    struct sd_tensor *in = sd_step_input(p->g, latents(p, n), p->coef, true);
    sd_step_update(p->g, latents(p, n), p->coef, sd_unet(&b, &n->config.unet, in, p->more, context));
    sd_nn_free(&b);
    part_compile(p, n);
    return context;
}

static void open_network(struct network *n)
{
    struct sd_err err = {0};
    n->config = *sd_model_config_builtin("sd1");
    n->latents = (struct sd_var){
        .name = "latents", .dtype = SD_F32, .ndim = 4, .dim = {1, H, W, C}, .data = n->x, .state = n->x};
    if (sd_tensor_file_open(&n->file, "t/data/model/sd1-small.safetensors", &err) ||
        sd_model_config_parse_text(&n->config, sd_tensor_file_meta(n->file, "sd_config"), &err) ||
        !(n->backend = sd_backend_new(test_backend(), &err)) ||
        !(n->weights = sd_weights_new(find_in_file, n->file, &err)))
        bail(err.msg);
    build_around(n);
    const struct sd_store_entry *text = sd_tensor_file_find(n->file, "out.text.last");
    size_t half = text->bytes / 2;
    const struct sd_tensor *context_input = build_step(n, text->shape);
    char *context = sd_plan_data(n->step.plan, context_input);
    memcpy(context, (const char *)text->data + half, half);
    memcpy(context + half, text->data, half);
}

static void close_network(struct network *n)
{
    part_close(&n->input);
    part_close(&n->update);
    part_close(&n->step);
    sd_weights_free(n->weights);
    sd_backend_free(n->backend);
    sd_tensor_file_close(n->file);
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

static void start(struct network *n, const struct sd_sampler *s, const float *noise)
{
    for (int p = 0; p < H * W; p++)
        for (int c = 0; c < C; c++)
            n->x[p * C + c] = noise[c * H * W + p] * s->init_sigma;
    var_push(n->backend, &n->latents);
}

/* The latents in NCHW against want. */
static double latents_difference(struct network *n, const float *want)
{
    float x[COUNT];
    var_pull(n->backend, &n->latents);
    for (int p = 0; p < H * W; p++)
        for (int c = 0; c < C; c++)
            x[c * H * W + p] = n->x[p * C + c];
    return difference(x, want);
}

static void run_part(struct part *p, const struct sd_sampler *s, int i, double scale)
{
    sd_sampler_step(s, i, scale, sd_plan_data(p->plan, p->coef));
    plan_run(p->plan);
}

/* 0.7 sin(x) + t/2000 in place of a model. */
static double run_formula(struct network *n, const struct sd_sampler *s, const float *noise,
                          const float *want)
{
    start(n, s, noise);
    for (int i = 0; i < s->n; i++) {
        run_part(&n->input, s, i, 1);
        const float *in = sd_plan_data(n->input.plan, n->input.out);
        float *out = sd_plan_data(n->update.plan, n->update.more);
        for (int k = 0; k < COUNT; k++)
            out[k] = 0.7f * sinf(in[k]) + s->timestep[i] / 2000;
        run_part(&n->update, s, i, 1);
    }
    return latents_difference(n, want);
}

/* The worst of the latents that the fixture has: every step of 5, else every fifth. */
static double run_network(struct network *n, const struct sd_sampler *s, float scale, const float *noise,
                          const float *want)
{
    int every = s->n > 5 ? 5 : 1;
    double worst = 0;
    start(n, s, noise);
    for (int i = 0; i < s->n; i++) {
        float *t = sd_plan_data(n->step.plan, n->step.more);
        t[0] = t[1] = s->timestep[i];
        run_part(&n->step, s, i, (double)scale);
        if ((i + 1) % every == 0)
            worst = fmax(worst, latents_difference(n, want + ((i + 1) / every - 1) * COUNT));
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
    double d = run_formula(n, &s, noise, need(tf, k->name, steps, "fake"));
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
        float x = 1;
        const struct sd_sampler_setup setup = {.name = name, .steps = steps[i]};
        bool good = !sd_sampler_init(&s, &setup, &err);
        for (int k = 0; good && k < s.n; k++) {
            good = s.timestep[k] >= 0 && s.timestep[k] <= 999 && (!k || s.timestep[k] < s.timestep[k - 1]);
            float c[SD_STEP_COEFFICIENTS]; /* the model's answer is 0 */
            sd_sampler_step(&s, k, 7.5, c);
            good &= isfinite(c[SD_STEP_IN]) && isfinite(c[SD_STEP_X0_OF_OUT]) && isfinite(c[SD_STEP_OUT]);
            x = c[SD_STEP_X] * x + c[SD_STEP_X0] * (c[SD_STEP_X0_OF_X] * x);
        }
        ok(good && isfinite(x), "%s: %d steps", name, steps[i]);
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
