/* AdaFactor against transformers (t/data/optim/adafactor.safetensors, made by t/ref/adafactor.py), on the
 * reference and the tested backend. */
#include <math.h>
#include <string.h>

#include "optim/optimizer.h"
#include "backend.h"
#include "fixture.h"
#include "tap.h"
#include "tensor/adafactor.h"

enum { STEPS = 200, GRADS = 8, PARAMS = 5, MOST = 1024 };

/* A kind of the fixture: what Adafactor was given. */
struct kind {
    const char *name;
    double lr;
    const char *words[6];
    double least; /* of a parameter's size; 0: its rate is not scaled by it */
};

static const struct kind kinds[] = {
    {"plain", 1, {NULL}, 1e-3},
    {"warm", 1, {"warmup_init=True", "relative_step=False", "beta1=0.9", "weight_decay=0.1"}, 1e-3},
    {"fixed",
     2e-3,
     {"relative_step=False", "scale_parameter=False", "clip_threshold=0.5", "decay_rate=-0.7",
      "eps=(1e-12,1e-2)", "weight_decay=0.01"},
     0},
    {"scaled", 5e-2, {"relative_step=False", "beta1=0.5", "eps=[1e-30, 0.5]"}, 0.5},
};
static const char *const names[PARAMS] = {"matrix", "conv", "ones", "vector", "late"};

/* The parameters, each in a group of its own, and their optimizer. */
struct subject {
    float memory[PARAMS][MOST];
    struct sd_var var[PARAMS];
    int64_t n[PARAMS];
    struct sd_optimizer o;
};

static void open_subject(struct subject *s, const struct sd_tensor_file *tf, const struct kind *k,
                         struct sd_backend *b)
{
    struct sd_optim_group groups[PARAMS];
    struct sd_var *vars[PARAMS];
    int group_of[PARAMS];
    struct sd_optim_config config;
    struct sd_strings words = {.v = (const char **)k->words};
    struct sd_err err = {0};
    memset(s, 0, sizeof *s);
    for (int i = 0; i < PARAMS; i++) {
        const struct sd_store_entry *e = fixture(tf, "%s.%s", "in", names[i]);
        s->n[i] = (int64_t)(e->bytes / sizeof(float));
        memcpy(s->memory[i], e->data, e->bytes);
        s->var[i] = (struct sd_var){.name = names[i],
                                    .dtype = SD_F32,
                                    .ndim = e->ndim,
                                    .data = s->memory[i],
                                    .state = s->memory[i],
                                    .trainable = true};
        for (int d = 0; d < e->ndim; d++)
            s->var[i].dim[d] = e->shape[d];
        vars[i] = &s->var[i];
        groups[i] = (struct sd_optim_group){.name = names[i], .lr = k->lr};
        group_of[i] = i;
    }
    while (words.n < 6 && k->words[words.n])
        words.n++;
    must(sd_optim_config_init(&config, "adafactor", &words, &err), &err);
    config.max_grad_norm = 0;
    must(sd_optimizer_init(&s->o, &config, groups, PARAMS, vars, group_of, PARAMS, b, &err), &err);
}

/* The parameters after so many steps, and that gradients are zero. */
static double compare(struct subject *s, const struct sd_tensor_file *tf, const char *kind, int steps)
{
    static const float zeros[MOST];
    char prefix[32];
    double worst = 0;
    snprintf(prefix, sizeof prefix, "%s.%d", kind, steps);
    for (int i = 0; i < PARAMS; i++) {
        struct sd_var *grad = sd_optimizer_grad(&s->o, &s->var[i]);
        var_pull(s->o.backend, &s->var[i]);
        var_pull(s->o.backend, grad);
        worst = fmax(worst,
                     fixture_difference(s->memory[i], fixture(tf, "%s.%s", prefix, names[i])->data, s->n[i]));
        if (memcmp(grad->data, zeros, (size_t)s->n[i] * sizeof *zeros))
            worst = INFINITY;
    }
    return worst;
}

/* How far the rates that are told are from what Adafactor's schedule tells after a step. */
static double rates(const struct subject *s, const struct sd_tensor_file *tf, const struct kind *k, int step)
{
    char prefix[32];
    double worst = 0, lr = (double)((const float *)fixture(tf, "%s.%s", k->name, "rate")->data)[step - 1];
    bool relative = sd_optim_relative(&s->o.config);
    snprintf(prefix, sizeof prefix, "%s.rms", k->name);
    for (int i = 0; i < PARAMS; i++) {
        double size = (double)((const float *)fixture(tf, "%s.%s", prefix, names[i])->data)[step - 1];
        double want = relative ? lr * fmax(k->least, size) : k->lr;
        worst = fmax(worst, fabs(s->o.groups[i].last / want - 1));
    }
    return worst;
}

