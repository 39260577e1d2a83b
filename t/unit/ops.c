/* Every op of ops.def, by the shapes of ops_cases.def:
 *   - its gradients against central differences, on the reference backend, for a fixed random cotangent;
 *   - a backend against the reference, forward and backward, in f32 and bf16, and that it passes NaN on;
 *   - on the cpu, the same bytes whatever the number of threads.
 * An op that no case reaches, or that a backend lacks, fails. Memory is poisoned with NaN before use.
 *
 *     ops [--backend cpu] [--op NAME] [--case N] [--dtype f32|bf16|f16] */
#include "ops_build.h"
#include "backend.h"
#include "tap.h"
#include "tensor/pass.h"
#include "tensor/plan.h"

#include <malloc.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>

/* --- cases --- */

struct cases {
    int n;
    const int64_t (*shape)[12];
    builder *build;
};

static const struct cases cases[SD_OP_COUNT] = {
#define SHAPES(op, ...)                                                               \
    [SD_OP_##op] = {sizeof((const int64_t[][12]){__VA_ARGS__}) / sizeof(int64_t[12]), \
                    (const int64_t[][12]){__VA_ARGS__}, build_##op},
#include "ops_cases.def"
#undef SHAPES
};

/* --- TAP --- */

static bool reached[SD_OP_COUNT];                   /* by the graphs that ran */
static double largest[SD_OP_COUNT][SD_DTYPE_COUNT]; /* difference of a backend from ref */

/* One line; when why is not empty, a failure with its reproducer. */
static void report(const char *what, const char *why, const char *reproduce)
{
    if (!ok(!*why, "%s", what))
        printf("#   %s\n#   reproduce: %s\n", why, reproduce);
}

/* --- sessions --- */

/* A case built for a backend, with gradients of every trained variable. */
struct run {
    struct session s;
    struct sd_backend *backend;
    struct sd_plan *plan;
    struct sd_tensor *y; /* NULL for effects */
    struct sd_tensor *grad[VARIABLES];
    float *cotangent;
    struct sd_err err;
};

/* dL/dy = cotangent: the loss is the product of y, as a row, with it. */
static void add_gradients(struct run *r)
{
    struct session *s = &r->s;
    int64_t n = sd_tensor_count(r->y);
    struct sd_tensor *row = sd_graph_reshape(s->g, sd_graph_cast(s->g, r->y, SD_F32), 2, (int64_t[]){1, n});
    struct sd_tensor *c = VAR("cotangent", DATA, n, 1);
    r->cotangent = values(s);
    struct sd_tensor *loss =
        sd_graph_reshape(s->g, sd_graph_matmul(s->g, row, c, NULL, false, false), 1, (int64_t[]){1});
    /* Where losses are f16 they are scaled, so that gradients are not among the smallest numbers there are.
     */
    float scale = s->grid == SD_F16 ? 64 : 1;
    struct sd_tensor **grads, *seed = sd_graph_fill(s->g, SD_F32, 1, (int64_t[]){1}, scale);
    if (sd_graph_grad(s->g, loss, seed, &grads))
        return;
    for (int i = 0; i < s->n_v; i++)
        if (s->v[i].var.trainable && (r->grad[i] = grads[s->v[i].tensor->id]))
            sd_graph_output(s->g, r->grad[i]);
}

static int run_open(struct run *r, const char *backend, enum sd_op op, int number, enum sd_dtype dtype,
                    enum sd_dtype grid)
{
    *r = (struct run){.s = {.g = sd_graph_new(), .dtype = dtype, .grid = grid}};
    sd_rng_seed(&r->s.rng, (uint64_t)op * 1000 + (uint64_t)number);
    r->y = cases[op].build(&r->s, cases[op].shape[number]);
    if (sd_graph_error(r->s.g, &r->err))
        return -1;
    if (r->y) {
        sd_graph_output(r->s.g, r->y);
        if (r->y->needs_grad)
            add_gradients(r);
        if (sd_graph_prune(r->s.g) || sd_graph_fuse(r->s.g))
            return sd_graph_error(r->s.g, &r->err);
    }
    r->backend = sd_backend_new(backend, &r->err);
    if (r->backend)
        r->backend->share_small = true;
    r->plan = r->backend ? sd_plan_new(r->s.g, r->backend, &r->err) : NULL;
    return r->plan ? 0 : -1;
}

static void run_close(struct run *r)
{
    sd_plan_free(r->plan);
    sd_backend_free(r->backend);
    for (int i = 0; i < r->s.n_v; i++) {
        free(r->s.v[i].value);
        free((void *)r->s.v[i].var.data);
    }
    sd_graph_free(r->s.g);
}

/* Runs from the variables' values, which the caller may have changed. */
static void run_go(struct run *r)
{
    for (int i = 0; i < r->s.n_v; i++) {
        struct variable *v = &r->s.v[i];
        void *data =
            v->tensor->node->op == SD_OP_input ? sd_plan_data(r->plan, v->tensor) : (void *)v->var.data;
        if (v->value)
            sd_dtype_convert(data, v->var.dtype, v->value, SD_F32, (size_t)v->n);
        if (v->var.state)
            var_push(r->backend, &v->var);
    }
    plan_run(r->plan);
}

/* --- results --- */

/* Result number i of a run: y, the gradients, the states after effects. NULL when there is none of that
 * number. */
static const void *result(struct run *r, int i, int64_t *n, enum sd_dtype *dtype, char *name, size_t size)
{
    struct variable *v = &r->s.v[i ? (i - 1) / 2 : 0];
    if (i == 0) {
        if (!r->y)
            return NULL;
        *n = sd_tensor_count(r->y);
        *dtype = r->y->dtype;
        snprintf(name, size, "the result");
        return sd_plan_data(r->plan, r->y);
    }
    const struct sd_tensor *grad = r->grad[(i - 1) / 2];
    if (i % 2 ? !grad : !v->var.state || v->var.trainable)
        return NULL;
    *n = v->n;
    *dtype = i % 2 ? grad->dtype : v->var.dtype;
    snprintf(name, size, i % 2 ? "the gradient of %s" : "%s after the step", v->var.name);
    if (i % 2)
        return sd_plan_data(r->plan, grad);
    var_pull(r->backend, &v->var);
    return v->var.state;
}

static float *as_floats(const void *data, enum sd_dtype dtype, int64_t n)
{
    float *f = malloc((size_t)n * sizeof *f);
    for (int64_t i = 0; i < n && dtype == SD_U8; i++)
        f[i] = ((const uint8_t *)data)[i];
    if (dtype != SD_U8)
        sd_dtype_convert(f, SD_F32, data, dtype, (size_t)n);
    return f;
}

/* Largest difference relative to the largest reference value; *at is where. NaN counts as infinite. */
static double distance(const float *want, const float *got, int64_t n, int64_t *at)
{
    double scale = 1e-30, worst = 0;
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs((double)want[i]));
    *at = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]) / scale;
        if (!(d <= worst)) {
            worst = isnan(d) ? INFINITY : d;
            *at = i;
        }
    }
    return worst;
}

