/* Seconds of the model's parts at full size, one process a measurement so that its peak memory is its own.
 *
 *     build/release/bench/model MODEL NAME [RUNS]      one JSON line (bench/run calls it)
 *     build/release/bench/model --list
 *
 * MODEL is any Stable Diffusion file, as sd-init makes them; 512x512 pixels, or BENCH_SIDE. BENCH_DEVICE is
 * where (cpu). The tagger is a ViT-B of 448 pixels, 7/8 of those, with random weights of its own;
 * SD_BENCH_TINY makes it an eighth as wide and 2 layers deep. BENCH_OPS=1 tells the seconds by op on standard
 * error. */
#include "adapter/lora.h"
#include "base/progress.h"
#include "model/declare.h"
#include "model/model_file.h"
#include "model/text_context.h"
#include "model/unet.h"
#include "model/vae.h"
#include "model/vit.h"
#include "tensor/frozen.h"
#include "tensor/pass.h"
#include "tensor/plugin.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum part { TEXT, UNET, ENCODE, DECODE, LORA, TUNE, MATMUL, TAGGER };

static const struct measure {
    const char *name;
    enum part part;
    enum sd_dtype dtype;
    int64_t batch;
    bool checkpointing;
} measures[] = {
    {"unet-forward-512-b1-bf16", UNET, SD_BF16, 1, false},
    {"unet-forward-512-b2-bf16", UNET, SD_BF16, 2, false},
    {"unet-forward-512-b1-f32", UNET, SD_F32, 1, false},
    {"lora-step-512-r16-bf16", LORA, SD_BF16, 1, false},
    {"lora-step-512-r16-bf16-ckpt", LORA, SD_BF16, 1, true},
    {"lora-step-512-r16-f32", LORA, SD_F32, 1, false},
    {"vae-encode-512-bf16", ENCODE, SD_BF16, 1, false},
    {"vae-decode-512-bf16", DECODE, SD_BF16, 1, false},
    {"text-encode-bf16", TEXT, SD_BF16, 1, false},
    {"unet-forward-512-b8-bf16", UNET, SD_BF16, 8, false},
    {"unet-forward-512-b1-f16", UNET, SD_F16, 1, false},
    {"unet-forward-512-b2-f16", UNET, SD_F16, 2, false},
    {"unet-forward-512-b8-f16", UNET, SD_F16, 8, false},
    {"lora-step-512-r16-b4-bf16", LORA, SD_BF16, 4, false},
    {"lora-step-512-r16-b8-bf16", LORA, SD_BF16, 8, false},
    {"lora-step-512-r16-b1-f16", LORA, SD_F16, 1, false},
    {"lora-step-512-r16-b4-f16", LORA, SD_F16, 4, false},
    {"lora-step-512-r16-b8-f16", LORA, SD_F16, 8, false},
    {"tune-step-512-b4-bf16", TUNE, SD_BF16, 4, false},
    {"tune-step-512-b4-f16", TUNE, SD_F16, 4, false},
    {"vae-encode-512-b8-bf16", ENCODE, SD_BF16, 8, false},
    {"vae-encode-512-b8-f16", ENCODE, SD_F16, 8, false},
    {"vae-decode-512-f16", DECODE, SD_F16, 1, false},
    {"tagger-448-b1-bf16", TAGGER, SD_BF16, 1, false},
    {"tagger-448-b32-bf16", TAGGER, SD_BF16, 32, false},
    {"tagger-448-b32-f16", TAGGER, SD_F16, 32, false},
    {"matmul-8192-bf16", MATMUL, SD_BF16, 8192, false},
    {"matmul-8192-f16", MATMUL, SD_F16, 8192, false},
};
enum { MATMULS = 16, TAGGER_VARS = 256 };
#define MEASURES (sizeof measures / sizeof *measures)

struct bench {
    const struct measure *m;
    struct sd_model_file *file;
    const struct sd_model_config *config;
    struct sd_weights *weights;
    struct sd_backend *backend;
    struct sd_graph *graph; /* forward measurements */
    struct sd_plan *plan;
    struct sd_lora *lora; /* LORA */
    struct sd_optimizer optimizer;
    struct sd_trainer *trainer;
    struct sd_train_batch batch;
    int64_t side;                    /* of the latents */
    struct sd_var factor;            /* MATMUL */
    struct sd_var vars[TAGGER_VARS]; /* TAGGER: all of them in one stretch of noise */
    int n_vars;
    float *weight_noise;
};

static _Noreturn void die(const struct sd_err *err)
{
    fprintf(stderr, "bench/model: %s\n", err->msg);
    exit(err->code ? err->code : 1);
}

