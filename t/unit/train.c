/* Training step by step against sd-scripts (t/data/lora, made by t/ref/lora.py): losses, norms, rates and the
 * trained network, on the cpu backend; what must not change them (checkpointing, threads), and what may a
 * little (bfloat16). */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora.h"
#include "diffusion/noise.h"
#include "model/config_json.h"
#include "optim/lr.h"
#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/frozen.h"
#include "train/groups.h"
#include "train/trainer.h"

enum { STEPS = 20 };

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

/* A run as its fixture describes it. */
struct course {
    const char *label, *model, *file, *prefix; /* prefix: of the names of results, or NULL */
    float alpha;
    double rate, max_grad_norm;
    const char *schedule;
    double warmup;
    int accumulation;
    const char *words[8];  /* network_args */
    const char *optimizer; /* NULL: AdamW */
    double dropout, max_norm;
    bool drawn; /* the first network, noise and timesteps are drawn here, not read */
    int steps;
    bool v_prediction, zero_terminal;
    enum sd_loss loss;
    struct sd_weighting weighting;
    struct sd_huber huber;
    struct sd_noise_options noise;
};

static const struct course run1 = {.label = "run1",
                                   .model = "t/data/model/sd1-small.safetensors",
                                   .file = "t/data/lora/run1.safetensors",
                                   .alpha = 1,
                                   .rate = 1e-3,
                                   .max_grad_norm = 1,
                                   .schedule = "constant",
                                   .accumulation = 1,
                                   .steps = STEPS};
static const struct course run2 = {.label = "run2",
                                   .model = "t/data/model/sd2-small.safetensors",
                                   .file = "t/data/lora/run2.safetensors",
                                   .alpha = 2,
                                   .rate = 2e-3,
                                   .max_grad_norm = 0.05,
                                   .schedule = "constant_with_warmup",
                                   .warmup = 4,
                                   .accumulation = 2,
                                   .steps = STEPS};

/* 25 numbers, or 12 */
#define B4(v) v "," v "," v "," v
#define B12(v) B4(v) "," B4(v) "," B4(v)

static const struct course args[] = {
    {.label = "conv",
     .file = "t/data/lora/args-conv.safetensors",
     .alpha = 1,
     .max_norm = 0.02,
     .words = {"conv_dim=3", "conv_alpha=2", "loraplus_lr_ratio=4", "loraplus_text_encoder_lr_ratio=2"}},
    {.label = "blocks",
     .file = "t/data/lora/args-blocks.safetensors",
     .alpha = 2,
     .words = {"block_dims=" B4("2") ",0,0,0,3,3,3,3,3,1," B4("4") ",4,4,0,0," B4("2"),
               "block_alphas=" B12("1") ",0.5," B12("2"),
               "conv_block_dims=" B4("1") "," B4("1") "," B4("0") ",2,0,0," B4("0") "," B4("3") ",3,3",
               "conv_block_alphas=" B12("1") "," B4("1") "," B4("1") ",0.25," B4("0.25")}},
    {.label = "rates",
     .file = "t/data/lora/args-rates.safetensors",
     .alpha = 1,
     .words = {"down_lr_weight=sine+.25", "mid_lr_weight=0.5", "up_lr_weight=1,,0.05,.7,2,1,1,1,0.1",
               "block_lr_zero_threshold=0.1", "loraplus_unet_lr_ratio=8"}},
    {.label = "adafactor",
     .file = "t/data/lora/args-adafactor.safetensors",
     .alpha = 1,
     .optimizer = "AdaFactor"},
    {.label = "dropout",
     .file = "t/data/lora/args-dropout.safetensors",
     .alpha = 1,
     .dropout = 0.15,
     .words = {"rank_dropout=0.2", "module_dropout=0.3", "conv_dim=2"}},
};

