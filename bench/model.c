/* Seconds of the model's parts at full size, one process a measurement so that its peak memory is its own.
 *
 *     build/release/bench/model MODEL NAME [RUNS]      one JSON line (bench/run calls it)
 *     build/release/bench/model --list
 *
 * MODEL is any Stable Diffusion file, as sd-init makes them; 512x512 pixels. BENCH_OPS=1 tells the seconds by
 * op on standard error. */
#include "adapter/lora.h"
#include "base/progress.h"
#include "model/model_file.h"
#include "model/text_context.h"
#include "model/unet.h"
#include "model/vae.h"
#include "tensor/pass.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum part { TEXT, UNET, ENCODE, DECODE, LORA };

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
};
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
            &nn, &b->config->unet, sd_graph_input(g, "x", SD_F32, 4, (int64_t[]){n, 64, 64, 4}),
            sd_graph_input(g, "t", SD_F32, 1, &n),
            sd_graph_input(g, "context", b->m->dtype, 3, (int64_t[]){n, 77, b->config->unet.context}));
    else if (b->m->part == ENCODE)
        y = sd_vae_encode(&nn, &b->config->vae,
                          sd_graph_input(g, "x", SD_F32, 4, (int64_t[]){n, 512, 512, 3}));
    else if (b->m->part == DECODE)
        y = sd_vae_decode(&nn, &b->config->vae, sd_graph_input(g, "z", SD_F32, 4, (int64_t[]){n, 64, 64, 4}));
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

static void build_lora(struct bench *b)
{
    struct sd_err err = {0};
    struct sd_rng rng;
    sd_rng_seed(&rng, 1);
    if (sd_lora_new(&b->lora, b->config, &(struct sd_lora_options){.rank = 16, .alpha = 16, .unet = true},
                    &rng, &err))
        die(&err);
    size_t n = 2 * b->lora->count;
    struct sd_var **vars = calloc(n, sizeof *vars);
    int *group = calloc(n, sizeof *group);
    for (size_t i = 0; i < b->lora->count; i++) {
        vars[2 * i] = &b->lora->modules[i].down;
        vars[2 * i + 1] = &b->lora->modules[i].up;
    }
    if (sd_optimizer_init(&b->optimizer, &SD_ADAMW_DEFAULT,
                          &(struct sd_optim_group){.name = "unet", .lr = 1e-4}, 1, vars, group, (int)n,
                          b->backend, &err))
        die(&err);
    free(vars);
    free(group);
    static struct sd_lora_stack stack;
    stack = (struct sd_lora_stack){&b->lora, 1};
    b->trainer = sd_trainer_new(
        b->config,
        &(struct sd_trainer_options){
            .dtype = b->m->dtype, .checkpointing = b->m->checkpointing, .text_chunks = 1, .accumulation = 1},
        b->weights, sd_lora_adapt, &stack, &b->optimizer, b->backend, &err);
    size_t latents = (size_t)b->m->batch * 4 * 64 * 64;
    int64_t *t = calloc((size_t)b->m->batch, sizeof *t);
    b->batch = (struct sd_train_batch){.n = b->m->batch,
                                       .h = 64,
                                       .w = 64,
                                       .latents = noise(latents),
                                       .noise = noise(latents),
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
    if (b->m->part == LORA)
        sd_optimizer_prepare(&b->optimizer, 1);
    bool bad = b->m->part != LORA ? sd_plan_run(b->plan, &err)
                                  : sd_trainer_batch(b->trainer, &b->batch, true, &loss, &err) ||
                                        sd_optimizer_finish(&b->optimizer, &did, &err);
    if (bad)
        die(&err);
}

/* --- figures
 * ------------------------------------------------------------------------------------------------------ */

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

static void measure(struct bench *b, int runs)
{
    int64_t start = sd_clock_ns();
    (b->m->part == LORA ? build_lora : build_forward)(b);
    run(b);
    double first = 1e-9 * (double)(sd_clock_ns() - start), seconds[64];
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
    printf("{\"name\":\"%s\",\"value\":%.4f,\"unit\":\"s\",\"best\":%.4f,\"first\":%.2f", b->m->name,
           seconds[runs / 2], seconds[0], first);
    if (b->graph)
        printf(",\"gflop\":%.1f", 1e-9 * sd_graph_flops(b->graph));
    printf(",\"peak_mib\":%lld,\"arena_mib\":%zu,\"weights_mib\":%zu,\"runs\":%d}\n", (long long)peak_mib(),
           (m.arena + m.scratch) >> 20, m.frozen >> 20, runs);
}

int main(int argc, char **argv)
{
    struct bench b = {0};
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
    if (!b.m || runs < 1 || runs > 64) {
        fputs("usage: model MODEL NAME [RUNS]\n       model --list\n", stderr);
        return 2;
    }
    if (sd_model_file_open(&b.file, argv[1], &err) ||
        !(b.weights = sd_weights_new(sd_model_file_find, b.file, &err)) ||
        !(b.backend = sd_backend_new(device ? device : "cpu", &err)))
        die(&err);
    b.config = sd_model_file_config(b.file);
    measure(&b, runs);
    sd_plan_free(b.plan);
    sd_graph_free(b.graph);
    sd_trainer_free(b.trainer);
    if (b.lora)
        sd_optimizer_free(&b.optimizer);
    sd_lora_free(b.lora);
    sd_weights_free(b.weights);
    sd_backend_free(b.backend);
    sd_model_file_close(b.file);
    free((void *)b.batch.latents);
    free((void *)b.batch.noise);
    free((void *)b.batch.timesteps);
    free((void *)b.batch.ids);
    return 0;
}
