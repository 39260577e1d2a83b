/* What plans and passes promise, on a chain of residual blocks with every kind of op, on each backend:
 *   - sharing memory changes nothing: the same bytes as when every tensor keeps its own place, from poisoned
 * memory;
 *   - a second run gives the same bytes as the first;
 *   - checkpointing gives the same bytes in a smaller arena;
 *   - fusion gives the same numbers but for rounding;
 *   - the number of threads does not matter;
 *   - the arena is close to the lower bound, and predicted without a backend. */
#include "base/rng.h"
#include "backend.h"
#include "tap.h"
#include "tensor/pass.h"
#include "tensor/plan.h"
#include "tensor/rule.h"

#include <malloc.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define C 32
#define SIDE 8
#define DEPTH 6
#define WEIGHTS 8 /* a block */

enum { SHARED = 0, APART = 1, CHECKPOINT = 2, FUSE = 4 };

/* A trained chain: x [1,SIDE,SIDE,C] through DEPTH blocks to an mse; gradients are summed into variables. */
struct net {
    struct sd_graph *g;
    struct sd_backend *backend;
    struct sd_plan *plan;
    struct sd_var weight[DEPTH * WEIGHTS], grad[DEPTH * WEIGHTS];
    int n_weights;
    struct sd_rng rng;
    struct sd_tensor *x, *target, *t, *loss;
    enum sd_dtype dtype;
    struct sd_err err;
};