static const struct course noises[] = {
    {.label = "noise, offset",
     .prefix = "offset.",
     .weighting = {.min_snr_gamma = 5},
     .noise = {.offset = 0.1,
               .offset_random = true,
               .offset_latent = 0.2,
               .input = 0.1,
               .input_random = true,
               .min_timestep = 100,
               .max_timestep = 900}},
    {.label = "noise, multires",
     .prefix = "multires.",
     .loss = SD_LOSS_L1,
     .weighting = {.v_like = 0.5},
     .noise = {.multires = 6, .multires_discount = 0.4, .max_timestep = SD_TIMESTEPS}},
    {.label = "noise, velocity",
     .prefix = "velocity.",
     .v_prediction = true,
     .zero_terminal = true,
     .weighting = {.scale_v = true},
     .noise = {.min_timestep = 999, .max_timestep = 999}},
    {.label = "noise, huber",
     .prefix = "huber.",
     .v_prediction = true,
     .zero_terminal = true,
     .loss = SD_LOSS_HUBER,
     .huber = {SD_HUBER_EXPONENTIAL, 0.2, 1.5},
     .weighting = {.debiased = true},
     .noise = {.offset = 0.05, .offset_latent = NAN, .max_timestep = SD_TIMESTEPS}},
    {.label = "noise, smooth",
     .prefix = "smooth.",
     .loss = SD_LOSS_SMOOTH_L1,
     .huber = {SD_HUBER_SNR, 0.1, 1},
     .weighting = {.debiased = true},
     .noise = {.input = 0.1, .max_timestep = SD_TIMESTEPS}},
};

/* How we go through it. */
struct way {
    enum sd_dtype dtype;
    bool checkpointing;
    int threads; /* 0: as many as there are */
    bool scaled; /* losses, dynamically */
};

struct result {
    float loss[STEPS], norm[STEPS], rate[STEPS], rates[STEPS][SD_TRAIN_GROUPS];
    struct sd_lora_norms norms[STEPS];
    float *values; /* the trained network's */
    size_t n_values;
    size_t memory;
    int skipped; /* updates */
};

/* Everything that trains. */
struct session {
    const struct course *course;
    struct sd_tensor_file *model, *data;
    struct sd_model_config config;
    struct sd_backend *backend;
    struct sd_weights *weights;
    struct sd_lora *lora;
    struct sd_lora_stack stack;
    struct sd_network_args args;
    struct sd_train_groups groups;
    struct sd_optimizer optimizer;
    struct sd_lr lr;
    struct sd_trainer *trainer;
};

static const struct sd_store_entry *tensor(const struct sd_tensor_file *tf, const char *prefix,
                                           const char *name)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    const struct sd_store_entry *e = sd_tensor_file_find(tf, key);
    if (!e)
        bail(key);
    return e;
}

/* A result of the run. */
static const struct sd_store_entry *result(const struct course *c, const struct sd_tensor_file *tf,
                                           const char *name)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%sout.", c->prefix ? c->prefix : "");
    return tensor(tf, prefix, name);
}

static bool find_in_file(void *ctx, const char *name, struct sd_store_entry *entry)
{
    const struct sd_store_entry *e = sd_tensor_file_find(ctx, name);
    if (e)
        *entry = *e;
    return e != NULL;
}

/* The fixture's initial down matrices; up matrices stay at zero. */
static void assign_initial(struct session *s)
{
    for (size_t i = 0; i < s->lora->count; i++) {
        struct sd_var *down = &s->lora->modules[i].down;
        const struct sd_store_entry *e = tensor(s->data, "init.", down->name);
        if (e->bytes != 4 * (size_t)sd_var_count(down))
            bail(down->name);
        memcpy(down->state, e->data, e->bytes);
    }
}

