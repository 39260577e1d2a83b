/* Speed of the cpu backend's elementwise, norm and effect kernels at the sizes of SD 1.5, one JSON line each:
 * {"name","value","unit","gbps","copy_gbps","runs"}. gbps counts each tensor once as read or written;
 * copy_gbps is what memcpy on all cores reaches in the same run, read plus written.
 *
 *     ops [NAME...]      only the benchmarks whose name starts with one of these */
#include "tensor/pass.h"
#include "tensor/plan.h"
#include "tensor/rule.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sd_tensor *builder(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim);

/* One benchmark: an op on x of dim; with backward, its gradient op too, timed apart. */
struct bench {
    const char *name;
    builder *build;
    enum sd_op op;
    int64_t dim[4];
    double traffic; /* bytes moved over bytes of the op's first input: what a perfect kernel would move */
};

static struct sd_tensor *input(struct sd_graph *g, const char *name, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_input(g, name, dtype, 4, dim);
}

static struct sd_tensor *channels(struct sd_graph *g, const char *name, int64_t n)
{
    return sd_graph_input(g, name, SD_F32, 1, &n);
}

static struct sd_tensor *build_add(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_add(g, input(g, "a", dtype, dim), input(g, "b", dtype, dim), 0.5f);
}

static struct sd_tensor *build_bias(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_add(g, input(g, "a", dtype, dim), input(g, "b", dtype, (int64_t[]){dim[0], 1, 1, dim[3]}),
                        1);
}

static struct sd_tensor *build_scale(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_scale(g, input(g, "x", dtype, dim), 0.5f);
}

static struct sd_tensor *build_cast(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_cast(g, input(g, "x", dtype, dim), dtype == SD_F32 ? SD_BF16 : SD_F32);
}

static struct sd_tensor *build_silu(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_act(g, input(g, "x", dtype, dim), SD_ACT_SILU);
}

static struct sd_tensor *build_geglu(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_geglu(g, input(g, "x", dtype, dim));
}

static struct sd_tensor *build_reduce_to(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_reduce_to(g, input(g, "x", dtype, dim), channels(g, "like", dim[3]));
}

static struct sd_tensor *build_concat(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_concat(g, input(g, "a", dtype, dim), input(g, "b", dtype, dim));
}

static struct sd_tensor *build_upsample(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_upsample(g, input(g, "x", dtype, dim), 2 * dim[1], 2 * dim[2]);
}

static struct sd_tensor *build_group_norm(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_group_norm(g, input(g, "x", dtype, dim), channels(g, "w", dim[3]),
                               channels(g, "b", dim[3]), 32, 1e-5f, SD_ACT_SILU);
}

static struct sd_tensor *build_layer_norm(struct sd_graph *g, enum sd_dtype dtype, const int64_t *dim)
{
    return sd_graph_layer_norm(g, input(g, "x", dtype, dim), channels(g, "w", dim[3]),
                               channels(g, "b", dim[3]), 1e-5f);
}

