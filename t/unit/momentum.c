/* Lion and gradient descent with Nesterov momentum against lion-pytorch and torch
 * (t/data/optim/momentum.safetensors, made by t/ref/optim.py), on the reference and the tested backend. */
#include <math.h>
#include <string.h>

#include "backend.h"
#include "fixture.h"
#include "tap.h"
#include "tensor/rule.h"

enum { STEPS = 30, PARAMS = 2, EACH = 3, MOST = 6 };

static const char *const names[PARAMS] = {"w", "b"};

static const float *values(const struct sd_tensor_file *tf, const char *prefix, const char *name, int64_t *n)
{
    const struct sd_store_entry *e = fixture(tf, "%s.%s", prefix, name);
    *n = fixture_floats(e);
    return e->data;
}

/* The parameters, and the moments and gradients beside them. */
struct subject {
    float memory[PARAMS][EACH][MOST];
    struct sd_var var[PARAMS][EACH];
    struct sd_tensor *t[PARAMS * EACH];
    int64_t n[PARAMS];
};

static void open_subject(struct subject *s, struct sd_graph *g, const struct sd_tensor_file *tf)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < PARAMS; i++) {
        const float *start = values(tf, "in", names[i], &s->n[i]);
        memcpy(s->memory[i][0], start, (size_t)s->n[i] * sizeof *start);
        for (int k = 0; k < EACH; k++)
            s->var[i][k] = (struct sd_var){.name = names[i],
                                           .dtype = SD_F32,
                                           .ndim = 1,
                                           .dim = {s->n[i]},
                                           .data = s->memory[i][k],
                                           .state = s->memory[i][k]};
        for (int k = 0; k < EACH; k++)
            s->t[i * EACH + k] = sd_graph_var(g, &s->var[i][k], SD_F32);
    }
}

/* One step with the fixture's gradients; the largest difference after it. */
static double step(struct subject *s, const struct sd_tensor_file *tf, const char *name, struct sd_backend *b,
                   struct sd_plan *p, int number)
{
    double worst = 0;
    int64_t n;
    for (int i = 0; i < PARAMS; i++) {
        const float *grads = values(tf, "in.grad", names[i], &n);
        memcpy(s->memory[i][1], grads + number * s->n[i], (size_t)s->n[i] * sizeof *grads);
        var_push(b, &s->var[i][1]);
    }
    plan_run(p);
    for (int i = 0; i < PARAMS; i++) {
        const float *want = values(tf, name, names[i], &n) + number * s->n[i];
        var_pull(b, &s->var[i][0]);
        for (int64_t k = 0; k < s->n[i]; k++) {
            double d = fabs((double)s->memory[i][0][k] - (double)want[k]);
            worst = isnan(d) ? INFINITY : fmax(worst, d);
        }
    }
    return worst;
}

static void check(const char *backend, const struct sd_tensor_file *tf, enum sd_rule rule)
{
    static const float lion[SD_STEP_HYPER] =
        {[SD_STEP_LIVE] = 1,      [SD_LION_KEEP] = (float)(1 - 3e-3 * 0.1),
         [SD_LION_BETA1] = 0.9f,  [SD_LION_NEW1] = (float)(1 - 0.9),
         [SD_LION_BETA2] = 0.98f, [SD_LION_NEW2] = (float)(1 - 0.98),
         [SD_LION_RATE] = 3e-3f},
                       sgd[SD_STEP_HYPER] = {[SD_STEP_LIVE] = 1,
                                             [SD_SGD_KEEP] = 1,
                                             [SD_SGD_DECAY] = 0.01f,
                                             [SD_SGD_MOMENTUM] = 0.9f,
                                             [SD_SGD_NEW] = 1,
                                             [SD_SGD_FRESH] = 1e-2f,
                                             [SD_SGD_RATE] = (float)(1e-2 * 0.9)};
    const float *hyper = rule == SD_RULE_lion ? lion : sgd;
    const char *name = sd_rules[rule].name;
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    struct subject s;
    open_subject(&s, g, tf);
    struct sd_tensor *clip = sd_graph_input(g, "clip", SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}),
                     *rows = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){PARAMS, SD_STEP_HYPER});
    sd_graph_step(g, rule, PARAMS, s.t, clip, rows, NULL);
    struct sd_backend *b = sd_backend_new(backend, &err);
    struct sd_plan *p = b ? sd_plan_new(g, b, &err) : NULL;
    must(!p, &err);
    memcpy(sd_plan_data(p, clip), (float[]){0, 1, 0}, SD_CLIP_RESULTS * sizeof(float));
    for (int i = 0; i < PARAMS; i++)
        memcpy((float *)sd_plan_data(p, rows) + i * SD_STEP_HYPER, hyper, sizeof lion);
    double worst = 0;
    for (int i = 0; i < STEPS; i++)
        worst = fmax(worst, step(&s, tf, name, b, p, i));
    ok(worst < 1e-6, "%s: %d steps of %s (%.1e)", backend, STEPS, name, worst);
    sd_plan_free(p);
    sd_backend_free(b);
    sd_graph_free(g);
}

int main(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, "t/data/optim/momentum.safetensors", &err), &err);
    for (enum sd_rule rule = SD_RULE_lion; rule <= SD_RULE_sgd; rule++) {
        check("ref", tf, rule);
        check(test_backend(), tf, rule);
    }
    sd_tensor_file_close(tf);
    return tap_end();
}