/* Codes of moments that rounding has put to the other side of the middle of two are one apart: no more than
 * one in a thousand. Infinite where that is not so. */
static double codes_distance(const float *want, const float *got, int64_t n, int64_t *at)
{
    int64_t apart = 0;
    double worst = 0;
    *at = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        *at = d > worst ? i : *at;
        worst = fmax(worst, d);
        apart += d > 0;
    }
    return worst > 1 || apart * 1000 > n ? INFINITY : 0;
}

/* The largest difference of all results of two runs; says in why what differs most if it is above the
 * tolerance. */
static double compare(struct run *want, struct run *got, double tolerance, char *why, size_t size)
{
    char name[64];
    *why = 0;
    double worst = 0;
    for (int i = 0; i <= 2 * want->s.n_v; i++) {
        int64_t n, m, at;
        enum sd_dtype dw, dg;
        const void *w = result(want, i, &n, &dw, name, sizeof name),
                   *g = result(got, i, &m, &dg, name, sizeof name);
        if (!w && !g)
            continue;
        if (!w || !g || n != m) {
            snprintf(why, size, "%s is missing", name);
            return INFINITY;
        }
        float *a = as_floats(w, dw, n), *b = as_floats(g, dg, n);
        double d = dw == SD_U8 ? codes_distance(a, b, n, &at) : distance(a, b, n, &at);
        if (d > worst) {
            worst = d;
            if (d > tolerance)
                snprintf(why, size,
                         "%s, element %lld of %lld: %.9g instead of %.9g, %.2g of the largest value", name,
                         (long long)at, (long long)n, (double)b[at], (double)a[at], d);
        }
        free(a);
        free(b);
    }
    return worst;
}