static const struct bench benches[] = {
    {"add", build_add, SD_OP_add, {1, 64, 64, 320}, 3},
    {"add", build_add, SD_OP_add, {1, 512, 512, 128}, 3},
    {"add_bias", build_bias, SD_OP_add, {1, 64, 64, 320}, 2},
    {"scale", build_scale, SD_OP_scale, {1, 512, 512, 128}, 2},
    {"cast",
     build_cast,
     SD_OP_cast,
     {1, 512, 512, 128},
     3}, /* bf16 to f32: 2 in, 4 out; f32 to bf16 see main */
    {"silu", build_silu, SD_OP_act, {1, 512, 512, 128}, 2},
    {"silu_bwd", build_silu, SD_OP_act_bwd, {1, 64, 64, 320}, 3},
    {"geglu", build_geglu, SD_OP_geglu, {1, 1, 4096, 2560}, 1.5},
    {"geglu", build_geglu, SD_OP_geglu, {1, 1, 1024, 5120}, 1.5},
    {"geglu_bwd", build_geglu, SD_OP_geglu_bwd, {1, 1, 4096, 2560}, 5},
    {"reduce_to", build_reduce_to, SD_OP_reduce_to, {1, 1, 4096, 320}, 1},
    {"reduce_to", build_reduce_to, SD_OP_reduce_to, {1, 1, 4096, 2560}, 1},
    {"concat", build_concat, SD_OP_concat, {1, 64, 64, 320}, 4},
    {"upsample", build_upsample, SD_OP_upsample, {1, 32, 32, 640}, 5},
    {"upsample_bwd", build_upsample, SD_OP_upsample_bwd, {1, 32, 32, 640}, 1.25},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 64, 64, 320}, 3},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 64, 64, 960}, 3},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 32, 32, 640}, 3},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 32, 32, 1920}, 3},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 16, 16, 2560}, 3},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 512, 512, 128}, 3},
    {"group_norm", build_group_norm, SD_OP_group_norm, {1, 256, 256, 256}, 3},
    {"group_norm_bwd", build_group_norm, SD_OP_group_norm_bwd, {1, 64, 64, 320}, 5},
    {"group_norm_bwd", build_group_norm, SD_OP_group_norm_bwd, {1, 32, 32, 1920}, 5},
    {"layer_norm", build_layer_norm, SD_OP_layer_norm, {1, 1, 4096, 320}, 2},
    {"layer_norm", build_layer_norm, SD_OP_layer_norm, {1, 1, 1024, 640}, 2},
    {"layer_norm", build_layer_norm, SD_OP_layer_norm, {1, 1, 256, 1280}, 2},
    {"layer_norm_bwd", build_layer_norm, SD_OP_layer_norm_bwd, {1, 1, 4096, 320}, 3},
};

/* memcpy on all cores, bytes read plus written, the best of ten. */
static double copy_gbps(void)
{
    size_t n = (size_t)256 << 20;
    char *a = malloc(n), *b = malloc(n);
    double best = 0;
    for (int run = 0; run < 10 && a && b; run++) {
        if (!run)
            memset(a, 1, n);
        double start = omp_get_wtime();
#pragma omp parallel for schedule(static)
        for (int i = 0; i < 64; i++)
            memcpy(b + (size_t)i * (n / 64), a + (size_t)i * (n / 64), n / 64);
        double speed = 2e-9 * (double)n / (omp_get_wtime() - start);
        best = run && speed > best ? speed : best;
    }
    free(a);
    free(b);
    return best;
}

/* Adds the gradient of y with respect to every float input, as nodes of the graph. */
static int add_backward(struct sd_graph *g, struct sd_tensor *y)
{
    for (int i = 0; i < g->n_tensors; i++)
        g->tensors[i]->needs_grad |= g->tensors[i] == y || g->tensors[i]->id == 0;
    struct sd_tensor **grads, *seed = sd_graph_input(g, "dy", y->dtype, y->ndim, y->dim);
    if (sd_graph_grad(g, y, seed, &grads) || !grads[0])
        return -1;
    sd_graph_output(g, grads[0]);
    return 0;
}

/* The best time of the op in a number of runs, in seconds; negative with err set. */
static double time_op(const struct bench *b, enum sd_dtype dtype, int runs, struct sd_err *err)
{
    struct sd_graph *g = sd_graph_new();
    struct sd_backend *cpu = sd_backend_new("cpu", err);
    struct sd_plan *p = NULL;
    struct sd_tensor *y = b->build(g, dtype, b->dim);
    double best = -1;
    if (y)
        sd_graph_output(g, y);
    if (cpu)
        cpu->share_small = true;
    if (!y || (y->node->op != b->op && add_backward(g, y)) || sd_graph_error(g, err) || !cpu ||
        !(p = sd_plan_new(g, cpu, err)))
        goto out;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == SD_OP_input)
            memset(sd_plan_data(p, g->nodes[i]->out[0]), 0x3c, sd_tensor_bytes(g->nodes[i]->out[0]));
    if (sd_plan_run(p, err))
        goto out;
    sd_plan_profile(p, true);
    for (int i = 0; i < runs; i++) {
        double before = sd_plan_seconds(p, b->op);
        sd_plan_run(p, err);
        double t = sd_plan_seconds(p, b->op) - before;
        best = best < 0 || t < best ? t : best;
    }
out:
    sd_plan_free(p);
    sd_backend_free(cpu);
    sd_graph_free(g);
    return best;
}

