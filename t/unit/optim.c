/* AdamW, clipping and learning-rate schedules against torch and sd-scripts (t/data/lora/optim.safetensors,
 * made by t/ref/lora.py); and under a dynamic loss scale (t/data/optim, made by t/ref/optim.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optim/lr.h"
#include "optim/optimizer.h"
#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/frozen.h"

enum { PARAMS = 3, UPDATES = 200, MOST = 6 };

static void bail(const char *why)
{
    printf("Bail out! %s\n", why);
    exit(1);
}

static const struct sd_store_entry *entry(const struct sd_tensor_file *tf, const char *key)
{
    const struct sd_store_entry *e = sd_tensor_file_find(tf, key);
    if (!e)
        bail(key);
    return e;
}

/* Three small parameters and their optimizer. */
struct subject {
    const char *label; /* "a.", "b.": the case in the fixture */
    const char *const *names;
    int n; /* parameters */
    struct sd_tensor_file *tf;
    struct sd_backend *backend;
    struct sd_optimizer o;
    struct sd_var var[PARAMS];
    float value[PARAMS][MOST];
    const float *gradients[PARAMS]; /* [UPDATES, count] */
};

/* AdamW with the settings of a case. */
static struct sd_optim_config adamw(double beta1, double beta2, double eps, double decay, double norm)
{
    struct sd_optim_config c;
    struct sd_err err = {0};
    must(sd_optim_config_init(&c, "AdamW", NULL, &err), &err);
    c.arg[SD_OPTIM_BETA1] = beta1;
    c.arg[SD_OPTIM_BETA2] = beta2;
    c.arg[SD_OPTIM_EPS] = eps;
    c.arg[SD_OPTIM_WEIGHT_DECAY] = decay;
    c.max_grad_norm = norm;
    return c;
}

static const char *const names[PARAMS] = {"w", "k", "b"};

static void read_params(struct subject *s)
{
    for (int i = 0; i < s->n; i++) {
        char key[64];
        snprintf(key, sizeof key, "%sin.%s", s->label, s->names[i]);
        const struct sd_store_entry *e = entry(s->tf, key);
        snprintf(key, sizeof key, "%sin.grad.%s", s->label, s->names[i]);
        s->gradients[i] = entry(s->tf, key)->data;
        memcpy(s->value[i], e->data, e->bytes);
        s->var[i] = (struct sd_var){.name = s->names[i],
                                    .dtype = SD_F32,
                                    .ndim = e->ndim,
                                    .data = s->value[i],
                                    .state = s->value[i],
                                    .trainable = true};
        memcpy(s->var[i].dim, e->shape, (size_t)e->ndim * sizeof *e->shape);
    }
}

static void set_gradients(struct subject *s, int update)
{
    for (int i = 0; i < s->n; i++) {
        size_t n = (size_t)sd_var_count(&s->var[i]);
        struct sd_var *grad = sd_optimizer_grad(&s->o, &s->var[i]);
        memcpy(grad->state, s->gradients[i] + (size_t)update * n, n * sizeof(float));
        var_push(s->backend, grad);
    }
}

static bool gradients_are_zero(struct subject *s)
{
    bool zero = true;
    for (int i = 0; i < s->n; i++) {
        struct sd_var *grad = sd_optimizer_grad(&s->o, &s->var[i]);
        var_pull(s->backend, grad);
        for (int64_t k = 0; k < sd_var_count(&s->var[i]); k++)
            zero &= ((const float *)grad->data)[k] == 0;
    }
    return zero;
}

/* Largest difference from the fixture after n updates, over the largest element of each parameter. */
static double difference(const struct subject *s, int n)
{
    double worst = 0;
    for (int i = 0; i < s->n; i++) {
        char key[64];
        snprintf(key, sizeof key, "%sout.%d.%s", s->label, n, s->names[i]);
        const float *want = entry(s->tf, key)->data;
        double scale = 0, most = 0;
        for (int64_t k = 0; k < sd_var_count(&s->var[i]); k++) {
            double d = fabs((double)s->value[i][k] - (double)want[k]);
            most = d > most || isnan(d) ? d : most;
            scale = fmax(scale, fabs((double)want[k]));
        }
        worst = fmax(worst, most / scale);
    }
    return worst;
}