static float *randoms(struct sd_rng *rng, int64_t n, float scale)
{
    float *v = malloc((size_t)n * sizeof *v);
    sd_rng_randn(rng, v, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        v[i] *= scale;
    return v;
}

static struct sd_tensor *weight(struct net *n, int ndim, const int64_t *dim, float scale)
{
    struct sd_var *v = &n->weight[n->n_weights], *d = &n->grad[n->n_weights++];
    int64_t count = 1;
    *v = (struct sd_var){.name = "weight", .dtype = SD_F32, .ndim = ndim, .trainable = true};
    for (int i = 0; i < ndim; i++)
        count *= v->dim[i] = dim[i];
    v->state = randoms(&n->rng, count, scale);
    v->data = v->state;
    *d = *v;
    d->name = "gradient";
    d->trainable = false;
    d->state = calloc((size_t)count, sizeof(float));
    d->data = d->state;
    return sd_graph_var(n->g, v, SD_F32);
}

#define DIMS(...)                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) \
    {                                                                      \
        __VA_ARGS__                                                        \
    }

/* x + conv(silu(group_norm(x))) + attention(layer_norm(x)) + geglu feed-forward, halved to stay in range. */
static struct sd_tensor *block(struct net *n, struct sd_tensor *x)
{
    struct sd_graph *g = n->g;
    enum sd_dtype t = n->dtype;
    struct sd_tensor *h =
        sd_graph_group_norm(g, x, weight(n, DIMS(C), 1), weight(n, DIMS(C), 1), 8, 1e-5f, SD_ACT_SILU);
    struct sd_tensor *w = sd_graph_cast(g, weight(n, DIMS(C, C, 3, 3), 0.05f), t);
    h = sd_graph_conv2d(g, h, w, weight(n, DIMS(C), 1), &(struct sd_conv){1, 1, 1, 1, 1});
    x = sd_graph_keep(sd_graph_add(g, x, h, 1));
    struct sd_tensor *rows = sd_graph_reshape(g, x, DIMS(1, SIDE * SIDE, C));
    h = sd_graph_layer_norm(g, rows, weight(n, DIMS(C), 1), weight(n, DIMS(C), 1), 1e-5f);
    h = sd_graph_attention(g, h, h, h, 4, 0.3f, false);
    h = sd_graph_matmul(g, h, sd_graph_cast(g, weight(n, DIMS(2 * C, C), 0.2f), t), NULL, false, true);
    h = sd_graph_add(g, rows, sd_graph_geglu(g, h), 1);
    return sd_graph_keep(sd_graph_reshape(g, sd_graph_scale(g, h, 0.5f), DIMS(1, SIDE, SIDE, C)));
}

static void build(struct net *n, int flags)
{
    struct sd_graph *g = n->g;
    n->x = sd_graph_input(g, "x", n->dtype, DIMS(1, SIDE, SIDE, C));
    n->target = sd_graph_input(g, "target", SD_F32, DIMS(1, 2 * SIDE, 2 * SIDE, C));
    n->t = sd_graph_input(g, "weight", SD_F32, DIMS(1));
    struct sd_tensor *h = n->x, **grads;
    for (int i = 0; i < DEPTH; i++)
        h = block(n, h);
    n->loss =
        sd_graph_loss(g, SD_LOSS_L2, sd_graph_upsample(g, h, 2 * SIDE, 2 * SIDE), n->target, n->t, NULL);
    sd_graph_output(g, n->loss);
    if (sd_graph_grad(g, n->loss, sd_graph_fill(g, SD_F32, DIMS(1), 1), &grads))
        return;
    struct sd_tensor **sum = sd_graph_alloc(g, (size_t)n->n_weights, sizeof *sum);
    struct sd_tensor **grad = sd_graph_alloc(g, (size_t)n->n_weights, sizeof *grad);
    for (int i = 0; i < n->n_weights; i++) {
        sum[i] = sd_graph_var(g, &n->grad[i], SD_F32);
        grad[i] = grads[sd_graph_var(g, &n->weight[i], SD_F32)->id];
    }
    sd_graph_accumulate(g, n->n_weights, sum, grad);
    if (flags & FUSE)
        sd_graph_fuse(g);
    if (flags & CHECKPOINT)
        sd_graph_checkpoint(g);
    for (int i = 0; i < g->n_tensors && flags & APART; i++)
        if (g->tensors[i]->node->op != SD_OP_var)
            sd_graph_output(g, g->tensors[i]);
}

static void fill(struct net *n, struct sd_tensor *t)
{
    int64_t count = sd_tensor_count(t);
    float *v = randoms(&n->rng, count, 1);
    sd_dtype_convert(sd_plan_data(n->plan, t), t->dtype, v, SD_F32, (size_t)count);
    free(v);
}

static int net_open(struct net *n, const char *backend, enum sd_dtype dtype, int flags)
{
    *n = (struct net){.g = sd_graph_new(), .dtype = dtype};
    sd_rng_seed(&n->rng, 1);
    build(n, flags);
    if (sd_graph_error(n->g, &n->err) || !(n->backend = sd_backend_new(backend, &n->err)))
        return -1;
    n->backend->share_small = true;
    if (!(n->plan = sd_plan_new(n->g, n->backend, &n->err)))
        return -1;
    fill(n, n->x);
    fill(n, n->target);
    *(float *)sd_plan_data(n->plan, n->t) = 1;
    return 0;
}

static void net_close(struct net *n)
{
    sd_plan_free(n->plan);
    sd_backend_free(n->backend);
    for (int i = 0; i < n->n_weights; i++) {
        free(n->weight[i].state);
        free(n->grad[i].state);
    }
    sd_graph_free(n->g);
}

static int64_t count_of(const struct sd_var *v)
{
    int64_t n = 1;
    for (int i = 0; i < v->ndim; i++)
        n *= v->dim[i];
    return n;
}

static void run(struct net *n)
{
    for (int i = 0; i < n->n_weights; i++) {
        memset(n->grad[i].state, 0, (size_t)count_of(&n->grad[i]) * sizeof(float));
        var_push(n->backend, &n->grad[i]);
    }
    plan_run(n->plan);
}

/* The loss, then all gradients, end to end. */
static float *results(struct net *n, int64_t *count)
{
    *count = 1;
    for (int i = 0; i < n->n_weights; i++)
        *count += count_of(&n->grad[i]);
    float *v = malloc((size_t)*count * sizeof *v), *to = v + 1;
    memcpy(v, sd_plan_data(n->plan, n->loss), sizeof *v);
    for (int i = 0; i < n->n_weights; i++) {
        var_pull(n->backend, &n->grad[i]);
        memcpy(to, n->grad[i].state, (size_t)count_of(&n->grad[i]) * sizeof *to);
        to += count_of(&n->grad[i]);
    }
    return v;
}

/* Largest difference over the largest value; 0 when the bytes are the same, infinity for NaN. */
static double distance(const float *a, const float *b, int64_t n)
{
    double scale = 0, worst = 0;
    if (!memcmp(a, b, (size_t)n * sizeof *a))
        return isfinite(a[0]) ? 0 : INFINITY;
    for (int64_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs((double)a[i]));
        double d = fabs((double)a[i] - (double)b[i]);
        worst = d <= worst ? worst : isnan(d) ? INFINITY : d;
    }
    return worst / scale;
}