/* AdamW over n parameters: six streams of four bytes in, four out. */
static double time_adamw(int64_t n, int runs, struct sd_err *err)
{
    static const char *const name[4] = {"param", "grad", "m", "v"};
    struct sd_graph *g = sd_graph_new();
    struct sd_backend *cpu = sd_backend_new("cpu", err);
    struct sd_plan *p = NULL;
    struct sd_var var[4];
    struct sd_tensor *t[4];
    double best = -1;
    if (cpu)
        cpu->share_small = true;
    for (int i = 0; i < 4; i++) {
        var[i] =
            (struct sd_var){name[i], .dtype = SD_F32, .ndim = 1, .dim = {n}, .state = calloc((size_t)n, 4)};
        var[i].data = var[i].state;
        t[i] = sd_graph_var(g, &var[i], SD_F32);
    }
    sd_graph_step(g, SD_RULE_adam, 1, t, sd_graph_fill(g, SD_F32, 1, (int64_t[]){SD_CLIP_RESULTS}, 0),
                  channels(g, "hyper", SD_STEP_HYPER), NULL);
    if (sd_graph_error(g, err) || !cpu || !(p = sd_plan_new(g, cpu, err)))
        goto out;
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == SD_OP_input)
            memset(sd_plan_data(p, g->nodes[i]->out[0]), 0x3c, sd_tensor_bytes(g->nodes[i]->out[0]));
    for (int i = 0; i <= runs; i++) {
        double start = omp_get_wtime();
        sd_plan_run(p, err);
        double s = omp_get_wtime() - start;
        best = i && (best < 0 || s < best) ? s : best;
    }
out:
    sd_plan_free(p);
    sd_backend_free(cpu);
    sd_graph_free(g);
    for (int i = 0; i < 4; i++)
        free(var[i].state);
    return best;
}

static void line(const char *name, double seconds, double bytes, double copy, int runs)
{
    printf(
        "{\"name\":\"ops/%s\",\"value\":%.4g,\"unit\":\"ms\",\"gbps\":%.3g,\"copy_gbps\":%.3g,\"runs\":%d}\n",
        name, seconds * 1e3, bytes / seconds * 1e-9, copy, runs);
    fflush(stdout);
}

static int wanted(const char *name, int argc, char **argv)
{
    int yes = argc < 2;
    for (int i = 1; i < argc; i++)
        yes |= !strncmp(name, argv[i], strlen(argv[i]));
    return yes;
}

static int bench_one(const struct bench *b, enum sd_dtype dtype, double copy, int argc, char **argv)
{
    char name[128];
    struct sd_err err = {0};
    const int64_t *d = b->dim;
    snprintf(name, sizeof name, "%s/%lldx%lldx%lldx%lld/%s", b->name, (long long)d[0], (long long)d[1],
             (long long)d[2], (long long)d[3], sd_dtype_name(dtype));
    if (!wanted(name, argc, argv))
        return 0;
    double first = (double)(d[0] * d[1] * d[2] * d[3]) * (double)sd_dtype_size(dtype), traffic = b->traffic;
    if (b->op == SD_OP_cast && dtype == SD_F32)
        traffic = 1.5;
    if (b->op == SD_OP_geglu_bwd)
        traffic /= 2; /* of x; counted over dy, which is half as wide */
    if (b->op == SD_OP_upsample_bwd)
        traffic *= 4; /* dy is four times dx */
    double t = time_op(b, dtype, 20, &err);
    if (t < 0) {
        fprintf(stderr, "ops: %s: %s\n", name, err.msg);
        return 1;
    }
    line(name, t, first * traffic, copy, 20);
    return 0;
}

int main(int argc, char **argv)
{
    static const enum sd_dtype dtypes[] = {SD_BF16, SD_F32};
    struct sd_err err = {0};
    double copy = copy_gbps();
    int bad = 0;
    for (size_t i = 0; i < sizeof benches / sizeof *benches; i++)
        for (int k = 0; k < 2; k++)
            bad |= bench_one(&benches[i], dtypes[k], copy, argc, argv);
    if (wanted("adamw/7000000/f32", argc, argv)) {
        double t = time_adamw(7000000, 20, &err);
        if (t > 0)
            line("adamw/7000000/f32", t, 7e6 * 4 * 8, copy, 20);
        bad |= t < 0;
    }
    return bad;
}
