/* Every optimizer against its own implementation, 200 updates on gradients that depend on the parameters
 * (t/data/optim/kinds.safetensors, made by t/ref/optim_kinds.py, which says what lies there), on the
 * reference and the tested backend.
 *
 *     kinds [KIND ...]     all of them, or those named */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "optim/optimizer.h"
#include "store/tensor_file.h"
#include "tensor/frozen.h"
#include "backend.h"
#include "tap.h"

enum { STEPS = 200, PARAMS = 3, MOST = 64, CHECKS = 5 };

static const int after[CHECKS] = {1, 2, 10, 50, STEPS};
static const char *const names[PARAMS] = {"b", "w", "k"};
static const struct sd_tensor_file *file;

static const struct sd_store_entry *entry(const char *prefix, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", prefix, name);
    return sd_tensor_file_find(file, key);
}

static const void *data(const char *prefix, const char *name)
{
    const struct sd_store_entry *e = entry(prefix, name);
    if (!e) {
        printf("Bail out! %s.%s\n", prefix, name);
        exit(1);
    }
    return e->data;
}

/* How gradients come: as they are; scaled, and every seventh update begins with one that overflows; clipped
 * here, or by the optimizer. */
enum way { PLAIN, SCALED, CLIPPED, CLIPS };

/* An optimizer of the file. */
struct subject {
    const char *name;
    enum way way;
    float scale; /* of the gradients to come */
    const cJSON *setting;
    struct sd_optim_config config;
    double lr;
    struct sd_backend *backend;
    struct sd_optimizer o;
    struct sd_var var[PARAMS];
    float value[PARAMS][MOST];
};

/* --- its settings --- */

static void add_value(struct sd_buf *b, const cJSON *v)
{
    if (cJSON_IsBool(v)) {
        sd_buf_adds(b, cJSON_IsTrue(v) ? "True" : "False");
    } else if (cJSON_IsNumber(v)) {
        char text[SD_JSON_DOUBLE_BYTES];
        sd_buf_adds(b, sd_json_double(text, v->valuedouble));
    } else {
        const cJSON *item;
        sd_buf_adds(b, "(");
        cJSON_ArrayForEach(item, v)
        {
            add_value(b, item);
            sd_buf_adds(b, ",");
        }
        sd_buf_adds(b, ")");
    }
}

/* The words of --optimizer-args; the rate is given otherwise. */
static int configure(struct subject *s, struct sd_err *err)
{
    const char *class = strrchr(sd_json_get(s->setting, "class")->valuestring, '.') + 1;
    const cJSON *args = sd_json_get(s->setting, "args"), *arg;
    struct sd_strings words = {0};
    struct sd_buf text[16];
    s->lr = -1;
    cJSON_ArrayForEach(arg, args)
    {
        if (!strcmp(arg->string, "lr")) {
            s->lr = arg->valuedouble;
            continue;
        }
        struct sd_buf *b = &text[words.n];
        *b = (struct sd_buf)SD_BUF_INIT;
        sd_buf_adds(b, arg->string);
        sd_buf_adds(b, "=");
        add_value(b, arg);
        sd_strings_add(&words, b->data);
    }
    int rc = sd_optim_config_init(&s->config, class, &words, err);
    for (size_t i = 0; i < words.n; i++)
        sd_buf_free(&text[i]);
    sd_strings_free(&words);
    s->config.max_grad_norm = s->way == CLIPS ? 1 : 0;
    if (s->way == SCALED)
        s->config.scaling =
            (struct sd_loss_scaling){.initial = 1024, .growth = 2, .backoff = 0.5f, .interval = 4};
    s->scale = s->way == SCALED ? 1024 : 1;
    return rc;
}

static int setting(const struct subject *s, const char *name)
{
    const cJSON *v = sd_json_get(s->setting, name);
    return v ? v->valueint : 0;
}

/* torch's own rates, where the file has none. */
static double usual_rate(const char *class)
{
    static const struct {
        const char *class;
        double lr;
    } rates[] = {{"Adadelta", 1}, {"ASGD", 1e-2}, {"Rprop", 1e-2}};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (!strcmp(rates[i].class, class))
            return rates[i].lr;
    return 1; /* of those that adapt */
}

