/* Optimizers with moments of 8 bits against torch with bitsandbytes' codes (t/data/optim/quant.safetensors,
 * made by t/ref/optim.py), on the reference and the tested backend. Each step starts from the fixture's
 * state, so that a code which rounding turned does not move the next ones. */
#include <math.h>
#include <string.h>

#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/quant.h"
#include "tensor/rule.h"

enum { STEPS = 5, PARAMS = 2, MOMENTS = 2, MOST = 1000, BLOCKS = 4 };

static const char *const names[PARAMS] = {"w", "b"}, *const moments[MOMENTS] = {"m", "v"};

static const enum sd_rule coded[] = {SD_RULE_adam, SD_RULE_lion, SD_RULE_sgd};

/* What the fixture calls them. */
static const char *fixture_name(enum sd_rule rule)
{
    return rule == SD_RULE_adam ? "adamw" : sd_rules[rule].name;
}

/* The row of tensor "a.b" for a step. */
static const void *row(const struct sd_tensor_file *tf, const char *a, const char *b, int step)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", a, b);
    const struct sd_store_entry *e = sd_tensor_file_find(tf, key);
    if (!e || (e->ndim == 2 && e->shape[0] != STEPS)) {
        printf("Bail out! %s\n", key);
        exit(1);
    }
    return (const char *)e->data + (e->ndim == 2 ? e->bytes / STEPS * (size_t)step : 0);
}

static const void *moment_row(const struct sd_tensor_file *tf, enum sd_rule rule, int moment,
                              const char *what, int param, int step)
{
    char key[64];
    snprintf(key, sizeof key, "%s%s.%s", moments[moment], what, names[param]);
    return row(tf, fixture_name(rule), key, step);
}

struct subject {
    enum sd_rule rule;
    int n_moments;
    int64_t n[PARAMS], blocks[PARAMS];
    float param[PARAMS][MOST], grad[PARAMS][MOST], max[PARAMS][MOMENTS][BLOCKS];
    uint8_t code[PARAMS][MOMENTS][MOST];
    struct sd_var var[PARAMS][2 + 2 * MOMENTS];
    struct sd_tensor *t[PARAMS * (2 + 2 * MOMENTS)]; /* in the order of the node's inputs */
};

static int inputs(const struct subject *s)
{
    return 2 + 2 * s->n_moments;
}

static void add(struct subject *s, struct sd_graph *g, int param, int k, enum sd_dtype dtype, int64_t n,
                void *memory)
{
    s->var[param][k] = (struct sd_var){
        .name = names[param], .dtype = dtype, .ndim = 1, .dim = {n}, .data = memory, .state = memory};
    s->t[param * inputs(s) + k] = sd_graph_var(g, &s->var[param][k], dtype);
}

static void open_subject(struct subject *s, struct sd_graph *g, const struct sd_tensor_file *tf,
                         enum sd_rule rule)
{
    memset(s, 0, sizeof *s);
    s->rule = rule;
    s->n_moments = sd_rules[rule].moments;
    for (int i = 0; i < PARAMS; i++) {
        char key[64];
        snprintf(key, sizeof key, "in.%s", names[i]);
        s->n[i] = sd_tensor_file_find(tf, key)->shape[0];
        s->blocks[i] = (s->n[i] + SD_QUANT_BLOCK - 1) / SD_QUANT_BLOCK;
        add(s, g, i, 0, SD_F32, s->n[i], s->param[i]);
        add(s, g, i, 1, SD_F32, s->n[i], s->grad[i]);
        for (int j = 0; j < s->n_moments; j++) {
            add(s, g, i, 2 + j, SD_U8, s->n[i], s->code[i][j]);
            add(s, g, i, 2 + s->n_moments + j, SD_F32, s->blocks[i], s->max[i][j]);
        }
    }
}