static void open_optimizer(struct session *s, bool scaled, struct sd_err *err)
{
    struct sd_optim_config config;
    const char *name = s->course->optimizer;
    must(sd_optim_config_init(&config, name ? name : "", NULL, err), err);
    struct sd_train_groups *g = &s->groups;
    config.max_grad_norm = s->course->max_grad_norm;
    if (scaled)
        config.scaling = SD_LOSS_SCALING_DEFAULT;
    if (sd_train_groups_make(g, s->lora, &s->args, s->course->rate, s->course->rate, err) ||
        sd_optimizer_init(&s->optimizer, &config, g->group, g->n, g->vars, g->group_of, g->n_vars, s->backend,
                          err))
        bail(err->msg);
}

static void open_session(struct session *s, const struct course *c, const struct way *way)
{
    struct sd_err err = {0};
    struct sd_rng rng;
    struct sd_strings words = {.v = (const char **)c->words};
    struct sd_lora_options lora = {.rank = 4, .alpha = c->alpha, .text_encoder = true, .unet = true};
    const struct sd_trainer_options options = {.dtype = way->dtype,
                                               .checkpointing = way->checkpointing,
                                               .v_prediction = c->v_prediction,
                                               .zero_terminal = c->zero_terminal,
                                               .noise = c->noise,
                                               .loss = c->loss,
                                               .weighting = c->weighting,
                                               .huber = c->huber,
                                               .text_chunks = 1,
                                               .accumulation = c->accumulation};
    *s = (struct session){.course = c, .config = *sd_model_config_builtin("sd1")};
    sd_rng_seed(&rng, 1);
    while (c->words[words.n])
        words.n++;
    if (sd_network_args_parse(&s->args, &words, 4, c->alpha, &err))
        bail(err.msg);
    sd_network_args_apply(&s->args, &lora);
    lora.dropout.hidden = c->dropout;
    if (sd_tensor_file_open(&s->model, c->model, &err) || sd_tensor_file_open(&s->data, c->file, &err) ||
        sd_model_config_parse_text(&s->config, sd_tensor_file_meta(s->model, "sd_config"), &err) ||
        !(s->backend = sd_backend_new(test_backend(), &err)) ||
        !(s->weights = sd_weights_new(find_in_file, s->model, &err)) ||
        sd_lora_new(&s->lora, &s->config, &lora, &rng, &err))
        bail(err.msg);
    s->backend->share_small = true;
    if (!c->drawn)
        assign_initial(s);
    s->stack = (struct sd_lora_stack){&s->lora, 1};
    open_optimizer(s, way->scaled, &err);
    if (sd_lr_init(&s->lr, c->schedule, c->warmup, 12, &err) ||
        !(s->trainer = sd_trainer_new(&s->config, &options, s->weights, sd_lora_adapt, &s->stack,
                                      &s->optimizer, s->backend, &err)))
        bail(err.msg);
}

static void close_session(struct session *s)
{
    sd_trainer_free(s->trainer);
    sd_optimizer_free(&s->optimizer);
    sd_train_groups_free(&s->groups);
    sd_lora_free(s->lora);
    sd_weights_free(s->weights);
    sd_backend_free(s->backend);
    sd_tensor_file_close(s->data);
    sd_tensor_file_close(s->model);
}

/* What sd-scripts draws for a batch after torch.manual_seed. */
static void draw(struct session *s, int step, const struct sd_store_entry *latents, float *noise,
                 float *mixed, int64_t *timesteps)
{
    const struct sd_noise batch = {.n = latents->shape[0],
                                   .c = latents->shape[1],
                                   .h = latents->shape[2],
                                   .w = latents->shape[3],
                                   .latents = latents->data,
                                   .scale = s->config.vae.scale,
                                   .target = noise,
                                   .mixed = mixed,
                                   .timesteps = timesteps};
    struct sd_err err = {0};
    struct sd_rng rng;
    struct sd_pyrandom random;
    const struct sd_graph *graph;
    struct sd_plan *plan;
    if (sd_trainer_step(s->trainer, latents->shape[0], latents->shape[2], latents->shape[3], &graph, &plan,
                        &err))
        bail(err.msg);
    sd_rng_seed(&rng, 1000 + (uint64_t)step);
    sd_pyrandom_seed(&random, 1000 + step);
    sd_lora_draw_masks(s->lora, graph, plan, false, &rng);
    sd_noise_draw(&s->course->noise, &rng, &random, &batch);
    sd_lora_draw_masks(s->lora, graph, plan, true, &rng);
}