static int open_subject(struct subject *s, const char *backend, struct sd_err *err)
{
    static const int64_t shape[PARAMS][4] = {{7}, {5, 6}, {3, 2, 3, 3}};
    static const int ndim[PARAMS] = {1, 2, 4}, group_of[PARAMS] = {0};
    struct sd_var *vars[PARAMS];
    if (s->lr < 0)
        s->lr = usual_rate(s->config.kind->name);
    for (int i = 0; i < PARAMS; i++) {
        vars[i] = &s->var[i];
        s->var[i] = (struct sd_var){.name = names[i],
                                    .dtype = SD_F32,
                                    .ndim = ndim[i],
                                    .data = s->value[i],
                                    .state = s->value[i],
                                    .trainable = true};
        memcpy(s->var[i].dim, shape[i], sizeof shape[i]);
        memset(s->value[i], 0, sizeof s->value[i]);
        if (!setting(s, "zero"))
            memcpy(s->value[i], data("in", names[i]), (size_t)sd_var_count(&s->var[i]) * sizeof(float));
    }
    if (!(s->backend = sd_backend_new(backend, err)))
        return -1;
    return sd_optimizer_init(&s->o, &s->config, &(struct sd_optim_group){.name = "all", .lr = s->lr}, 1, vars,
                             group_of, PARAMS, s->backend, err);
}

/* --- its way --- */

/* Of parameter i before a step. */
static float *make_gradient(struct subject *s, int i, int step)
{
    const float *curve = data("curve", names[i]), *target = data("target", names[i]),
                *noise = data("noise", names[i]);
    struct sd_var *grad = sd_optimizer_grad(&s->o, &s->var[i]);
    float *g = grad->state;
    int64_t n = sd_var_count(&s->var[i]);
    int idle = setting(s, "idle");
    s->o.params[i].idle = i == 1 && idle && step % idle == 0;
    for (int64_t k = 0; k < n; k++)
        g[k] = s->o.params[i].idle ? 0 : curve[k] * (s->value[i][k] - target[k]) + noise[step * n + k];
    return g;
}

static void set_gradients(struct subject *s, int step, bool overflow)
{
    float *grad[PARAMS], factor = s->scale;
    double sum = 0;
    for (int i = 0; i < PARAMS; i++) {
        grad[i] = make_gradient(s, i, step);
        for (int64_t k = 0; k < sd_var_count(&s->var[i]); k++)
            sum += (double)grad[i][k] * (double)grad[i][k];
    }
    if (s->way == CLIPPED && sqrt(sum) > 1)
        factor = (float)(1 / (sqrt(sum) + 1e-6));
    for (int i = 0; i < PARAMS; i++) {
        for (int64_t k = 0; k < sd_var_count(&s->var[i]); k++)
            grad[i][k] *= factor;
        if (overflow)
            grad[i][0] = INFINITY;
        var_push(s->backend, sd_optimizer_grad(&s->o, &s->var[i]));
    }
}

/* The largest difference from f32 or f64 numbers, relative to the largest of those. */
static double distance(int64_t n, const float *got, const float *want, const double *want64)
{
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = want ? (double)want[i] : want64[i], d = fabs((double)got[i] - w);
        worst = isnan(d) ? INFINITY : fmax(worst, d);
        scale = fmax(scale, fabs(w));
    }
    return worst / scale;
}

struct differences {
    double f32, f64, peer, d; /* from the peer's, its own f32 from its f64, and of the step size */
};

static void compare(struct subject *s, int check, double d, struct differences *to)
{
    const struct sd_store_entry *steps = entry(s->name, "d");
    char wide[64];
    snprintf(wide, sizeof wide, "%s.f64", s->name);
    for (int i = 0; i < PARAMS; i++) {
        int64_t n = sd_var_count(&s->var[i]);
        const float *want = (const float *)data(s->name, names[i]) + check * n;
        to->f32 = fmax(to->f32, distance(n, s->value[i], want, NULL));
        if (check < CHECKS - 1)
            continue;
        to->f64 = fmax(to->f64, distance(n, s->value[i], NULL, data(wide, names[i])));
        to->peer = fmax(to->peer, distance(n, want, NULL, data(wide, names[i])));
    }
    if (steps) {
        double want = ((const double *)steps->data)[check];
        to->d = fmax(to->d, fabs(d / want - 1));
    }
}

