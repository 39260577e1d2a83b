/* Training step by step against sd-scripts (t/data/lora, made by t/ref/lora.py): losses, norms, rates and the
 * trained network, on the cpu backend; what must not change them (checkpointing, threads), and what may a
 * little (bfloat16). */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora.h"
#include "model/config_json.h"
#include "optim/lr.h"
#include "store/safetensors.h"
#include "tap.h"
#include "tensor/frozen.h"
#include "train/trainer.h"

enum { STEPS = 20 };

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

/* A run as its fixture describes it. */
struct course {
    const char *label, *model, *file;
    float alpha;
    double rate, max_grad_norm;
    const char *schedule;
    double warmup;
    int accumulation;
};

static const struct course run1 = {.label = "run1",
                                   .model = "t/data/model/sd1-small.safetensors",
                                   .file = "t/data/lora/run1.safetensors",
                                   .alpha = 1,
                                   .rate = 1e-3,
                                   .max_grad_norm = 1,
                                   .schedule = "constant",
                                   .accumulation = 1};
static const struct course run2 = {.label = "run2",
                                   .model = "t/data/model/sd2-small.safetensors",
                                   .file = "t/data/lora/run2.safetensors",
                                   .alpha = 2,
                                   .rate = 2e-3,
                                   .max_grad_norm = 0.05,
                                   .schedule = "constant_with_warmup",
                                   .warmup = 4,
                                   .accumulation = 2};

/* How we go through it. */
struct way {
    enum sd_dtype dtype;
    bool checkpointing;
    int threads; /* 0: as many as there are */
};