static void compare_bytes(struct run *want, struct run *got, char *why, size_t size)
{
    char name[64];
    *why = 0;
    for (int i = 0; i <= 2 * want->s.n_v && !*why; i++) {
        int64_t n, m;
        enum sd_dtype dw, dg;
        const void *w = result(want, i, &n, &dw, name, sizeof name),
                   *g = result(got, i, &m, &dg, name, sizeof name);
        if (w && memcmp(w, g, (size_t)n * sd_dtype_size(dw)))
            snprintf(why, size, "%s differs", name);
    }
}

/* --- checks --- */

struct options {
    const char *backend, *program;
    int op, number, dtype; /* -1: all */
};

static void describe(const struct options *o, enum sd_op op, int number, enum sd_dtype dtype,
                     const char *check, char *what, char *reproduce, size_t size)
{
    int n = snprintf(what, size, "%s {", sd_op_name(op)), last = 11;
    while (last > 0 && !cases[op].shape[number][last])
        last--;
    for (int i = 0; i <= last; i++)
        n +=
            snprintf(what + n, size - (size_t)n, i ? ",%lld" : "%lld", (long long)cases[op].shape[number][i]);
    snprintf(what + n, size - (size_t)n, "} %s %s", check, sd_dtype_name(dtype));
    snprintf(reproduce, size, "%s --backend %s --op %s --case %d --dtype %s", o->program, o->backend,
             sd_op_name(op), number, sd_dtype_name(dtype));
}

/* The loss, in doubles. */
static double loss_of(struct run *r)
{
    run_go(r);
    const float *y = sd_plan_data(r->plan, r->y);
    double sum = 0;
    for (int64_t i = 0, n = sd_tensor_count(r->y); i < n; i++)
        sum += (double)y[i] * (double)r->cotangent[i];
    return sum;
}