/* As lib/train does it; here no module is ever left out for clip_skip. */
static void rest_dropped(struct session *s)
{
    for (int i = 0; i < s->optimizer.n_params && s->lora->dropout.module > 0; i++)
        for (size_t k = 0; k < s->lora->count; k++) {
            struct sd_lora_module *m = &s->lora->modules[k];
            if (s->optimizer.params[i].var == &m->down || s->optimizer.params[i].var == &m->up)
                s->optimizer.params[i].idle = !m->live;
        }
    for (size_t k = 0; k < s->lora->count; k++)
        s->lora->modules[k].live = false;
}

static void run_step(struct session *s, int step, struct result *r)
{
    struct sd_err err = {0};
    char prefix[16];
    snprintf(prefix, sizeof prefix, "in.%02d.", step);
    const struct sd_store_entry *latents = tensor(s->data, prefix, "latents");
    const int *applied = result(s->course, s->data, "applied")->data;
    int64_t timesteps[8];
    float drawn[2 * 4 * 8 * 16], mixed[2 * 4 * 8 * 16];
    const float *noise = drawn;
    if (s->course->drawn) {
        draw(s, step, latents, drawn, mixed, timesteps);
    } else {
        const int32_t *times = tensor(s->data, prefix, "timesteps")->data;
        for (int64_t i = 0; i < latents->shape[0] && i < 8; i++)
            timesteps[i] = times[i];
        noise = tensor(s->data, prefix, "noise")->data;
    }
    const struct sd_train_batch batch = {.n = latents->shape[0],
                                         .h = latents->shape[2],
                                         .w = latents->shape[3],
                                         .latents = latents->data,
                                         .noise = {noise, mixed, NULL},
                                         .timesteps = timesteps,
                                         .ids = tensor(s->data, prefix, "ids")->data};
    double factor = sd_lr_factor(&s->lr, s->optimizer.updates);
    if (applied[step]) {
        rest_dropped(s);
        sd_optimizer_prepare(&s->optimizer, factor);
    }
    must(sd_trainer_batch(s->trainer, &batch, applied[step], &r->loss[step], &err), &err);
    if (!applied[step])
        return;
    struct sd_optim_update did;
    must(sd_optimizer_finish(&s->optimizer, &did, &err), &err);
    r->rate[step] = (float)s->optimizer.groups[0].last;
    for (int i = 0; i < s->groups.n; i++)
        r->rates[step][i] = (float)s->optimizer.groups[i].last;
    r->norm[step] = did.norm;
    r->skipped += did.skipped;
    must(sd_block_pull(s->optimizer.block, &err), &err);
    if (s->course->max_norm > 0)
        sd_lora_limit_norms(s->lora, s->course->max_norm, &r->norms[step]);
    must(sd_block_push(s->optimizer.block, &err), &err);
}

/* Goes through a run; look, if given, sees the session before it ends. */
static struct result go(const struct course *c, struct way way, void (*look)(const struct session *))
{
    struct session s;
    struct result r = {0};
    int all = omp_get_max_threads();
    if (way.threads)
        omp_set_num_threads(way.threads);
    open_session(&s, c, &way);
    for (int step = 0; step < c->steps; step++)
        run_step(&s, step, &r);
    if (look)
        look(&s);
    struct sd_plan_memory m = sd_trainer_memory(s.trainer);
    r.memory = m.arena + m.scratch;
    r.n_values = s.lora->n_values;
    r.values = malloc(r.n_values * sizeof *r.values);
    if (!r.values)
        bail("out of memory");
    memcpy(r.values, s.lora->values, r.n_values * sizeof *r.values);
    close_session(&s);
    omp_set_num_threads(all);
    return r;
}