static void *noise(size_t n)
{
    float *v = malloc(n * sizeof *v);
    struct sd_rng rng;
    sd_rng_seed(&rng, 1);
    if (v)
        sd_rng_randn(&rng, v, n);
    return v;
}

/* --- forward
 * ------------------------------------------------------------------------------------------------------ */

/* The rate of the device's largest units: x [n,n] by a constant [n,n]. */
static struct sd_tensor *matmul(struct bench *b, int64_t n)
{
    struct sd_graph *g = b->graph;
    b->factor = (struct sd_var){.name = "factor", .dtype = SD_F32, .ndim = 2, .dim = {n, n}};
    b->factor.data = noise((size_t)(n * n));
    struct sd_tensor *x = sd_graph_cast(g, sd_graph_input(g, "x", SD_F32, 2, (int64_t[]){1, n}), b->m->dtype);
    struct sd_tensor *w = sd_graph_var(g, &b->factor, b->m->dtype),
                     *like = sd_graph_fill(g, b->m->dtype, 2, (int64_t[]){n, n}, 0);
    x = sd_graph_add(g, like, x, 1);
    for (int i = 0; i < MATMULS; i++)
        x = sd_graph_matmul_scaled(g, x, w, NULL, false, true, 1 / sqrtf((float)n), b->m->dtype);
    return sd_graph_slice(g, x, 0, 1);
}

static struct sd_var *random_param(void *ctx, const char *name, int ndim, const int64_t *dim,
                                   struct sd_err *err)
{
    struct bench *b = ctx;
    if (b->n_vars == TAGGER_VARS) {
        sd_err_set(err, SD_ERR_USAGE, "more than %d parameters: %s", TAGGER_VARS, name);
        return NULL;
    }
    struct sd_var *v = &b->vars[b->n_vars++];
    *v = (struct sd_var){.name = "weight", .dtype = SD_F32, .ndim = ndim, .data = b->weight_noise};
    memcpy(v->dim, dim, (size_t)ndim * sizeof *dim);
    return v;
}

/* Probabilities of n pictures. */
static struct sd_tensor *tagger(struct bench *b, int64_t n)
{
    struct sd_vit_config c = sd_vit_wd;
    struct sd_nn nn;
    c.image = 7 * b->side / c.patch * c.patch;
    c.image = c.image ? c.image : c.patch;
    if (getenv("SD_BENCH_TINY")) {
        c.width /= 8;
        c.mlp /= 8;
        c.layers = 2;
    }
    size_t largest = (size_t)(c.outputs * c.width);
    b->weight_noise = noise(largest);
    for (size_t i = 0; i < largest; i++)
        b->weight_noise[i] /= sqrtf((float)c.width);
    sd_nn_init(&nn, b->graph, b->m->dtype, random_param, b);
    struct sd_tensor *y =
        sd_vit(&nn, &c, sd_graph_input(b->graph, "x", SD_F32, 4, (int64_t[]){n, c.image, c.image, 3}));
    sd_nn_free(&nn);
    return sd_graph_act(b->graph, y, SD_ACT_SIGMOID);
}

static void build_forward(struct bench *b)
{
    struct sd_err err = {0};
    struct sd_nn nn;
    int64_t n = b->m->batch;
    struct sd_graph *g = b->graph = sd_graph_new();
    struct sd_tensor *y = NULL;
    sd_nn_init(&nn, g, b->m->dtype, sd_weights_param, b->weights);
    if (b->m->part == UNET)
        y = sd_unet(
            &nn, &b->config->unet, sd_graph_input(g, "x", SD_F32, 4, (int64_t[]){n, b->side, b->side, 4}),
            sd_graph_input(g, "t", SD_F32, 1, &n),
            sd_graph_input(g, "context", b->m->dtype, 3, (int64_t[]){n, 77, b->config->unet.context}));
    else if (b->m->part == ENCODE)
        y = sd_vae_encode(&nn, &b->config->vae,
                          sd_graph_input(g, "x", SD_F32, 4, (int64_t[]){n, 8 * b->side, 8 * b->side, 3}));
    else if (b->m->part == DECODE)
        y = sd_vae_decode(&nn, &b->config->vae,
                          sd_graph_input(g, "z", SD_F32, 4, (int64_t[]){n, b->side, b->side, 4}));
    else if (b->m->part == MATMUL)
        y = matmul(b, 8 * b->side * n / 512);
    else if (b->m->part == TAGGER)
        y = tagger(b, n);
    else
        y = sd_text_context(&nn, &b->config->text, sd_graph_input(g, "ids", SD_I32, 2, (int64_t[]){n, 77}), 1,
                            0);
    sd_nn_free(&nn);
    sd_graph_output(g, y);
    sd_graph_fuse(g);
    sd_graph_prune(g);
    if (sd_graph_error(g, &err) || !(b->plan = sd_plan_new(g, b->backend, &err)))
        die(&err);
    for (int i = 0; i < g->n_nodes; i++) {
        const struct sd_tensor *t = g->nodes[i]->out[0];
        if (g->nodes[i]->op == SD_OP_input && t->dtype == SD_F32) {
            float *v = noise((size_t)sd_tensor_count(t));
            memcpy(sd_plan_data(b->plan, t), v, sd_tensor_bytes(t));
            free(v);
        } else if (g->nodes[i]->op == SD_OP_input) {
            memset(sd_plan_data(b->plan, t), 0, sd_tensor_bytes(t));
        }
    }
}