/* dL/dv[i] from four points around it: error of the fourth order in h. */
static double slope(struct run *r, struct variable *v, int64_t i, double h)
{
    static const double step[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
    float keep = v->value[i];
    double sum = 0, real = 0;
    for (int k = 0; k < 4; k++) {
        v->value[i] = (float)((double)keep + step[k] * h);
        sum += weight[k] * loss_of(r);
        real += weight[k] * (double)v->value[i]; /* 12 h, but for rounding */
    }
    v->value[i] = keep;
    return sum / real;
}

static void check_slopes(struct run *r, int which, char *why, size_t size)
{
    struct variable *v = &r->s.v[which];
    run_go(r);
    float *grad = as_floats(sd_plan_data(r->plan, r->grad[which]), r->grad[which]->dtype, v->n);
    double scale = 1e-3;
    for (int64_t i = 0; i < v->n; i++)
        scale = fmax(scale, fabs((double)grad[i]));
    int64_t stride = v->n / 24 + 1;
    for (int64_t i = 0; i < v->n && !*why; i += stride) {
        double d = slope(r, v, i, 0.02);
        if (!(fabs(d - (double)grad[i]) <= 1e-3 * scale))
            snprintf(why, size, "the gradient of %s, element %lld of %lld: %.7g, but the slope is %.7g",
                     v->var.name, (long long)i, (long long)v->n, (double)grad[i], d);
    }
    free(grad);
}

/* Small enough to try many of its values, one by one. */
static bool is_small(const struct run *r)
{
    bool small = sd_tensor_count(r->y) < 4000;
    for (int i = 0; i < r->s.n_v; i++)
        small &= r->s.v[i].n < 4000;
    return small;
}

static void check_gradient(const struct options *o, enum sd_op op, int number)
{
    char what[256], why[600] = "", reproduce[256];
    struct run r;
    describe(o, op, number, SD_F32, "gradient ref", what, reproduce, sizeof what);
    if (run_open(&r, "ref", op, number, SD_F32, SD_F32))
        snprintf(why, sizeof why, "%s", r.err.msg);
    bool wanted = !*why && r.y && r.y->needs_grad && is_small(&r);
    for (int i = 0; i < r.s.n_v && !*why && wanted; i++)
        if (r.grad[i])
            check_slopes(&r, i, why, sizeof why);
        else if (r.s.v[i].var.trainable)
            snprintf(why, sizeof why, "no gradient reaches %s", r.s.v[i].var.name);
    if (*why || wanted)
        report(what, why, reproduce);
    run_close(&r);
}

static double tolerance(enum sd_dtype dtype)
{
    return dtype == SD_F32 ? 1e-5 : dtype == SD_BF16 ? 2e-2 : 3e-3;
}

/* NaN in the first element of the first variable must show in the result wherever it does in the reference's:
 * training notices a broken step by it. */
static void check_nan(struct run *want, struct run *got, char *why, size_t size)
{
    const struct variable *first = &got->s.v[0];
    if (!first->value)
        return; /* integers have no NaN */
    if (got->backend->device && !first->var.state && first->tensor->node->op == SD_OP_var)
        return; /* frozen: the device has its own copy */
    char name[64];
    int64_t n, lost = 0;
    enum sd_dtype dw = SD_F32, dg = SD_F32;
    want->s.v[0].value[0] = got->s.v[0].value[0] = NAN;
    run_go(want);
    run_go(got);
    const void *w = result(want, 0, &n, &dw, name, sizeof name),
               *g = result(got, 0, &n, &dg, name, sizeof name);
    if (!w || !g)
        return;
    float *a = as_floats(w, dw, n), *b = as_floats(g, dg, n);
    for (int64_t i = 0; i < n; i++)
        lost += isnan(a[i]) && !isnan(b[i]);
    if (lost)
        snprintf(why, size, "NaN in %s is lost in %lld elements of the result", want->s.v[0].var.name,
                 (long long)lost);
    free(a);
    free(b);
}

static void check_backend(const struct options *o, enum sd_op op, int number, enum sd_dtype dtype)
{
    char what[256], why[600] = "", reproduce[256], check[64];
    struct run want, got;
    snprintf(check, sizeof check, "%s against ref", o->backend);
    describe(o, op, number, dtype, check, what, reproduce, sizeof what);
    if (run_open(&want, "ref", op, number, SD_F32, dtype)) {
        snprintf(why, sizeof why, "ref: %s", want.err.msg);
        report(what, why, reproduce);
        run_close(&want);
        return;
    }
    if (run_open(&got, o->backend, op, number, dtype, dtype)) {
        snprintf(why, sizeof why, "%s", got.err.msg);
    } else {
        for (int i = 0; i < got.s.g->n_nodes; i++)
            reached[got.s.g->nodes[i]->op] = true;
        run_go(&want);
        run_go(&got);
        largest[op][dtype] =
            fmax(largest[op][dtype], compare(&want, &got, tolerance(dtype), why, sizeof why));
        if (!*why && want.s.n_v)
            check_nan(&want, &got, why, sizeof why);
    }
    report(what, why, reproduce);
    run_close(&want);
    run_close(&got);
}

static void check_threads(const struct options *o, enum sd_op op, int number, enum sd_dtype dtype)
{
    char what[256], why[600] = "", reproduce[256];
    struct run run[3];
    int most = omp_get_max_threads(), opened = 0;
    describe(o, op, number, dtype, "1, 2 and 3 threads alike", what, reproduce, sizeof what);
    for (; opened < 3 && !*why; opened++) {
        omp_set_num_threads(opened + 1);
        if (run_open(&run[opened], "cpu", op, number, dtype, dtype))
            snprintf(why, sizeof why, "%s", run[opened].err.msg);
        else
            run_go(&run[opened]);
        if (opened && !*why)
            compare_bytes(&run[0], &run[opened], why, sizeof why);
    }
    omp_set_num_threads(most);
    report(what, why, reproduce);
    while (opened--)
        run_close(&run[opened]);
}

static void check_op(const struct options *o, enum sd_op op)
{
    static const enum sd_dtype dtypes[] = {SD_F32, SD_BF16};
    for (int i = 0; i < cases[op].n; i++) {
        if (o->number >= 0 && i != o->number)
            continue;
        if (o->dtype < 0 || o->dtype == SD_F32)
            check_gradient(o, op, i);
        for (int k = 0; k < 2; k++) {
            if (o->dtype >= 0 && o->dtype != (int)dtypes[k])
                continue;
            check_backend(o, op, i, dtypes[k]);
            if (!strcmp(o->backend, "cpu"))
                check_threads(o, op, i, dtypes[k]);
        }
        if (o->dtype == SD_F16)
            check_backend(o, op, i, SD_F16);
    }
}

/* --- main --- */

#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void)
{
    return "malloc_fill_byte=255:max_malloc_fill_size=1000000000";
}
#endif

static int find(const char *name, int n, const char *(*name_of)(int))
{
    for (int i = 0; i < n; i++)
        if (!strcmp(name, name_of(i)))
            return i;
    fprintf(stderr, "ops: there is no %s\n", name);
    exit(2);
}

static const char *op_name(int op)
{
    return sd_op_name((enum sd_op)op);
}

static const char *dtype_name(int dtype)
{
    return sd_dtype_name((enum sd_dtype)dtype);
}

static struct options parse(int argc, char **argv)
{
    struct options o = {test_backend(), argv[0], -1, -1, -1};
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--backend"))
            o.backend = value;
        else if (!strcmp(argv[i], "--op"))
            o.op = find(value, SD_OP_COUNT, op_name);
        else if (!strcmp(argv[i], "--case"))
            o.number = atoi(value);
        else if (!strcmp(argv[i], "--dtype"))
            o.dtype = find(value, SD_DTYPE_COUNT, dtype_name);
        else {
            fprintf(stderr, "usage: ops [--backend cpu] [--op NAME] [--case N] [--dtype f32|bf16|f16]\n");
            exit(2);
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    mallopt(M_PERTURB, 0x100); /* every fresh byte is 0xff: NaN in each float type */
    for (int op = 0; op < SD_OP_COUNT; op++)
        if (o.op < 0 || op == o.op)
            check_op(&o, (enum sd_op)op);
    for (int op = 0; op < SD_OP_COUNT; op++)
        if (cases[op].n && (o.op < 0 || op == o.op))
            printf("# %s: largest difference from ref %.1e in f32, %.1e in bf16, %.1e in f16\n", op_name(op),
                   largest[op][SD_F32], largest[op][SD_BF16], largest[op][SD_F16]);
    for (int op = 0; op < SD_OP_COUNT && o.op < 0 && o.number < 0; op++) {
        char what[64];
        snprintf(what, sizeof what, "%s is reached by a case", op_name(op));
        report(what, reached[op] ? "" : "no graph here has this op: add a line to ops_cases.def", o.program);
    }
    return tap_end();
}