/* Largest |got - want| / |want| over n steps where want is not 0; where it is, got must be. */
static double worst_ratio(int n, const float *got, const float *want)
{
    double worst = 0;
    for (int i = 0; i < n; i++) {
        double d = want[i] != 0 ? fabs((double)got[i] / (double)want[i] - 1) : got[i] != 0 ? INFINITY : 0;
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

static const float *expected(const struct course *c, const struct sd_tensor_file *tf, const char *name)
{
    return result(c, tf, name)->data;
}

/* --- the trained tensors
 * ---------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* |got - want| / |want| as norms. */
static double distance(const float *got, const struct sd_store_entry *want)
{
    double d = 0, scale = 0;
    const float *w = want->data;
    for (size_t i = 0; i < want->bytes / 4; i++) {
        d += ((double)got[i] - (double)w[i]) * ((double)got[i] - (double)w[i]);
        scale += (double)w[i] * (double)w[i];
    }
    return sqrt(d / scale);
}

/* AdamW divides gradients by their size, so the last bits of the small ones show: t/ref/lora.py says how
 * much. */
static void compare_final(const struct session *s, const struct sd_tensor_file *tf, const char *prefix)
{
    size_t n = 0;
    double *d = calloc(2 * s->lora->count, sizeof *d);
    if (!d)
        bail("out of memory");
    for (size_t i = 0; i < s->lora->count; i++) {
        const struct sd_var *v[] = {&s->lora->modules[i].down, &s->lora->modules[i].up};
        for (int k = 0; k < 2; k++) {
            char key[256];
            snprintf(key, sizeof key, "%s%s", prefix, v[k]->name);
            if (s->course->drawn && !sd_tensor_file_find(tf, key))
                continue; /* some only */
            const struct sd_store_entry *e = tensor(tf, prefix, v[k]->name);
            if (e->bytes != 4 * (size_t)sd_var_count(v[k]))
                bail(e->name);
            d[n++] = distance(v[k]->data, e);
        }
    }
    qsort(d, n, sizeof *d, by_value);
    ok(d[n / 2] < 5e-6 && d[n - 1] < (s->course->steps < STEPS ? 2e-4 : 2e-3),
       "%s: the trained network, %zu tensors (median %.1e, largest %.1e)", s->course->label, n, d[n / 2],
       d[n - 1]);
    free(d);
}

static void look1(const struct session *s)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, "t/data/lora/run1-final.safetensors", &err))
        bail(err.msg);
    compare_final(s, tf, "");
    sd_tensor_file_close(tf);
}

static void look2(const struct session *s)
{
    compare_final(s, s->data, "final.");
}

/* --- the tests
 * -------------------------------------------------------------------------------------------------- */

static void check_run(const struct course *c, const struct result *r)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, c->file, &err))
        bail(err.msg);
    double loss = worst_ratio(c->steps, r->loss, expected(c, tf, "loss")),
           norm = worst_ratio(c->steps, r->norm, expected(c, tf, "grad_norm"));
    double untrained = worst_ratio(c->steps, r->loss, expected(c, tf, "base_loss"));
    ok(loss < 1e-4, "%s: losses of %d batches (%.1e)", c->label, c->steps, loss);
    ok(norm < 1e-3, "%s: norms of the gradients (%.1e)", c->label, norm);
    ok(worst_ratio(c->steps, r->rate, expected(c, tf, "lr")) < 1e-6,
       "learning rates, and where updates come");
    ok(untrained > 100 * loss, "%s: training matters (%.1e)", c->label, untrained);
    sd_tensor_file_close(tf);
}