/* The state after the step before, and this one's gradients. */
static void start(struct subject *s, const struct sd_tensor_file *tf, struct sd_backend *b, int step)
{
    for (int i = 0; i < PARAMS; i++) {
        const float *from =
            step ? row(tf, fixture_name(s->rule), names[i], step - 1) : row(tf, "in", names[i], 0);
        memcpy(s->param[i], from, (size_t)s->n[i] * sizeof *from);
        memcpy(s->grad[i], row(tf, "in.grad", names[i], step), (size_t)s->n[i] * sizeof(float));
        for (int j = 0; j < s->n_moments && step; j++) {
            memcpy(s->code[i][j], moment_row(tf, s->rule, j, "", i, step - 1), (size_t)s->n[i]);
            memcpy(s->max[i][j], moment_row(tf, s->rule, j, ".max", i, step - 1),
                   (size_t)s->blocks[i] * sizeof(float));
        }
        for (int k = 0; k < inputs(s); k++)
            var_push(b, &s->var[i][k]);
    }
}

/* Largest differences relative to the wanted value, and how the codes differ. */
struct differences {
    double param, max;
    int codes, far; /* how many differ, and by more than one */
};

static double relative(const float *want, const float *got, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]) / fmax(fabs((double)want[i]), 1e-3);
        worst = isnan(d) ? INFINITY : fmax(worst, d);
    }
    return worst;
}

static void compare(struct subject *s, const struct sd_tensor_file *tf, struct sd_backend *b, int step,
                    struct differences *d)
{
    for (int i = 0; i < PARAMS; i++) {
        for (int k = 0; k < inputs(s); k++)
            var_pull(b, &s->var[i][k]);
        d->param =
            fmax(d->param, relative(row(tf, fixture_name(s->rule), names[i], step), s->param[i], s->n[i]));
        for (int j = 0; j < s->n_moments; j++) {
            d->max = fmax(d->max,
                          relative(moment_row(tf, s->rule, j, ".max", i, step), s->max[i][j], s->blocks[i]));
            const uint8_t *want = moment_row(tf, s->rule, j, "", i, step);
            for (int64_t k = 0; k < s->n[i]; k++) {
                int apart = abs(s->code[i][j][k] - want[k]);
                d->codes += apart > 0;
                d->far += apart > 1;
            }
        }
    }
}

/* What the fixture's settings say (optim.py, QUANT), for one step. */
static void hyper_of(enum sd_rule rule, int step, float *h)
{
    h[SD_STEP_LIVE] = 1;
    if (rule == SD_RULE_adam) {
        h[SD_ADAM_KEEP] = (float)(1 - 1e-2 * 0.1);
        h[SD_ADAM_DECAY] = h[SD_ADAM_FRESH] = 0;
        h[SD_ADAM_BETA1] = 0.9f;
        h[SD_ADAM_NEW1] = (float)(1 - 0.9);
        h[SD_ADAM_BETA2] = 0.99f;
        h[SD_ADAM_NEW2] = (float)(1 - 0.99);
        h[SD_ADAM_EPS] = 1e-6f;
        h[SD_ADAM_RATE] = (float)(1e-2 / (1 - pow(0.9, step + 1)));
        h[SD_ADAM_ROOT] = (float)(1 / sqrt(1 - pow(0.99, step + 1)));
    } else if (rule == SD_RULE_lion) {
        h[SD_LION_KEEP] = (float)(1 - 3e-3 * 0.1);
        h[SD_LION_BETA1] = 0.9f;
        h[SD_LION_NEW1] = (float)(1 - 0.9);
        h[SD_LION_BETA2] = 0.98f;
        h[SD_LION_NEW2] = (float)(1 - 0.98);
        h[SD_LION_RATE] = 3e-3f;
    } else {
        h[SD_SGD_KEEP] = h[SD_SGD_NEW] = 1;
        h[SD_SGD_DECAY] = 0.01f;
        h[SD_SGD_MOMENTUM] = 0.9f;
        h[SD_SGD_FRESH] = 1e-2f;
        h[SD_SGD_RATE] = (float)(1e-2 * 0.9);
    }
}

