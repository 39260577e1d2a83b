/* A plan's memory against what the card says was taken: arena, scratch and frozen weights, within 3 %. Only
 * for SD_TEST_BACKEND=cuda; big enough on a card that what libraries hold by the way does not count. */
#include "backend.h"
#include "tap.h"
#include "tensor/frozen.h"
#include "tensor/plugin.h"

#include <math.h>
#include <string.h>

enum { LAYERS = 4, WEIGHTS = 3 * LAYERS };

struct net {
    int64_t batch, side, channels, hidden;
    struct sd_var weight[WEIGHTS];
};

static void net_init(struct net *n, bool emulated)
{
    *n = emulated ? (struct net){.batch = 1, .side = 16, .channels = 32, .hidden = 512}
                  : (struct net){.batch = 8, .side = 128, .channels = 512, .hidden = 4096};
    for (int i = 0; i < WEIGHTS; i++) {
        int64_t c = n->channels;
        struct sd_var *v = &n->weight[i];
        *v = i % 3 == 0   ? (struct sd_var){.ndim = 4, .dim = {c, c, 3, 3}}
             : i % 3 == 1 ? (struct sd_var){.ndim = 2, .dim = {n->hidden, c}}
                          : (struct sd_var){.ndim = 2, .dim = {c, n->hidden}};
        v->name = "weight";
        v->dtype = SD_BF16;
        v->data = calloc((size_t)sd_var_count(v), 2);
    }
}

static void net_free(struct net *n)
{
    for (int i = 0; i < WEIGHTS; i++)
        free((void *)n->weight[i].data);
}

/* Convolutions, and products through a wide layer. */
static struct sd_graph *build(struct net *n)
{
    const struct sd_conv conv = {1, 1, 1, 1, 1};
    struct sd_graph *g = sd_graph_new();
    int64_t rows = n->batch * n->side * n->side, c = n->channels;
    const int64_t image[] = {n->batch, n->side, n->side, c}, flat[] = {rows, c};
    struct sd_tensor *x = sd_graph_cast(g, sd_graph_input(g, "x", SD_F32, 4, image), SD_BF16);
    for (int i = 0; i < LAYERS; i++) {
        struct sd_tensor *w[3];
        for (int k = 0; k < 3; k++)
            w[k] = sd_graph_var(g, &n->weight[3 * i + k], SD_BF16);
        x = sd_graph_conv2d(g, x, w[0], NULL, &conv);
        x = sd_graph_reshape(g, x, 2, flat);
        x = sd_graph_act(g, sd_graph_matmul(g, x, w[1], NULL, false, true), SD_ACT_SILU);
        x = sd_graph_reshape(g, sd_graph_matmul(g, x, w[2], NULL, false, true), 4, image);
    }
    sd_graph_output(g, sd_graph_cast(g, x, SD_F32));
    return g;
}

static uint64_t free_bytes(const struct sd_plugin *p)
{
    struct sd_err err = {0};
    struct sd_device_info info;
    must(p->describe(0, &info, &err), &err);
    return info.free;
}

/* Makes and runs a plan; returns how many bytes the card has less than before. */
static double take(const struct sd_plugin *p, struct sd_backend *b, struct net *n, struct sd_plan_memory *m)
{
    struct sd_err err = {0};
    struct sd_graph *g = build(n);
    uint64_t before = free_bytes(p);
    struct sd_plan *plan = sd_graph_error(g, &err) ? NULL : sd_plan_new(g, b, &err);
    must(!plan, &err);
    plan_run(plan);
    plan_run(plan);
    uint64_t after = free_bytes(p);
    *m = sd_plan_memory(plan);
    sd_plan_free(plan);
    sd_graph_free(g);
    return (double)before - (double)after;
}

int main(void)
{
    struct sd_err err = {0};
    struct sd_device_info info;
    if (strcmp(test_backend(), "cuda") != 0) {
        skip("a plan's memory on a device", "SD_TEST_BACKEND is not cuda");
        return tap_end();
    }
    const struct sd_plugin *p = sd_plugin_load("cuda", &err);
    must(!p || p->describe(0, &info, &err), &err);
    struct sd_backend *b = p->open(0, &err);
    must(!b, &err);

    /* The first run has the libraries load their kernels and tables. */
    struct net net[2];
    struct sd_plan_memory first, second;
    for (int i = 0; i < 2; i++)
        net_init(&net[i], !strcmp(info.name, "emulator"));
    uint64_t start = free_bytes(p);
    take(p, b, &net[0], &first);
    double held = (double)start - (double)free_bytes(p) - (double)first.frozen;
    double taken = take(p, b, &net[1], &second);
    double planned = (double)(second.arena + second.scratch + (second.frozen - first.frozen));
    printf("# %s: arena %zu, scratch %zu, weights %zu KiB; the card has %.0f KiB less; libraries hold %.0f "
           "KiB\n",
           info.name, second.arena >> 10, second.scratch >> 10, (second.frozen - first.frozen) >> 10,
           taken / 1024, held / 1024);
    ok(second.frozen > first.frozen, "other weights are other memory");
    ok(fabs(taken - planned) <= 0.03 * planned, "planned memory is what the card gave, within 3 %%: %.2f %%",
       100 * (taken - planned) / planned);
    sd_backend_free(b);
    double left = (double)start - (double)free_bytes(p);
    ok(left <= 0.03 * planned + fmax(held, 0), "and it is given back: %.0f KiB are not", left / 1024);
    net_free(&net[0]);
    net_free(&net[1]);
    return tap_end();
}