static void report(int good, const char *backend, enum sd_dtype dtype, const char *what, const char *detail)
{
    if (!ok(good, "%s %s: %s", backend, sd_dtype_name(dtype), what))
        printf("#   %s\n", detail);
}

/* Builds with flags, runs, and compares with want. Returns the arena's bytes. */
static size_t check(const char *backend, enum sd_dtype dtype, int flags, const float *want, double tolerance,
                    const char *what)
{
    struct net n;
    char detail[600] = "";
    size_t arena = 0;
    double d = INFINITY;
    if (net_open(&n, backend, dtype, flags)) {
        snprintf(detail, sizeof detail, "%s", n.err.msg);
    } else {
        int64_t count;
        run(&n);
        float *got = results(&n, &count);
        d = distance(want, got, count);
        snprintf(detail, sizeof detail, "differs by %.3g of the largest value, %.3g allowed", d, tolerance);
        arena = sd_plan_memory(n.plan).arena;
        free(got);
    }
    report(d <= tolerance, backend, dtype, what, detail);
    net_close(&n);
    return arena;
}

static void check_memory(struct net *n, const char *backend, size_t apart)
{
    char detail[200];
    size_t predicted = 0;
    struct sd_plan_memory m = sd_plan_memory(n->plan);
    int bad = sd_plan_arena_bytes(n->g, &predicted, NULL);
    snprintf(detail, sizeof detail, "%zu predicted, %zu taken", predicted, m.arena);
    report(!bad && predicted == m.arena, backend, n->dtype, "the arena is predicted", detail);
    snprintf(detail, sizeof detail, "arena %zu, live %zu, without sharing %zu", m.arena, m.live, apart);
    report(m.arena >= m.live && m.arena <= m.live + m.live / 4 && m.arena < apart, backend, n->dtype,
           "the arena is within a quarter of what is live at once", detail);
}

static void check_threads(const char *backend, enum sd_dtype dtype, const float *want)
{
    int most = omp_get_max_threads();
    for (int i = 1; i <= 3; i++) {
        char what[64];
        omp_set_num_threads(i);
        snprintf(what, sizeof what, "%d threads give the same bytes", i);
        check(backend, dtype, SHARED, want, 0, what);
    }
    omp_set_num_threads(most);
}

static void check_all(const char *backend, enum sd_dtype dtype)
{
    struct net n;
    int64_t count;
    double rounding = dtype == SD_F32 ? 1e-5 : 2e-2;
    if (net_open(&n, backend, dtype, SHARED)) {
        report(0, backend, dtype, "builds", n.err.msg);
        net_close(&n);
        return;
    }
    run(&n);
    float *want = results(&n, &count);
    report(isfinite(want[0]) && want[0] > 0, backend, dtype, "runs", "the loss is not a positive number");
    run(&n);
    float *again = results(&n, &count);
    report(distance(want, again, count) == 0, backend, dtype, "a second run gives the same bytes",
           "they differ");
    size_t apart = check(backend, dtype, APART, want, 0, "tensors that share memory give the same bytes");
    check_memory(&n, backend, apart);
    size_t less = check(backend, dtype, CHECKPOINT, want, 0, "checkpointing gives the same bytes");
    report(less < sd_plan_memory(n.plan).arena, backend, dtype, "checkpointing takes less memory",
           "it does not");
    check(backend, dtype, FUSE, want, rounding, "fusion gives the same numbers");
    check(backend, dtype, FUSE | CHECKPOINT, want, rounding, "fusion and checkpointing go together");
    if (!strcmp(backend, "cpu"))
        check_threads(backend, dtype, want);
    free(want);
    free(again);
    net_close(&n);
}

#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void)
{
    return "malloc_fill_byte=255:max_malloc_fill_size=1000000000";
}
#endif

/* A device writes the variables of a node in any order, so none may be there twice. */
static void test_twice(void)
{
    float memory[3] = {0};
    struct sd_var var = {
        .name = "sum", .dtype = SD_F32, .ndim = 1, .dim = {3}, .data = memory, .state = memory};
    for (int step = 0; step < 2; step++) {
        struct sd_graph *g = sd_graph_new();
        struct sd_tensor *v = sd_graph_var(g, &var, SD_F32), *x = sd_graph_fill(g, SD_F32, DIMS(3), 1);
        struct sd_err err = {0};
        if (step)
            sd_graph_step(g, SD_RULE_adam, 1, (struct sd_tensor *[]){v, v, v, v},
                          sd_graph_fill(g, SD_F32, DIMS(SD_CLIP_RESULTS), 1),
                          sd_graph_fill(g, SD_F32, DIMS(SD_STEP_HYPER), 1), NULL);
        else
            sd_graph_accumulate(g, 2, (struct sd_tensor *[]){v, v}, (struct sd_tensor *[]){x, x});
        ok(sd_graph_error(g, &err) && strstr(err.msg, "twice"), "a variable is refused: %s", err.msg);
        sd_graph_free(g);
    }
}

