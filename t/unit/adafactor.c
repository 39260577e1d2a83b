/* AdaFactor against transformers (t/data/optim/adafactor.safetensors, made by t/ref/adafactor.py), on the
 * reference and the tested backend. */
#include <math.h>
#include <string.h>

#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/adafactor.h"

enum { STEPS = 200, GRADS = 8, PARAMS = 5, MOST = 1024, STATES = 5 };

/* A kind of the fixture: what Adafactor was given. */
struct kind {
    const char *name;
    double lr, clip_threshold, decay_rate, eps[2], weight_decay,
        beta1; /* lr 0: relative; beta1 0: no moment */
    bool scale_parameter, warmup_init;
};

static const struct kind kinds[] = {
    {"plain", 0, 1, -0.8, {1e-30, 1e-3}, 0, 0, true, false},
    {"warm", 0, 1, -0.8, {1e-30, 1e-3}, 0.1, 0.9, true, true},
    {"fixed", 2e-3, 0.5, -0.7, {1e-12, 1e-2}, 0.01, 0, false, false},
    {"scaled", 5e-2, 1, -0.8, {1e-30, 0.5}, 0, 0.5, true, false},
};
static const char *const names[PARAMS] = {"matrix", "conv", "ones", "vector", "late"};

static const struct sd_store_entry *find(const struct sd_tensor_file *tf, const char *prefix,
                                         const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", prefix, name);
    const struct sd_store_entry *e = sd_tensor_file_find(tf, key);
    if (!e) {
        printf("Bail out! %s\n", key);
        exit(1);
    }
    return e;
}

/* The parameters, and beside each its gradient, rows, columns and first moment. */
struct subject {
    float memory[PARAMS][STATES][MOST];
    struct sd_var var[PARAMS][STATES];
    struct sd_adafactor_tensors t[PARAMS];
    int64_t n[PARAMS];
};

/* A variable of the parameter's dimensions without one of them (-1: all). */
static struct sd_tensor *state(struct sd_graph *g, struct subject *s, int param, int which, int without)
{
    const struct sd_var *like = &s->var[param][0];
    struct sd_var *v = &s->var[param][which];
    *v = (struct sd_var){.name = names[param], .dtype = SD_F32};
    for (int i = 0; i < like->ndim; i++)
        if (i != without)
            v->dim[v->ndim++] = like->dim[i];
    v->data = v->state = s->memory[param][which];
    return sd_graph_var(g, v, SD_F32);
}

static void open_subject(struct subject *s, struct sd_graph *g, const struct sd_tensor_file *tf, bool moment)
{
    memset(s, 0, sizeof *s);
    for (int i = 0; i < PARAMS; i++) {
        const struct sd_store_entry *e = find(tf, "in", names[i]);
        struct sd_var *param = &s->var[i][0];
        s->n[i] = (int64_t)(e->bytes / sizeof(float));
        memcpy(s->memory[i][0], e->data, e->bytes);
        *param = (struct sd_var){.name = names[i],
                                 .dtype = SD_F32,
                                 .ndim = e->ndim,
                                 .data = s->memory[i][0],
                                 .state = s->memory[i][0]};
        for (int k = 0; k < e->ndim; k++)
            param->dim[k] = e->shape[k];
        int n = e->ndim;
        s->t[i] = (struct sd_adafactor_tensors){
            .param = sd_graph_var(g, param, SD_F32),
            .grad = state(g, s, i, 1, -1),
            .rows = state(g, s, i, 2, n > 1 ? n - 1 : -1),
            .columns = n > 1 ? state(g, s, i, 3, n - 2) : NULL,
            .m = moment ? state(g, s, i, 4, -1) : NULL,
        };
    }
}

static void fill_hyper(const struct kind *k, double step, float *h)
{
    double relative = fmin(k->warmup_init ? 1e-6 * step : 1e-2, 1 / sqrt(step));
    h[SD_STEP_LIVE] = 1;
    h[SD_ADAFACTOR_RATE] = (float)(k->lr != 0 ? k->lr : relative);
    h[SD_ADAFACTOR_SCALED] = k->scale_parameter;
    h[SD_ADAFACTOR_LEAST] = (float)k->eps[1];
    h[SD_ADAFACTOR_EPS] = (float)k->eps[0];
    h[SD_ADAFACTOR_KEEP] = (float)(1 - pow(step, k->decay_rate));
    h[SD_ADAFACTOR_NEW] = (float)pow(step, k->decay_rate);
    h[SD_ADAFACTOR_MOST] = (float)k->clip_threshold;
    h[SD_ADAFACTOR_BETA1] = (float)k->beta1;
    h[SD_ADAFACTOR_NEW1] = (float)(1 - k->beta1);
    h[SD_ADAFACTOR_DECAY] = (float)k->weight_decay;
}