struct result {
    float loss[STEPS], norm[STEPS], rate[STEPS];
    float *values; /* the trained network's */
    size_t n_values;
    size_t memory;
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

static int open_optimizer(struct session *s, struct sd_err *err)
{
    size_t n = s->lora->count;
    struct sd_var **vars = calloc(2 * n, sizeof *vars);
    int *group = calloc(2 * n, sizeof *group), rc;
    if (!vars || !group)
        bail("out of memory");
    for (size_t i = 0; i < n; i++) {
        vars[2 * i] = &s->lora->modules[i].down;
        vars[2 * i + 1] = &s->lora->modules[i].up;
        group[2 * i] = group[2 * i + 1] = s->lora->modules[i].target->kind != SD_TARGET_TEXT;
    }
    struct sd_adamw adamw = SD_ADAMW_DEFAULT;
    adamw.max_grad_norm = s->course->max_grad_norm;
    const struct sd_optim_group groups[] = {{.name = "textencoder", .lr = s->course->rate},
                                            {.name = "unet", .lr = s->course->rate}};
    rc = sd_optimizer_init(&s->optimizer, &adamw, groups, 2, vars, group, (int)(2 * n), s->backend, err);
    free(vars);
    free(group);
    return rc;
}

static void open_session(struct session *s, const struct course *c, const struct way *way)
{
    struct sd_err err = {0};
    struct sd_rng rng;
    const struct sd_lora_options lora = {.rank = 4, .alpha = c->alpha, .text_encoder = true, .unet = true};
    const struct sd_trainer_options options = {.dtype = way->dtype,
                                               .checkpointing = way->checkpointing,
                                               .text_chunks = 1,
                                               .accumulation = c->accumulation};
    *s = (struct session){.course = c, .config = *sd_model_config_builtin("sd1")};
    sd_rng_seed(&rng, 1);
    if (sd_tensor_file_open(&s->model, c->model, &err) || sd_tensor_file_open(&s->data, c->file, &err) ||
        sd_model_config_parse_text(&s->config, sd_tensor_file_meta(s->model, "sd_config"), &err) ||
        !(s->backend = sd_backend_new("cpu", &err)) ||
        !(s->weights = sd_weights_new(find_in_file, s->model, &err)) ||
        sd_lora_new(&s->lora, &s->config, &lora, &rng, &err))
        bail(err.msg);
    s->backend->share_small = true;
    assign_initial(s);
    s->stack = (struct sd_lora_stack){&s->lora, 1};
    if (open_optimizer(s, &err) || sd_lr_init(&s->lr, c->schedule, c->warmup, 12, &err) ||
        !(s->trainer = sd_trainer_new(&s->config, &options, s->weights, sd_lora_adapt, &s->stack,
                                      &s->optimizer, s->backend, &err)))
        bail(err.msg);
}

static void close_session(struct session *s)
{
    sd_trainer_free(s->trainer);
    sd_optimizer_free(&s->optimizer);
    sd_lora_free(s->lora);
    sd_weights_free(s->weights);
    sd_backend_free(s->backend);
    sd_tensor_file_close(s->data);
    sd_tensor_file_close(s->model);
}

static void run_step(struct session *s, int step, struct result *r)
{
    struct sd_err err = {0};
    char prefix[16];
    snprintf(prefix, sizeof prefix, "in.%02d.", step);
    const struct sd_store_entry *latents = tensor(s->data, prefix, "latents");
    const struct sd_store_entry *times = tensor(s->data, prefix, "timesteps");
    const int *applied = tensor(s->data, "out.", "applied")->data;
    int64_t timesteps[8];
    for (int64_t i = 0; i < latents->shape[0] && i < 8; i++)
        timesteps[i] = ((const int32_t *)times->data)[i];
    const struct sd_train_batch batch = {.n = latents->shape[0],
                                         .h = latents->shape[2],
                                         .w = latents->shape[3],
                                         .latents = latents->data,
                                         .noise = tensor(s->data, prefix, "noise")->data,
                                         .timesteps = timesteps,
                                         .ids = tensor(s->data, prefix, "ids")->data};
    if (sd_trainer_batch(s->trainer, &batch, &r->loss[step], &err))
        bail(err.msg);
    if (!applied[step])
        return;
    double factor = sd_lr_factor(&s->lr, s->optimizer.updates);
    r->rate[step] = (float)(s->course->rate * factor);
    r->norm[step] = sd_optimizer_update(&s->optimizer, factor);
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
    for (int step = 0; step < STEPS; step++)
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

/* Largest |got - want| / |want| over the steps where want is not 0; where it is, got must be. */
static double worst_ratio(const float *got, const float *want)
{
    double worst = 0;
    for (int i = 0; i < STEPS; i++) {
        double d = want[i] != 0 ? fabs((double)got[i] / (double)want[i] - 1) : got[i] != 0 ? INFINITY : 0;
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

static const float *expected(const struct sd_tensor_file *tf, const char *name)
{
    return tensor(tf, "out.", name)->data;
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
            const struct sd_store_entry *e = tensor(tf, prefix, v[k]->name);
            if (e->bytes != 4 * (size_t)sd_var_count(v[k]))
                bail(e->name);
            d[n++] = distance(v[k]->data, e);
        }
    }
    qsort(d, n, sizeof *d, by_value);
    ok(d[n / 2] < 5e-6 && d[n - 1] < 2e-3, "%s: the trained network, %zu tensors (median %.1e, largest %.1e)",
       s->course->label, n, d[n / 2], d[n - 1]);
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
    double loss = worst_ratio(r->loss, expected(tf, "loss")),
           norm = worst_ratio(r->norm, expected(tf, "grad_norm"));
    double untrained = worst_ratio(r->loss, expected(tf, "base_loss"));
    ok(loss < 1e-4, "%s: losses of %d batches (%.1e)", c->label, STEPS, loss);
    ok(norm < 1e-3, "%s: norms of the gradients (%.1e)", c->label, norm);
    ok(worst_ratio(r->rate, expected(tf, "lr")) < 1e-6, "learning rates, and where updates come");
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

static struct result check_bf16(const struct course *c, const struct result *f32)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    struct result r = go(c, (struct way){.dtype = SD_BF16, .checkpointing = true, .threads = 1}, NULL);
    if (sd_tensor_file_open(&tf, c->file, &err))
        bail(err.msg);
    double worst = worst_ratio(r.loss, f32->loss), a = learned(f32, expected(tf, "base_loss")),
           b = learned(&r, expected(tf, "base_loss"));
    ok(worst < 0.02, "%s: losses in bfloat16 near those in float (%.1e)", c->label, worst);
    ok(fabs(b / a - 1) < 0.25, "%s: bfloat16 learns as much (%.5f, float %.5f)", c->label, b, a);
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
    struct result half = check_bf16(c, &r);
    if (threads) {
        check_same(c->label, "a second thread", &r, go(c, (struct way){.dtype = SD_F32, .threads = 2}, NULL));
        check_same(c->label, "a second thread in bfloat16", &half,
                   go(c, (struct way){.dtype = SD_BF16, .checkpointing = true, .threads = 2}, NULL));
    }
    free(half.values);
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
    return tap_end();
}