static void check(const char *backend, const struct sd_tensor_file *tf, enum sd_rule rule)
{
    static struct subject s;
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    float hyper[SD_STEP_HYPER];
    open_subject(&s, g, tf, rule);
    struct sd_tensor *clip = sd_graph_input(g, "clip", SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}),
                     *rows = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){PARAMS, SD_STEP_HYPER}),
                     *maps = sd_graph_input(g, "maps", SD_F32, 2, (int64_t[]){s.n_moments, SD_QUANT_CODES});
    sd_graph_step(g, rule, PARAMS, s.t, clip, rows, maps);
    struct sd_backend *b = sd_backend_new(backend, &err);
    struct sd_plan *p = b ? sd_plan_new(g, b, &err) : NULL;
    must(!p, &err);
    memcpy(sd_plan_data(p, clip), (float[]){0, 1, 0}, SD_CLIP_RESULTS * sizeof(float));
    for (int i = 0; i < s.n_moments; i++)
        sd_dynamic_map(!i, (float *)sd_plan_data(p, maps) + i * SD_QUANT_CODES);
    struct differences d = {0};
    for (int step = 0; step < STEPS; step++) {
        hyper_of(rule, step, hyper);
        for (int i = 0; i < PARAMS; i++)
            memcpy((float *)sd_plan_data(p, rows) + i * SD_STEP_HYPER, hyper, sizeof hyper);
        start(&s, tf, b, step);
        plan_run(p);
        compare(&s, tf, b, step, &d);
    }
    ok(d.param < 5e-5, "%s: parameters after %d steps of %s (%.1e)", backend, STEPS, fixture_name(rule),
       d.param);
    ok(d.max < 1e-6, "%s: magnitudes of blocks (%.1e)", backend, d.max);
    ok(d.codes <= 5 && !d.far, "%s: codes, but where two are as near (%d differ)", backend, d.codes);
    sd_plan_free(p);
    sd_backend_free(b);
    sd_graph_free(g);
}

/* bitsandbytes' are of torch's f32 linspace, whose last bits depend on the width of a CPU's vectors. */
static void test_maps(const struct sd_tensor_file *tf)
{
    float map[SD_QUANT_CODES];
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        const float *want = row(tf, "map", is_signed ? "signed" : "unsigned", 0);
        double worst = 0;
        sd_dynamic_map(is_signed, map);
        for (int i = 0; i < SD_QUANT_CODES; i++)
            worst = map[i] == want[i] ? worst : fmax(worst, fabs((double)map[i] / (double)want[i] - 1));
        ok(worst < 1e-6, "%s map (%.1e)", is_signed ? "signed" : "unsigned", worst);
    }
}

enum { EDGE = 600 }; /* two blocks and a part */

/* One step of momentum (m = g, param -= g) on parameters of zero, from gradients g. */
struct edge {
    float param[EDGE], grad[EDGE], max[3];
    uint8_t code[EDGE];
};

static void step_edge(const char *backend, struct edge *e, bool skip)
{
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    void *const memory[] = {e->param, e->grad, e->code, e->max};
    struct sd_var var[4];
    struct sd_tensor *t[4];
    for (int k = 0; k < 4; k++) {
        var[k] = (struct sd_var){.name = "edge",
                                 .dtype = k == 2 ? SD_U8 : SD_F32,
                                 .ndim = 1,
                                 .dim = {k == 3 ? 3 : EDGE},
                                 .data = memory[k],
                                 .state = memory[k]};
        t[k] = sd_graph_var(g, &var[k], var[k].dtype);
    }
    struct sd_tensor *clip = sd_graph_input(g, "clip", SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}),
                     *hyper = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){1, SD_STEP_HYPER}),
                     *maps = sd_graph_input(g, "maps", SD_F32, 2, (int64_t[]){1, SD_QUANT_CODES});
    sd_graph_step(g, SD_RULE_sgd, 1, t, clip, hyper, maps);
    struct sd_backend *b = sd_backend_new(backend, &err);
    struct sd_plan *p = b ? sd_plan_new(g, b, &err) : NULL;
    must(!p, &err);
    memcpy(sd_plan_data(p, clip), (float[]){0, 1, skip}, SD_CLIP_RESULTS * sizeof(float));
    const float row[SD_STEP_HYPER] = {
        [SD_STEP_LIVE] = 1, [SD_SGD_KEEP] = 1, [SD_SGD_NEW] = 1, [SD_SGD_FRESH] = 1};
    memcpy(sd_plan_data(p, hyper), row, sizeof row);
    sd_dynamic_map(true, sd_plan_data(p, maps));
    plan_run(p);
    for (int k = 0; k < 4; k++)
        var_pull(b, &var[k]);
    sd_plan_free(p);
    sd_backend_free(b);
    sd_graph_free(g);
}

