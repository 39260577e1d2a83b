/* Noise, timesteps, weights of losses and huber's thresholds against sd-scripts (t/data/noise, made by
 * t/ref/noise.py). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "diffusion/noise.h"
#include "diffusion/weighting.h"
#include "fixture.h"
#include "tap.h"
#include "train/noise.h"

static struct sd_tensor_file *data;

static const struct sd_store_entry *tensor(const char *prefix, const char *name)
{
    return fixture(data, "%s%s", prefix, name);
}

static double difference(const float *got, const struct sd_store_entry *want)
{
    return fixture_difference(got, want->data, fixture_floats(want));
}

/* Largest |got / want - 1|; 0 is 0. */
static double ratio(const float *got, const struct sd_store_entry *want)
{
    const float *w = want->data;
    double worst = 0;
    for (size_t i = 0; i < want->bytes / sizeof *w; i++) {
        double d = w[i] == 0 ? fabs((double)got[i]) : fabs((double)got[i] / (double)w[i] - 1);
        worst = isnan(d) ? INFINITY : fmax(worst, d);
    }
    return worst;
}

/* --- what is drawn --- */

/* Discount and last timestep of 0 stand for the defaults. */
struct draw {
    const char *name, *shape;
    struct sd_noise_options o;
};

static const struct draw draws[] = {
    {"plain", "a", {.offset_latent = NAN}},
    {"offset", "a", {.offset = 0.1, .offset_latent = NAN}},
    {"offset-zero", "b", {.offset_latent = 0.5}},
    {"offset-random", "b", {.offset = 0.1, .offset_random = true, .offset_latent = NAN}},
    {"adaptive", "a", {.offset = 0.05, .offset_latent = 0.3}},
    {"adaptive-negative", "b", {.offset = 0.1, .offset_latent = -1.5}},
    {"multires", "a", {.multires = 8}},
    {"multires-two", "b", {.multires = 2, .multires_discount = 0.8}},
    {"ip", "a", {.input = 0.1}},
    {"ip-random", "b", {.input = 0.2, .input_random = true}},
    {"range", "b", {.min_timestep = 300, .max_timestep = 310}},
    {"one-timestep", "a", {.min_timestep = 600, .max_timestep = 600}},
    {"all",
     "b",
     {.offset = 0.07,
      .offset_random = true,
      .offset_latent = 0.2,
      .multires = 6,
      .multires_discount = 0.4,
      .input = 0.05,
      .input_random = true,
      .min_timestep = 100,
      .max_timestep = 900}},
};

static struct sd_noise_options options_of(const struct draw *d)
{
    struct sd_noise_options o = d->o, usual = SD_NOISE_DEFAULT;
    o.multires_discount = o.multires_discount != 0 ? o.multires_discount : usual.multires_discount;
    o.max_timestep = o.max_timestep ? o.max_timestep : usual.max_timestep;
    return o;
}

static void check_draw(const struct draw *d)
{
    char prefix[64];
    const struct sd_store_entry *latents = tensor("latents.", d->shape);
    snprintf(prefix, sizeof prefix, "draw.%s.", d->name);
    const struct sd_store_entry *target = tensor(prefix, "noise"), *next = tensor(prefix, "next");
    const struct sd_store_entry *mixed = d->o.input != 0 ? tensor(prefix, "mixed") : target;
    const int32_t *timesteps = tensor(prefix, "timesteps")->data;
    int64_t n = latents->shape[0], got_timesteps[8];
    struct sd_noise b = {.n = n,
                         .c = latents->shape[1],
                         .h = latents->shape[2],
                         .w = latents->shape[3],
                         .latents = latents->data,
                         .scale = 0.18215f,
                         .target = malloc(latents->bytes),
                         .mixed = malloc(latents->bytes),
                         .timesteps = got_timesteps};
    struct sd_rng rng;
    struct sd_pyrandom random;
    sd_rng_seed(&rng, 7);
    sd_pyrandom_seed(&random, 7);
    struct sd_noise_options o = options_of(d);
    sd_noise_draw(&o, &rng, &random, &b);
    bool plain = d->o.offset == 0 && d->o.multires == 0;
    double worst = difference(b.target, target), mix = difference(b.mixed, mixed);
    ok(worst < 3e-7 && (!plain || worst == 0), "%s: the target's noise (%.1e)", d->name, worst);
    ok(mix < 3e-7, "%s: the noise that is mixed in (%.1e)", d->name, mix);
    ok((memcmp(b.mixed, b.target, latents->bytes) == 0) == (d->o.input == 0), "%s: which is %s", d->name,
       d->o.input == 0 ? "the same" : "another");
    bool same = true;
    for (int64_t i = 0; i < n; i++)
        same &= got_timesteps[i] == timesteps[i];
    float after[2];
    sd_rng_rand(&rng, after, 1);
    after[1] = (float)sd_pyrandom_random(&random);
    ok(same, "%s: timesteps", d->name);
    ok(!memcmp(after, next->data, sizeof after), "%s: nothing more is drawn", d->name);
    free(b.target);
    free(b.mixed);
}