static void check(const char *backend, const struct sd_tensor_file *tf, const struct kind *k)
{
    struct sd_err err = {0};
    static struct subject s;
    struct sd_backend *b = sd_backend_new(backend, &err);
    must(!b, &err);
    open_subject(&s, tf, k, b);
    double worst = 0, worst_rate = 0;
    for (int step = 1; step <= STEPS; step++) {
        struct sd_optim_update did;
        for (int i = 0; i < PARAMS; i++) {
            const float *grads = fixture(tf, "%s.%s", "in.grad", names[i])->data;
            struct sd_var *grad = sd_optimizer_grad(&s.o, &s.var[i]);
            memcpy(grad->state, grads + (step - 1) % GRADS * s.n[i], (size_t)s.n[i] * sizeof *grads);
            var_push(b, grad);
        }
        must(sd_optimizer_update(&s.o, 1, &did, &err), &err);
        worst_rate = fmax(worst_rate, rates(&s, tf, k, step));
        if (step == 1 || step == 2 || step == 10 || step == 50 || step == STEPS)
            worst = fmax(worst, compare(&s, tf, k->name, step));
    }
    ok(worst < 1e-5, "%s: %s: %d steps (%.1e)", backend, k->name, STEPS, worst);
    ok(worst_rate < 1e-5, "%s: %s: rates (%.1e)", backend, k->name, worst_rate);
    sd_optimizer_free(&s.o);
    sd_backend_free(b);
}

/* A parameter that no gradient reached stays, with its moments, and does not count; the others step. */
static void check_idle(const struct sd_tensor_file *tf)
{
    static struct subject s;
    struct sd_err err = {0};
    struct sd_backend *b = sd_backend_new(test_backend(), &err);
    must(!b, &err);
    open_subject(&s, tf, &kinds[0], b);
    float before[MOST];
    memcpy(before, s.memory[0], sizeof before);
    for (int step = 0; step < 3; step++) {
        struct sd_optim_update did;
        for (int i = 0; i < PARAMS; i++) {
            struct sd_var *grad = sd_optimizer_grad(&s.o, &s.var[i]);
            memcpy(grad->state, fixture(tf, "%s.%s", "in.grad", names[i])->data,
                   (size_t)s.n[i] * sizeof(float));
            var_push(b, grad);
        }
        s.o.params[0].idle = step < 2; /* its first update is the third */
        must(sd_optimizer_update(&s.o, 1, &did, &err), &err);
        must(sd_block_pull(s.o.block, &err), &err);
        if (step == 1)
            ok(!memcmp(before, s.memory[0], sizeof before) && s.o.groups[0].last == 1, "idle: it stays");
    }
    double d = fixture_difference(s.memory[0], fixture(tf, "%s.%s", "plain.1", names[0])->data, s.n[0]);
    ok(d < 1e-6, "idle: its first step is its first (%.1e)", d);
    sd_optimizer_free(&s.o);
    sd_backend_free(b);
}

/* What --optimizer-args may say, and what becomes of it. */
static void check_words(void)
{
    static const struct {
        const char *word, *text; /* NULL: refused */
    } cases[] = {
        {NULL, "relative_step=True"},
        {"relative_step=False", "relative_step=False"},
        {"warmup_init=True", "warmup_init=True,relative_step=True"},
        {"beta1=None", "beta1=None,relative_step=True"},
        {"eps=1e-30,1e-3", "eps=(1e-30, 0.001),relative_step=True"},
        {"eps=1e-30", NULL},
        {"beta1=1", NULL},
        {"decay_rate=0.8", NULL},
        {"clip_threshold=0", NULL},
        {"clip_threshold=None", NULL},
        {"betas=.9,.99", NULL},
        {"lr=1", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sd_optim_config c;
        struct sd_err err = {0};
        struct sd_strings words = {.v = (const char **)&cases[i].word, .n = cases[i].word != NULL};
        bool good = !sd_optim_config_init(&c, "AdaFactor", &words, &err);
        ok(cases[i].text ? good && !strcmp(c.text, cases[i].text) : !good, "words: %s: %s",
           cases[i].word ? cases[i].word : "none", good ? c.text : err.msg);
    }
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
    check_idle(tf);
    sd_tensor_file_close(tf);
    check_words();
    check_refused();
    return tap_end();
}