static void test_edges(const char *backend)
{
    static struct edge e;
    e = (struct edge){.grad = {[256] = 1, [300] = NAN, [520] = -4, [521] = -1e-9f, [522] = 1e-9f, [599] = 2}};
    step_edge(backend, &e, false);
    ok(e.max[0] == 0 && e.param[0] == 0 && e.param[255] == 0, "%s: a block of zeros", backend);
    ok(isnan(e.max[1]) && isnan(e.param[300]) && e.param[256] == -1, "%s: NaN spoils its block", backend);
    ok(e.max[2] == 4 && e.code[520] == 0 && e.code[521] == 126 && e.code[522] == 127 && e.param[599] == -2,
       "%s: what is below zero stays there", backend);
    struct edge before = e;
    e.grad[0] = 1;
    step_edge(backend, &e, true);
    ok(e.grad[0] == 0 && !memcmp(e.code, before.code, sizeof e.code) &&
           !memcmp(e.max, before.max, sizeof e.max) && !memcmp(e.param, before.param, sizeof e.param),
       "%s: a skipped step", backend);
}

/* What is not of the types and shapes that codes take. */
static void test_refusals(void)
{
    static struct edge e;
    static const char *const why[] = {"moments u8", "moments u8", "maps", "twice"};
    for (int i = 0; i < 4; i++) {
        struct sd_graph *g = sd_graph_new();
        struct sd_err err = {0};
        struct sd_var vars[] = {
            {"param", SD_F32, 1, {EDGE}, e.param, e.param, .trainable = false},
            {"grad", SD_F32, 1, {EDGE}, e.grad, e.grad, .trainable = false},
            {"m", i ? SD_U8 : SD_F32, 1, {i ? EDGE : 100}, e.code, e.code, .trainable = false},
            {"max", SD_F32, 1, {i == 1 ? 2 : 3}, e.max, e.max, .trainable = false},
        };
        struct sd_tensor *const t[] = {
            sd_graph_var(g, &vars[0], SD_F32), sd_graph_var(g, &vars[i == 3 ? 0 : 1], SD_F32),
            sd_graph_var(g, &vars[2], vars[2].dtype), sd_graph_var(g, &vars[3], SD_F32)};
        sd_graph_step(g, SD_RULE_lion, 1, t, sd_graph_fill(g, SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}, 1),
                      sd_graph_fill(g, SD_F32, 1, (int64_t[]){SD_STEP_HYPER}, 1),
                      sd_graph_fill(g, SD_F32, 1, (int64_t[]){SD_QUANT_CODES - (i == 2)}, 1));
        ok(sd_graph_error(g, &err) && strstr(err.msg, why[i]), "refused: %s", err.msg);
        sd_graph_free(g);
    }
}

int main(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, "t/data/optim/quant.safetensors", &err), &err);
    test_maps(tf);
    for (int i = 0; i < 3; i++) {
        check("ref", tf, coded[i]);
        check(test_backend(), tf, coded[i]);
    }
    test_edges("ref");
    test_edges(test_backend());
    test_refusals();
    sd_tensor_file_close(tf);
    return tap_end();
}