/* The same losses and the same network, bit for bit. */
static void check_same(const char *label, const char *what, const struct result *a, struct result b)
{
    bool same = a->n_values == b.n_values && !memcmp(a->values, b.values, a->n_values * sizeof *a->values) &&
                !memcmp(a->loss, b.loss, sizeof b.loss) && !memcmp(a->norm, b.norm, sizeof b.norm);
    if (!same)
        for (int i = 0; i < STEPS; i++)
            printf("# %2d %.9g %.9g, norm %.9g %.9g\n", i, (double)a->loss[i], (double)b.loss[i],
                   (double)a->norm[i], (double)b.norm[i]);
    ok(same, "%s: %s changes no bit", label, what);
    free(b.values);
}

/* How far the losses of the second half lie below those of the untrained network, on average. */
static double learned(const struct result *r, const float *untrained)
{
    double sum = 0;
    for (int i = STEPS / 2; i < STEPS; i++)
        sum += (double)untrained[i] - (double)r->loss[i];
    return sum / (STEPS - STEPS / 2);
}

static struct result check_half(const struct course *c, const struct result *f32, enum sd_dtype dtype)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    bool f16 = dtype == SD_F16;
    struct result r =
        go(c, (struct way){.dtype = dtype, .checkpointing = true, .threads = 1, .scaled = f16}, NULL);
    const char *name = sd_dtype_name(dtype);
    if (sd_tensor_file_open(&tf, c->file, &err))
        bail(err.msg);
    double worst = worst_ratio(STEPS, r.loss, f32->loss), a = learned(f32, expected(c, tf, "base_loss")),
           b = learned(&r, expected(c, tf, "base_loss"));
    ok(worst < 0.02, "%s: losses in %s near those in f32 (%.1e)", c->label, name, worst);
    ok(fabs(b / a - 1) < 0.25, "%s: %s learns as much (%.5f, f32 %.5f)", c->label, name, b, a);
    ok(!r.skipped, "%s: no gradient in %s overflows", c->label, name);
    sd_tensor_file_close(tf);
    return r;
}

static void check_course(const struct course *c, void (*look)(const struct session *), bool threads)
{
    struct result r = go(c, (struct way){.dtype = SD_F32, .threads = 1}, look);
    check_run(c, &r);
    struct result less = go(c, (struct way){.dtype = SD_F32, .checkpointing = true, .threads = 1}, NULL);
    ok(less.memory < r.memory, "%s: checkpointing takes less memory (%zu of %zu KiB)", c->label,
       less.memory >> 10, r.memory >> 10);
    check_same(c->label, "checkpointing", &r, less);
    /* By powers of two: what f32 holds of a gradient is the same, but for its exponent. */
    check_same(c->label, "scaling the loss", &r,
               go(c, (struct way){.dtype = SD_F32, .threads = 1, .scaled = true}, NULL));
    struct result half = check_half(c, &r, SD_BF16);
    if (!strcmp(test_backend(), "cuda"))
        free(check_half(c, &r, SD_F16).values);
    if (threads) {
        check_same(c->label, "a second thread", &r, go(c, (struct way){.dtype = SD_F32, .threads = 2}, NULL));
        check_same(c->label, "a second thread in bfloat16", &half,
                   go(c, (struct way){.dtype = SD_BF16, .checkpointing = true, .threads = 2}, NULL));
    }
    free(half.values);
    free(r.values);
}

/* --- network_args
 * ---------------------------------------------------------------------------------------------- */

/* The modules are the file's, with its alphas, and the groups have its names. */
static void look_args(const struct session *s)
{
    size_t want = 0, have = 0;
    char names[SD_TRAIN_GROUPS * 32] = "";
    for (size_t i = 0; i < sd_tensor_file_count(s->data); i++) {
        const char *name = sd_tensor_file_entry(s->data, i)->name, *dot = strrchr(name, '.');
        want += !strncmp(name, "final.", 6) && !strcmp(dot, ".alpha");
    }
    for (size_t i = 0; i < s->lora->count; i++) {
        char key[256];
        snprintf(key, sizeof key, "final.%s.alpha", s->lora->modules[i].target->name);
        const struct sd_store_entry *e = sd_tensor_file_find(s->data, key);
        float alpha = 0;
        if (e)
            sd_store_to_f32(e->dtype, e->data, 1, &alpha);
        have += e && alpha == s->lora->modules[i].alpha;
    }
    ok(have == want && s->lora->count == want, "%s: %zu modules with their alphas", s->course->label, want);
    for (int i = 0; i < s->groups.n; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? "," : "",
                 s->groups.group[i].name);
    ok(!strcmp(names, sd_tensor_file_meta(s->data, "groups")), "%s: groups %s", s->course->label, names);
    compare_final(s, s->data, "final.");
}