static void run(struct sd_tensor_file *tf, const char *backend, const char *label,
                const struct sd_optim_config *config, double rate, int warmup)
{
    struct subject s = {.label = label, .names = names, .n = PARAMS, .tf = tf};
    struct sd_err err = {0};
    struct sd_lr lr;
    struct sd_var *vars[PARAMS] = {&s.var[0], &s.var[1], &s.var[2]};
    /* Two groups of one rate are as good as one group. */
    const struct sd_optim_group groups[] = {{.name = "one", .lr = rate}, {.name = "two", .lr = rate}};
    const float *norms = config->max_grad_norm > 0 ? entry(tf, "b.out.norm")->data : NULL;
    double worst_norm = 0;
    bool zeroed = true;
    read_params(&s);
    if (!(s.backend = sd_backend_new(backend, &err)) ||
        sd_optimizer_init(&s.o, config, groups, 2, vars, (int[]){0, 1, 0}, PARAMS, s.backend, &err) ||
        sd_lr_init(&lr, warmup ? "constant_with_warmup" : "constant", warmup, UPDATES, &err))
        bail(err.msg);
    for (int i = 0; i < UPDATES; i++) {
        set_gradients(&s, i);
        struct sd_optim_update did;
        must(sd_optimizer_update(&s.o, sd_lr_factor(&lr, i), &did, &err), &err);
        must(sd_block_pull(s.o.block, &err), &err);
        zeroed &= gradients_are_zero(&s);
        if (norms && norms[i] > 0)
            worst_norm = fmax(worst_norm, fabs((double)did.norm / (double)norms[i] - 1));
        else if (norms && did.norm != 0)
            worst_norm = INFINITY;
        if (i + 1 <= 3 || i + 1 == 20 || i + 1 == UPDATES) {
            double d = difference(&s, i + 1);
            ok(d < 5e-6, "%s %s: %d updates (%.1e)", backend, label, i + 1, d);
        }
    }
    ok(zeroed, "gradients are zero after an update");
    if (norms)
        ok(worst_norm < 1e-6, "%s %s: norms before clipping (%.1e)", backend, label, worst_norm);
    sd_optimizer_free(&s.o);
    sd_backend_free(s.backend);
}

/* --- the dynamic loss scale */

enum { SCALED = 30 };

/* The gradients of update i as a backward of scaled losses leaves them. */
static void set_scaled(struct subject *s, int i)
{
    float spoiled = ((const float *)entry(s->tf, "in.spoiled")->data)[i];
    for (int p = 0; p < s->o.n_params; p++) {
        size_t n = (size_t)sd_var_count(&s->var[p]);
        struct sd_var *grad = sd_optimizer_grad(&s->o, &s->var[p]);
        float *to = grad->state;
        for (size_t k = 0; k < n; k++)
            to[k] = s->gradients[p][(size_t)i * n + k] * s->o.scale->memory[0];
        if (!p && spoiled != 0)
            to[0] = spoiled;
        var_push(s->backend, grad);
    }
}

static void test_scaler(const char *backend)
{
    static const char *const scaled[] = {"w", "b"};
    struct sd_optim_config config = adamw(0.8, 0.99, 1e-6, 0.1, 2);
    config.scaling = (struct sd_loss_scaling){.initial = 1024, .growth = 2, .backoff = 0.5f, .interval = 4};
    const struct sd_optim_group group = {.name = "one", .lr = 1e-2};
    struct subject s = {.label = "", .names = scaled, .n = 2};
    struct sd_err err = {0};
    struct sd_lr lr;
    if (sd_tensor_file_open(&s.tf, "t/data/optim/scaler.safetensors", &err))
        bail(err.msg);
    read_params(&s);
    const float *scale = entry(s.tf, "out.scale")->data, *rate = entry(s.tf, "out.lr")->data;
    const int32_t *skipped = entry(s.tf, "out.skipped")->data;
    struct sd_var *vars[] = {&s.var[0], &s.var[1]};
    if (!(s.backend = sd_backend_new(backend, &err)) ||
        sd_optimizer_init(&s.o, &config, &group, 1, vars, (int[]){0, 0}, 2, s.backend, &err) ||
        sd_lr_init(&lr, "constant_with_warmup", 8, SCALED, &err))
        bail(err.msg);
    bool same = true, zeroed = true;
    for (int i = 0; i < SCALED; i++) {
        struct sd_optim_update did;
        double factor = sd_lr_factor(&lr, s.o.updates);
        set_scaled(&s, i);
        must(sd_optimizer_update(&s.o, factor, &did, &err), &err);
        must(sd_block_pull(s.o.block, &err), &err);
        zeroed &= gradients_are_zero(&s);
        same &= did.skipped == skipped[i] && did.scale == scale[i] &&
                fabs(1e-2 * factor - (double)rate[i]) < 1e-9 && isfinite(did.norm) == !skipped[i];
        if (i < 2 || i + 1 == 5 || i + 1 == 10 || i + 1 == 20 || i + 1 == SCALED) {
            double d = difference(&s, i + 1);
            ok(d < 2e-6, "%s: %d updates of scaled gradients (%.1e)", backend, i + 1, d);
        }
    }
    ok(same, "%s: scale, rate and what is skipped are torch's", backend);
    ok(zeroed, "%s: gradients are zero after a skipped update too", backend);
    sd_optimizer_free(&s.o);
    sd_backend_free(s.backend);
    sd_tensor_file_close(s.tf);
}