static int update(struct subject *s, int step, bool overflow, struct sd_optim_update *did, struct sd_err *err)
{
    int warmup = setting(s, "warmup");
    double factor = warmup && step < warmup ? (double)step / warmup : 1;
    set_gradients(s, step, overflow);
    if (sd_optimizer_update(&s->o, factor, did, err) || sd_block_pull(s->o.block, err))
        return -1;
    s->scale = did->scale;
    return did->skipped == overflow ? 0 : sd_err_set(err, SD_ERR_DATA, "an overflow goes unseen");
}

static int go(struct subject *s, struct differences *to, struct sd_err *err)
{
    *to = (struct differences){0};
    for (int step = 0, check = 0; step < STEPS; step++) {
        struct sd_optim_update did;
        if (s->way == SCALED && step % 7 == 0 && update(s, step, true, &did, err))
            return -1;
        if (update(s, step, false, &did, err))
            return -1;
        if (step + 1 == after[check])
            compare(s, check++, (double)did.d, to);
    }
    return 0;
}

/* Prodigy sums g (x0 - x), nothing but rounding while d is near 1e-6 and x near 1. */
static double tolerance(const struct subject *s, const struct differences *d)
{
    return strcmp(s->name, "prodigy.random") ? 1e-5 + 2 * d->peer : 5e-2;
}

/* Leaves the parameters as they are after it. */
static void run(struct subject *s, const char *backend, const cJSON *given, enum way way,
                struct differences *d)
{
    struct sd_err err = {0};
    *s = (struct subject){.name = given->string, .setting = given, .way = way};
    must(configure(s, &err), &err);
    must(open_subject(s, backend, &err) || go(s, d, &err), &err);
    sd_optimizer_free(&s->o);
    sd_backend_free(s->backend);
}

static void check(const char *backend, const cJSON *given, enum way way)
{
    struct subject s;
    struct differences d;
    run(&s, backend, given, way, &d);
    double most = tolerance(&s, &d);
    ok(d.f32 < most && d.f64 < most && d.d < most, "%s: %s%s", backend, s.name,
       way == SCALED ? ", scaled, with updates that are skipped" : "");
    printf("# from its f32 %.1e, from its f64 %.1e, f32 from f64 %.1e, step size %.1e\n", d.f32, d.f64,
           d.peer, d.d);
}

/* D-Adaptation by gradient descent divides by the first gradients' norm, which is that after clipping. */
static void check_clipped(const cJSON *given)
{
    struct subject here, there;
    struct differences d;
    double worst = 0;
    run(&here, test_backend(), given, CLIPPED, &d);
    run(&there, test_backend(), given, CLIPS, &d);
    for (int i = 0; i < PARAMS; i++)
        worst = fmax(worst, distance(sd_var_count(&here.var[i]), there.value[i], here.value[i], NULL));
    ok(worst < 1e-5 && d.f32 > 1e-3, "%s: %s, clipped (%.1e)", test_backend(), here.name, worst);
}

static bool is_wanted(const char *name, int argc, char **argv)
{
    bool wanted = argc < 2;
    for (int i = 1; i < argc; i++)
        wanted |= !strcmp(argv[i], name);
    return wanted;
}

int main(int argc, char **argv)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, "t/data/optim/kinds.safetensors", &err), &err);
    file = tf;
    const char *text = sd_tensor_file_meta(tf, "kinds");
    cJSON *kinds = text ? sd_json_parse(text, strlen(text), &err) : NULL;
    must(!kinds, &err);
    const cJSON *kind;
    cJSON_ArrayForEach(kind, kinds)
    {
        if (!strncmp(kind->string, "adafactor", 9) || !is_wanted(kind->string, argc, argv))
            continue;
        if (!strcmp(kind->string, "prodigy.slice")) {
            struct subject s = {.setting = kind};
            ok(configure(&s, &err) && strstr(err.msg, "slice_p"), "slice_p is refused");
            continue;
        }
        check("ref", kind, PLAIN);
        check(test_backend(), kind, PLAIN);
        if (sd_json_get(kind, "idle"))
            check(test_backend(), kind, SCALED);
        if (!strcmp(kind->string, "dadaptsgd.momentum"))
            check_clipped(kind);
    }
    cJSON_Delete(kinds);
    sd_tensor_file_close(tf);
    return tap_end();
}