/* --- a LoRA step, of the U-Net as the peers' benchmark has it
 * -------------------------------------------------------- */

static void lora_variables(struct bench *b, struct sd_var **vars)
{
    for (size_t i = 0; i < b->lora->count; i++) {
        vars[2 * i] = &b->lora->modules[i].down;
        vars[2 * i + 1] = &b->lora->modules[i].up;
    }
}

/* All of the U-Net's weights, in f32, as variables that are trained; returns how many. */
static size_t tuned_variables(struct bench *b, struct sd_var ***vars)
{
    struct sd_err err = {0};
    if (sd_model_declare(b->weights, b->config, SD_PART_UNET, NULL, NULL, &err))
        die(&err);
    size_t n = sd_weights_count(b->weights);
    *vars = calloc(n, sizeof **vars);
    for (size_t i = 0; i < n; i++) {
        struct sd_var *v = (*vars)[i] = sd_weights_var(b->weights, i);
        size_t count = (size_t)sd_var_count(v);
        float *values = malloc(count * sizeof *values);
        sd_dtype_convert(values, SD_F32, v->data, v->dtype, count);
        v->state = values;
        v->data = values;
        v->dtype = SD_F32;
        v->trainable = true;
        v->mapped = false;
        if (v->ndim == 4 && v->dim[2] == 1 && v->dim[3] == 1)
            v->ndim = 2; /* a product takes it as a matrix */
    }
    return n;
}

static void build_training(struct bench *b)
{
    struct sd_err err = {0};
    struct sd_rng rng;
    struct sd_var **vars;
    size_t n;
    sd_rng_seed(&rng, 1);
    if (b->m->part == LORA) {
        if (sd_lora_new(&b->lora, b->config, &(struct sd_lora_options){.rank = 16, .alpha = 16, .unet = true},
                        &rng, &err))
            die(&err);
        vars = calloc(n = 2 * b->lora->count, sizeof *vars);
        lora_variables(b, vars);
    } else {
        n = tuned_variables(b, &vars);
    }
    int *group = calloc(n, sizeof *group);
    struct sd_optim_config adamw;
    if (sd_optim_config_init(&adamw, "AdamW", NULL, &err) ||
        sd_optimizer_init(&b->optimizer, &adamw, &(struct sd_optim_group){.name = "unet", .lr = 1e-4}, 1,
                          vars, group, (int)n, b->backend, &err))
        die(&err);
    free(vars);
    free(group);
    static struct sd_lora_stack stack;
    stack = (struct sd_lora_stack){&b->lora, 1};
    b->trainer = sd_trainer_new(
        b->config,
        &(struct sd_trainer_options){
            .dtype = b->m->dtype, .checkpointing = b->m->checkpointing, .text_chunks = 1, .accumulation = 1},
        b->weights, b->lora ? sd_lora_adapt : NULL, &stack, &b->optimizer, b->backend, &err);
    if (!b->trainer)
        die(&err);
    size_t latents = (size_t)(b->m->batch * 4 * b->side * b->side);
    int64_t *t = calloc((size_t)b->m->batch, sizeof *t);
    b->batch = (struct sd_train_batch){.n = b->m->batch,
                                       .h = b->side,
                                       .w = b->side,
                                       .latents = noise(latents),
                                       .noise = {.target = noise(latents)},
                                       .timesteps = t,
                                       .ids = calloc((size_t)b->m->batch * 77, sizeof(int32_t))};
    for (int64_t i = 0; i < b->m->batch; i++)
        t[i] = 500;
}

static void run(struct bench *b)
{
    struct sd_err err = {0};
    float loss;
    struct sd_optim_update did;
    if (!b->plan)
        sd_optimizer_prepare(&b->optimizer, 1);
    bool bad = b->plan ? sd_plan_run(b->plan, &err)
                       : sd_trainer_batch(b->trainer, &b->batch, true, &loss, &err) ||
                             sd_optimizer_finish(&b->optimizer, &did, &err);
    if (bad)
        die(&err);
}

/* --- figures --- */