/* Sides of 1: the coarsest there are. */
static void check_small(void)
{
    static const int64_t sizes[][2] = {{1, 1}, {1, 9}, {2, 2}, {7, 3}};
    const struct sd_noise_options o = {.offset_latent = NAN, .multires = 1000, .multires_discount = 1};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        float target[2 * 4 * 21], mixed[2 * 4 * 21];
        int64_t timesteps[2], count = 2 * 4 * sizes[k][0] * sizes[k][1];
        struct sd_noise b = {.n = 2,
                             .c = 4,
                             .h = sizes[k][0],
                             .w = sizes[k][1],
                             .scale = 1,
                             .target = target,
                             .mixed = mixed,
                             .timesteps = timesteps};
        struct sd_rng rng;
        struct sd_pyrandom random;
        sd_rng_seed(&rng, 1);
        sd_pyrandom_seed(&random, 1);
        sd_noise_draw(&o, &rng, &random, &b);
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < count; i++) {
            sum += (double)target[i];
            squares += (double)target[i] * (double)target[i];
        }
        double deviation = sqrt((squares - sum * sum / (double)count) / (double)(count - 1));
        ok(fabs(deviation - 1) < 1e-6, "multi-resolution noise of %dx%d has a deviation of 1 (%.7f)",
           (int)b.w, (int)b.h, deviation);
    }
}

/* --- in a graph, as on a card --- */

/* The limits below are a card's: its sine and cosine are approximations. */

/* PyTorch's place of element i of an image [N,H,W,C]. */
static int64_t place(const int64_t *dim, int64_t i)
{
    int64_t ch = i % dim[3], pixel = i / dim[3] % (dim[1] * dim[2]), n = i / dim[3] / (dim[1] * dim[2]);
    return (n * dim[3] + ch) * dim[1] * dim[2] + pixel;
}

static double image_difference(struct sd_plan *plan, const struct sd_tensor *got,
                               const struct sd_store_entry *want)
{
    int64_t n = sd_tensor_count(got);
    float *y = malloc((size_t)n * sizeof *y);
    const float *x = sd_plan_data(plan, got);
    for (int64_t i = 0; i < n; i++)
        y[place(got->dim, i)] = x[i];
    double d = difference(y, want);
    free(y);
    return d;
}

struct made {
    struct sd_graph *g;
    struct sd_tensor *latents;
    struct sd_train_noise noise;
    struct sd_plan *plan;
};