/* What is not trained must not be in an optimizer. */
static void test_frozen(struct sd_tensor_file *tf)
{
    struct subject s = {.label = "a.", .names = names, .n = PARAMS, .tf = tf};
    struct sd_err err = {0};
    const struct sd_optim_config config = adamw(0.9, 0.999, 1e-8, 0.01, 1);
    const struct sd_optim_group group = {.name = "one", .lr = 1};
    read_params(&s);
    s.var[1].trainable = false;
    struct sd_var *vars[] = {&s.var[0], &s.var[1]};
    if (!(s.backend = sd_backend_new(test_backend(), &err)))
        bail(err.msg);
    ok(sd_optimizer_init(&s.o, &config, &group, 1, vars, (int[]){0, 0}, 2, s.backend, &err), "%s", err.msg);
    sd_backend_free(s.backend);
}

static bool factors_are(const struct sd_lr *lr, const float *want)
{
    bool same = true;
    for (int i = 0; i < 12; i++)
        same &= (float)sd_lr_factor(lr, i) == want[i];
    return same;
}

static void test_schedules(const struct sd_tensor_file *tf)
{
    static const int warmups[] = {0, 1, 4, 12};
    struct sd_err err = {0};
    struct sd_lr lr;
    ok(!sd_lr_init(&lr, "constant", 0, 12, &err) && factors_are(&lr, entry(tf, "lr.constant")->data),
       "constant");
    for (int i = 0; i < 4; i++) {
        char key[64];
        snprintf(key, sizeof key, "lr.warmup.%d", warmups[i]);
        ok(!sd_lr_init(&lr, "constant_with_warmup", warmups[i], 12, &err) &&
               factors_are(&lr, entry(tf, key)->data),
           "%s", key);
    }
    ok(!sd_lr_init(&lr, "constant_with_warmup", 0.34, 12, &err) &&
           factors_are(&lr, entry(tf, "lr.warmup.4")->data),
       "a share of the steps");
    ok(sd_lr_init(&lr, "constant", 4, 12, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
    ok(sd_lr_init(&lr, "cosin", 0, 12, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
    ok(sd_lr_init(&lr, "constant_with_warmup", -1, 12, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
    ok(sd_lr_init(&lr, "constant_with_warmup", 1.5, 12, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
    ok(sd_lr_init(&lr, "constant_with_warmup", NAN, 12, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
    ok(sd_lr_init(&lr, "constant_with_warmup", 1e300, 12, &err) && err.code == SD_ERR_USAGE, "%s", err.msg);
}

int main(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    const struct sd_optim_config a = adamw(0.9, 0.999, 1e-8, 0.01, 0), b = adamw(0.8, 0.99, 1e-6, 0.1, 2);
    if (sd_tensor_file_open(&tf, "t/data/lora/optim.safetensors", &err))
        bail(err.msg);
    const char *const backends[] = {"ref", test_backend()};
    for (int i = 0; i < 2; i++) {
        run(tf, backends[i], "a.", &a, 1e-2, 0);
        run(tf, backends[i], "b.", &b, 2e-2, 20);
    }
    test_scaler("ref");
    test_scaler(test_backend());
    test_frozen(tf);
    test_schedules(tf);
    sd_tensor_file_close(tf);
    return tap_end();
}