static void check_rates(const struct course *c, const struct result *r)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, c->file, &err))
        bail(err.msg);
    const struct sd_store_entry *e = result(c, tf, "rates");
    double worst = 0;
    for (int64_t i = 0; i < e->shape[0] * e->shape[1]; i++) {
        double want = (double)((const float *)e->data)[i];
        worst = fmax(worst, fabs((double)r->rates[i / e->shape[1]][i % e->shape[1]] / want - 1));
    }
    ok(worst < 1e-6, "%s: rates of %d groups (%.1e)", c->label, (int)e->shape[1], worst);
    const float *norms = c->max_norm > 0 ? expected(c, tf, "norms") : NULL;
    worst = 0;
    bool scaled = true;
    for (int i = 0; norms && i < STEPS; i++) {
        scaled &= r->norms[i].scaled == (size_t)norms[3 * i];
        worst = fmax(worst, fabs(r->norms[i].average / (double)norms[3 * i + 1] - 1));
        worst = fmax(worst, fabs(r->norms[i].most / (double)norms[3 * i + 2] - 1));
    }
    if (norms)
        ok(scaled && worst < 1e-4 && norms[3 * STEPS - 3] > 0, "%s: norms are limited as there (%.1e)",
           c->label, worst);
    sd_tensor_file_close(tf);
}

static void check_args(struct course c)
{
    c.model = run1.model;
    c.rate = 1e-3;
    c.max_grad_norm = 1;
    c.schedule = "constant";
    c.accumulation = 1;
    c.drawn = true;
    c.steps = STEPS;
    c.noise = SD_NOISE_DEFAULT;
    struct result r = go(&c, (struct way){.dtype = SD_F32, .threads = 1}, look_args);
    check_run(&c, &r);
    check_rates(&c, &r);
    check_same(c.label, "checkpointing", &r,
               go(&c, (struct way){.dtype = SD_F32, .checkpointing = true, .threads = 1}, NULL));
    free(r.values);
}

/* --- noise and losses
 * ------------------------------------------------------------------------------------------ */

static void look_noise(const struct session *s)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "%sfinal.", s->course->prefix);
    compare_final(s, s->data, prefix);
}

static void check_noise(struct course c)
{
    c.model = run1.model;
    c.file = "t/data/lora/noise.safetensors";
    c.alpha = 1;
    c.rate = 1e-3;
    c.max_grad_norm = 1;
    c.schedule = "constant";
    c.accumulation = 1;
    c.drawn = true;
    c.steps = 8;
    struct result r = go(&c, (struct way){.dtype = SD_F32, .threads = 1}, look_noise);
    check_run(&c, &r);
    check_same(c.label, "checkpointing", &r,
               go(&c, (struct way){.dtype = SD_F32, .checkpointing = true, .threads = 1}, NULL));
    free(r.values);
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__
    const bool threads = false; /* slow, and no memory that the other runs do not touch */
#else
    const bool threads = true;
#endif
    check_course(&run1, look1, threads);
    check_course(&run2, look2, false);
    for (size_t i = 0; i < sizeof args / sizeof *args; i++)
        check_args(args[i]);
    for (size_t i = 0; i < sizeof noises / sizeof *noises; i++)
        check_noise(noises[i]);
    return tap_end();
}