/* The largest difference of n numbers, relative to the largest of those wanted. */
static double distance(const float *got, const float *want, int64_t n)
{
    double worst = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        worst = isnan(d) ? INFINITY : fmax(worst, d);
        most = fmax(most, fabs((double)want[i]));
    }
    return worst / most;
}

/* The parameters after so many steps, and that gradients are zero. */
static double compare(struct subject *s, const struct sd_tensor_file *tf, const char *kind,
                      struct sd_backend *b, int steps)
{
    static const float zeros[MOST];
    char prefix[32];
    double worst = 0;
    snprintf(prefix, sizeof prefix, "%s.%d", kind, steps);
    for (int i = 0; i < PARAMS; i++) {
        var_pull(b, &s->var[i][0]);
        var_pull(b, &s->var[i][1]);
        worst = fmax(worst, distance(s->memory[i][0], find(tf, prefix, names[i])->data, s->n[i]));
        if (memcmp(s->memory[i][1], zeros, (size_t)s->n[i] * sizeof *zeros))
            worst = INFINITY;
    }
    return worst;
}

static void check(const char *backend, const struct sd_tensor_file *tf, const struct kind *k)
{
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    static struct subject s;
    open_subject(&s, g, tf, k->beta1 != 0);
    struct sd_tensor *clip = sd_graph_input(g, "clip", SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}),
                     *hyper = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){PARAMS, SD_STEP_HYPER}),
                     *rms = sd_graph_adafactor(g, PARAMS, s.t, clip, hyper);
    must(sd_graph_error(g, &err), &err);
    sd_graph_output(g, rms);
    struct sd_backend *b = sd_backend_new(backend, &err);
    struct sd_plan *p = b ? sd_plan_new(g, b, &err) : NULL;
    must(!p, &err);
    memcpy(sd_plan_data(p, clip), (float[]){0, 1, 0}, SD_CLIP_RESULTS * sizeof(float));
    double worst = 0, worst_rms = 0;
    for (int step = 1; step <= STEPS; step++) {
        for (int i = 0; i < PARAMS; i++) {
            const float *grads = find(tf, "in.grad", names[i])->data;
            memcpy(s.memory[i][1], grads + (step - 1) % GRADS * s.n[i], (size_t)s.n[i] * sizeof *grads);
            var_push(b, &s.var[i][1]);
            fill_hyper(k, step, (float *)sd_plan_data(p, hyper) + (size_t)i * SD_STEP_HYPER);
        }
        plan_run(p);
        char prefix[32];
        snprintf(prefix, sizeof prefix, "%s.rms", k->name);
        for (int i = 0; i < PARAMS; i++)
            worst_rms =
                fmax(worst_rms, distance((const float *)sd_plan_data(p, rms) + i,
                                         (const float *)find(tf, prefix, names[i])->data + step - 1, 1));
        if (step == 1 || step == 2 || step == 10 || step == 50 || step == STEPS)
            worst = fmax(worst, compare(&s, tf, k->name, b, step));
    }
    ok(worst < 1e-5, "%s: %s: %d steps (%.1e)", backend, k->name, STEPS, worst);
    ok(worst_rms < 1e-5, "%s: %s: sizes of the parameters (%.1e)", backend, k->name, worst_rms);
    sd_plan_free(p);
    sd_backend_free(b);
    sd_graph_free(g);
}

/* What does not fit together is refused. */
static void check_refused(void)
{
    static float memory[5][64];
    struct sd_var var[5];
    struct sd_graph *g = NULL;
    for (int wrong = 0; wrong < 5; wrong++) {
        g = sd_graph_new();
        struct sd_tensor *t[5];
        for (int i = 0; i < 5; i++) {
            var[i] = (struct sd_var){
                .dtype = SD_F32, .ndim = 2, .dim = {8, 4}, .data = memory[i], .state = memory[i]};
            if (i == 2 || i == 3) {
                var[i].ndim = 1;
                var[i].dim[0] = i == 2 ? 8 : 4;
            }
            if (i == wrong && i)
                var[i].dim[0]++;
            t[i] = sd_graph_var(g, &var[i], SD_F32);
        }
        struct sd_tensor *clip = sd_graph_input(g, "clip", SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}),
                         *hyper = sd_graph_input(g, "hyper", SD_F32, 2, (int64_t[]){1, SD_STEP_HYPER});
        struct sd_adafactor_tensors all = {t[0], t[1], t[2], t[3], t[4]};
        struct sd_err err = {0};
        bool made = sd_graph_adafactor(g, 1, &all, clip, hyper);
        ok(made == !wrong && (sd_graph_error(g, &err) != 0) == !!wrong, "input %d of another shape: %s",
           wrong, err.msg);
        sd_graph_free(g);
    }
}

int main(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, "t/data/optim/adafactor.safetensors", &err), &err);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        check("ref", tf, &kinds[i]);
        check(test_backend(), tf, &kinds[i]);
    }
    sd_tensor_file_close(tf);
    check_refused();
    return tap_end();
}