static int64_t peak_mib(void)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib / 1024;
}

static void tell_ops(const struct bench *b, int runs)
{
    for (int op = 0; op < SD_OP_COUNT; op++) {
        double s = b->plan ? sd_plan_seconds(b->plan, op) : sd_trainer_seconds(b->trainer, op);
        if (s > 0)
            fprintf(stderr, "%-20s %8.4f s\n", sd_op_name(op), s / runs);
    }
}

static int by_value(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double gflop(struct bench *b)
{
    struct sd_err err = {0};
    const struct sd_graph *g = b->graph;
    struct sd_plan *plan;
    if (!g && sd_trainer_step(b->trainer, b->batch.n, b->batch.h, b->batch.w, &g, &plan, &err))
        die(&err);
    return 1e-9 * sd_graph_flops(g);
}

/* What is free on the device, 0 where the host computes. */
static uint64_t device_free(const struct bench *b)
{
    struct sd_device_info info = {0};
    const struct sd_plugin *p = b->backend->device ? sd_plugin_load("cuda", NULL) : NULL;
    return p && !p->describe(0, &info, NULL) ? info.free : 0;
}

/* began: when main did; free_before: what was free on the device then, its context made. */
static void measure(struct bench *b, int runs, int64_t began, uint64_t free_before)
{
    int64_t start = sd_clock_ns();
    (b->m->part == LORA || b->m->part == TUNE ? build_training : build_forward)(b);
    run(b);
    double first = 1e-9 * (double)(sd_clock_ns() - start),
           from_start = 1e-9 * (double)(sd_clock_ns() - began);
    double seconds[64];
    bool ops = getenv("BENCH_OPS") != NULL;
    if (b->plan)
        sd_plan_profile(b->plan, ops);
    else
        sd_trainer_profile(b->trainer, ops);
    for (int i = 0; i < runs; i++) {
        start = sd_clock_ns();
        run(b);
        seconds[i] = 1e-9 * (double)(sd_clock_ns() - start);
    }
    if (ops)
        tell_ops(b, runs);
    qsort(seconds, (size_t)runs, sizeof *seconds, by_value);
    struct sd_plan_memory m = b->plan ? sd_plan_memory(b->plan) : sd_trainer_memory(b->trainer);
    printf("{\"name\":\"%s\",\"value\":%.6f,\"unit\":\"s\",\"best\":%.6f,\"first\":%.2f", b->m->name,
           seconds[runs / 2], seconds[0], first);
    printf(",\"from_start\":%.2f,\"gflop\":%.1f", from_start, gflop(b));
    if (free_before)
        printf(",\"device_mib\":%llu", (unsigned long long)(free_before - device_free(b)) >> 20);
    printf(",\"peak_mib\":%lld,\"arena_mib\":%zu,\"weights_mib\":%zu,\"runs\":%d}\n", (long long)peak_mib(),
           (m.arena + m.scratch) >> 20, m.frozen >> 20, runs);
}

int main(int argc, char **argv)
{
    const int64_t began = sd_clock_ns();
    const char *side = getenv("BENCH_SIDE");
    struct bench b = {.side = side ? atoi(side) / 8 : 64};
    struct sd_err err = {0};
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (size_t i = 0; i < MEASURES; i++)
            puts(measures[i].name);
        return 0;
    }
    for (size_t i = 0; argc >= 3 && i < MEASURES; i++)
        if (!strcmp(argv[2], measures[i].name))
            b.m = &measures[i];
    int runs = argc > 3 ? atoi(argv[3]) : 5;
    const char *device = getenv("BENCH_DEVICE");
    if (!b.m || runs < 1 || runs > 64 || b.side < 1) {
        fputs("usage: model MODEL NAME [RUNS]\n       model --list\n", stderr);
        return 2;
    }
    if (sd_model_file_open(&b.file, argv[1], &err) ||
        !(b.weights = sd_weights_new(sd_model_file_find, b.file, &err)) ||
        !(b.backend = sd_backend_new(device ? device : "cpu", &err)))
        die(&err);
    b.config = sd_model_file_config(b.file);
    measure(&b, runs, began, device_free(&b));
    sd_plan_free(b.plan);
    sd_graph_free(b.graph);
    sd_trainer_free(b.trainer);
    if (b.trainer)
        sd_optimizer_free(&b.optimizer);
    sd_lora_free(b.lora);
    sd_weights_free(b.weights);
    sd_backend_free(b.backend);
    sd_model_file_close(b.file);
    free((void *)b.factor.data);
    free(b.weight_noise);
    free((void *)b.batch.latents);
    free((void *)b.batch.noise.target);
    free((void *)b.batch.timesteps);
    free((void *)b.batch.ids);
    return 0;
}