/* What a sampler's step is made of refuses what does not fit, before anything runs. */
static void test_misfits(void)
{
    static const struct {
        int terms, width, offset;
        bool limited, fits;
    } combine[] = {{2, 3, 1, false, true},
                   {2, 3, 0, true, true},
                   {2, 3, 1, true, false},
                   {2, 3, 2, false, false},
                   {2, 3, -1, false, false},
                   {0, 3, 0, false, false},
                   {SD_COMBINE_TERMS + 1, 20, 0, false, false}};
    for (size_t i = 0; i < sizeof combine / sizeof *combine; i++) {
        struct sd_graph *g = sd_graph_new();
        struct sd_tensor *t[SD_COMBINE_TERMS + 1],
            *coef = sd_graph_fill(g, SD_F32, DIMS(4, combine[i].width), 1);
        for (int k = 0; k <= SD_COMBINE_TERMS; k++)
            t[k] = sd_graph_fill(g, SD_F32, DIMS(4, 5), 1);
        bool made = sd_graph_combine(g, combine[i].terms, t, coef, combine[i].offset, combine[i].limited);
        ok(made == combine[i].fits, "combine: %d terms, coefficients from %d of %d%s", combine[i].terms,
           combine[i].offset, combine[i].width, combine[i].limited ? " with a limit" : "");
        sd_graph_free(g);
    }
    float memory[3] = {0};
    struct sd_var var = {.name = "x", .dtype = SD_F32, .ndim = 1, .dim = {3}, .data = memory};
    for (int frozen = 0; frozen < 2; frozen++) {
        struct sd_graph *g = sd_graph_new();
        struct sd_err err = {0};
        var.state = frozen ? NULL : memory;
        sd_graph_assign(g, sd_graph_var(g, &var, SD_F32), sd_graph_fill(g, SD_F32, DIMS(frozen ? 3 : 4), 1));
        ok(sd_graph_error(g, &err) && strstr(err.msg, "assign"), "%s: %s",
           frozen ? "a frozen variable" : "another size", err.msg);
        sd_graph_free(g);
    }
}

/* A variable of n ones that a run doubles. */
static bool doubles(struct sd_backend *b, struct sd_var *var, int64_t n)
{
    struct sd_err err = {0};
    struct sd_graph *g = sd_graph_new();
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = 1;
    *var = (struct sd_var){.name = "x", .dtype = SD_F32, .ndim = 1, .dim = {n}, .data = x, .state = x};
    struct sd_tensor *v = sd_graph_var(g, var, SD_F32);
    sd_graph_assign(g, v, sd_graph_scale(g, v, 2));
    struct sd_plan *p = sd_plan_new(g, b, &err);
    must(!p, &err);
    for (int i = 0; i < 3; i++) /* plainly, recorded, replayed */
        plan_run(p);
    var_pull(b, var);
    bool good = true;
    for (int64_t i = 0; i < n; i++)
        good &= x[i] == 8;
    sd_plan_free(p);
    sd_graph_free(g);
    sd_var_drop(b, var);
    free(x);
    return good;
}

/* A variable's memory on a device ends with it: another in its place has its own. */
static void test_drop(const char *backend)
{
    struct sd_err err = {0};
    struct sd_var var;
    struct sd_backend *b = sd_backend_new(backend, &err);
    must(!b, &err);
    ok(doubles(b, &var, 3), "%s: what a run assigns is there for the next", backend);
    ok(doubles(b, &var, 5000), "%s: a variable in the place of one that was dropped", backend);
    sd_backend_free(b);
}

int main(void)
{
    mallopt(M_PERTURB, 0x100); /* every fresh byte is 0xff: NaN in each float type */
    check_all("ref", SD_F32);
    check_all(test_backend(), SD_F32);
    check_all(test_backend(), SD_BF16);
    test_twice();
    test_misfits();
    test_drop("ref");
    test_drop(test_backend());
    return tap_end();
}