static void make(struct made *m, const struct sd_noise_options *o, const int64_t *shape,
                 struct sd_backend *backend)
{
    struct sd_err err = {0};
    m->g = sd_graph_new();
    m->latents =
        sd_graph_input(m->g, "latents", SD_F32, 4, (int64_t[]){shape[0], shape[2], shape[3], shape[1]});
    sd_train_noise_build(&m->noise, m->g, o, 0, sd_graph_scale(m->g, m->latents, 0.18215f));
    sd_graph_output(m->g, m->noise.target);
    sd_graph_output(m->g, m->noise.mixed);
    if (!(m->plan = sd_plan_new(m->g, backend, &err))) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

static void check_card(const struct draw *d, const char *name)
{
    char prefix[64];
    struct sd_err err = {0};
    struct sd_noise_options o = options_of(d);
    const struct sd_store_entry *latents = tensor("latents.", d->shape);
    const int64_t *shape = latents->shape;
    snprintf(prefix, sizeof prefix, "cuda.%s.", d->name);
    o.cuda = true;
    struct sd_backend *backend = sd_backend_new(name, &err);
    struct made m;
    make(&m, &o, shape, backend);
    struct sd_rng rng;
    struct sd_pyrandom random;
    struct sd_philox philox = {.seed = 7};
    int64_t timesteps[8];
    struct sd_noise_parts parts = {
        .levels = malloc(((size_t)sd_noise_level_count(&o, shape[0], shape[1], shape[2], shape[3]) + 1) *
                         sizeof(float))};
    sd_rng_seed(&rng, 7);
    sd_pyrandom_seed(&random, 7);
    sd_noise_draw_parts(&o, &philox, 0, &rng, &random, shape[0], shape[1], shape[2], shape[3], &parts,
                        timesteps);
    sd_train_to_nhwc(sd_plan_data(m.plan, m.latents), latents->data, shape[0], shape[1], shape[2] * shape[3]);
    sd_train_noise_feed(&m.noise, m.plan, &o, &(struct sd_train_noise_batch){.parts = &parts});
    if (sd_plan_run(m.plan, &err))
        printf("# %s\n", err.msg);
    double target = image_difference(m.plan, m.noise.target, tensor(prefix, "noise"));
    double mixed =
        image_difference(m.plan, m.noise.mixed, tensor(prefix, d->o.input != 0 ? "mixed" : "noise"));
    ok(target < 5e-6, "%s: %s as on a card: the target's noise (%.1e)", name, d->name, target);
    ok(mixed < 5e-6, "%s: %s as on a card: the noise that is mixed in (%.1e)", name, d->name, mixed);
    const int32_t *want = tensor(prefix, "timesteps")->data;
    bool same = true;
    for (int64_t i = 0; i < shape[0]; i++)
        same &= timesteps[i] == want[i];
    float after[3];
    sd_rng_rand(&rng, after, 1);
    after[1] = (float)sd_pyrandom_random(&random);
    after[2] = (float)philox.offset;
    ok(same && !memcmp(after, tensor(prefix, "next")->data, sizeof after),
       "%s: %s as on a card: timesteps, and nothing more is drawn", name, d->name);
    free(parts.levels);
    sd_plan_free(m.plan);
    sd_graph_free(m.g);
    sd_backend_free(backend);
}

/* --- tables --- */

static const struct {
    const char *name;
    bool v;
    struct sd_weighting w;
} weights[] = {
    {"none", false, {.min_snr_gamma = 0}},
    {"min-snr", false, {.min_snr_gamma = 5}},
    {"min-snr-v", true, {.min_snr_gamma = 5}},
    {"scale-v", true, {.scale_v = true}},
    {"v-like", false, {.v_like = 0.3}},
    {"debiased", false, {.debiased = true}},
    {"debiased-v", true, {.debiased = true}},
    {"all", false, {.min_snr_gamma = 0.5, .v_like = 2, .debiased = true}},
    {"all-v", true, {.min_snr_gamma = 20, .scale_v = true, .debiased = true}},
};

static const struct {
    const char *name;
    bool zero_terminal;
    struct sd_huber h;
} deltas[] = {
    {"snr", false, {SD_HUBER_SNR, 0.1, 1}},
    {"snr-zero", true, {SD_HUBER_SNR, 0.25, 3}},
    {"exponential", false, {SD_HUBER_EXPONENTIAL, 0.1, 1}},
    {"exponential-scaled", false, {SD_HUBER_EXPONENTIAL, 0.03, 1.7}},
    {"constant", false, {SD_HUBER_CONSTANT, 0.2, 1.5}},
};

static void check_tables(void)
{
    struct sd_schedule plain, zero;
    float table[SD_TIMESTEPS];
    sd_schedule_init(&plain);
    sd_schedule_init_zero_terminal(&zero);
    double worst = ratio(zero.alpha_bar, tensor("schedule.", "zero"));
    ok(worst < 1e-6, "the schedule without signal at its end (%.1e)", worst);
    ok(zero.alpha_bar[SD_TIMESTEPS - 1] == 0 && isinf(zero.sigma[SD_TIMESTEPS - 1]), "has none there");
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        sd_weighting_table(&weights[i].w, weights[i].v, table);
        worst = ratio(table, tensor("weight.", weights[i].name));
        ok(worst < 1e-6, "weights of %s (%.1e)", weights[i].name, worst);
    }
    for (size_t i = 0; i < sizeof deltas / sizeof *deltas; i++) {
        sd_huber_table(&deltas[i].h, deltas[i].zero_terminal ? &zero : &plain, table);
        worst = ratio(table, tensor("delta.", deltas[i].name));
        ok(worst < 1e-6, "huber's threshold of %s (%.1e)", deltas[i].name, worst);
    }
}

int main(void)
{
    struct sd_err err = {0};
    if (sd_tensor_file_open(&data, "t/data/noise/noise.safetensors", &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    for (size_t i = 0; i < sizeof draws / sizeof *draws; i++)
        check_draw(&draws[i]);
    const char *const backends[] = {"ref", test_backend()};
    for (size_t i = 0; i < 2 * sizeof draws / sizeof *draws; i++) {
        const struct draw *d = &draws[i / 2];
        char key[64];
        snprintf(key, sizeof key, "cuda.%s.noise", d->name);
        if (sd_tensor_file_find(data, key))
            check_card(d, backends[i % 2]);
    }
    check_small();
    check_tables();
    sd_tensor_file_close(data);
    return tap_end();
}
