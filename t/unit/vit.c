/* The vision transformer against timm (t/data/model/vit-small.safetensors, made by t/ref/vit.py), on the
 * reference and the tested backend.
 *
 *     vit [FILE]     the full shape, from what t/ref/vit.py --full wrote, on the tested backend alone */
#include <math.h>
#include <string.h>

#include "model/vit.h"
#include "model/weights.h"
#include "backend.h"
#include "fixture.h"
#include "tap.h"
#include "tensor/pass.h"

static const struct kind {
    const char *name;
    struct sd_vit_config c;
} kinds[] = {
    {"wd", {24, 8, 32, 64, 2, 2, 13, false, SD_VIT_MEAN, SD_ACT_GELU_TANH, 1e-5f}},
    {"blip", {28, 4, 24, 96, 2, 3, 0, true, SD_VIT_TOKENS, SD_ACT_GELU, 1e-6f}},
    {"plain", {10, 5, 16, 64, 1, 1, 5, true, SD_VIT_CLASS, SD_ACT_GELU, 1e-6f}},
    {"mean", {6, 2, 16, 64, 1, 2, 3, true, SD_VIT_MEAN, SD_ACT_GELU, 1e-6f}},
};

static void to_nhwc(const float *from, const int64_t *nchw, float *to)
{
    int64_t c = nchw[1], hw = nchw[2] * nchw[3];
    for (int64_t i = 0; i < nchw[0] * c * hw; i++)
        to[i / (c * hw) * c * hw + i % hw * c + i / hw % c] = from[i];
}

/* The largest difference over the largest value, or in types less exact than f32 that of root mean squares.
 */
static double difference(const float *got, const float *want, int64_t n, bool exact)
{
    double worst = 0, most = 0, sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]), w = fabs((double)want[i]);
        worst = d <= worst ? worst : d; /* NaN stays */
        most = fmax(most, w);
        sum += d * d;
        square += w * w;
    }
    return exact ? worst / most : sqrt(sum / square);
}

static void check(const char *backend, struct sd_tensor_file *tf, const char *name,
                  const struct sd_vit_config *c, enum sd_dtype dtype)
{
    char prefix[32];
    struct sd_err err = {0};
    snprintf(prefix, sizeof prefix, "%s.", name);
    struct sd_vit_file file = {.file = tf, .prefix = prefix};
    const struct sd_store_entry *in = fixture(tf, "%s.%s", "in", name),
                                *out = fixture(tf, "%s.%s", "out", name);
    struct sd_weights *w = sd_weights_new(sd_vit_find, &file, &err);
    struct sd_graph *g = sd_graph_new();
    struct sd_nn nn;
    must(!w, &err);
    sd_nn_init(&nn, g, dtype, sd_weights_param, w);
    struct sd_tensor *x = sd_graph_input(g, "x", SD_F32, 4,
                                         (int64_t[]){in->shape[0], in->shape[2], in->shape[3], in->shape[1]});
    struct sd_tensor *y = sd_nn_cast(&nn, sd_vit(&nn, c, x), SD_F32);
    struct sd_tensor *p = sd_graph_act(g, y, SD_ACT_SIGMOID);
    sd_nn_free(&nn);
    sd_graph_output(g, y);
    sd_graph_output(g, p);
    must(sd_weights_check(w, name, &err), &err);
    must(sd_graph_fuse(g) || sd_graph_prune(g) || sd_graph_error(g, &err), &err);
    struct sd_backend *b = sd_backend_new(backend, &err);
    struct sd_plan *plan = b ? sd_plan_new(g, b, &err) : NULL;
    must(!plan, &err);
    to_nhwc(in->data, in->shape, sd_plan_data(plan, x));
    plan_run(plan);
    int64_t n = sd_tensor_count(y);
    ok(n * (int64_t)sizeof(float) == (int64_t)out->bytes, "%s: %lld numbers", name, (long long)n);
    const float *got = sd_plan_data(plan, y), *probability = sd_plan_data(plan, p);
    double d = difference(got, out->data, n, dtype == SD_F32), worst = 0;
    ok(d < (dtype == SD_F32 ? 1e-4 : 3e-2), "%s: %s in %s (%.1e)", backend, name, sd_dtype_name(dtype), d);
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs((double)probability[i] - 1 / (1 + exp(-(double)got[i]))));
    ok(worst < 1e-6, "%s: %s: its probabilities", backend, name);
    sd_plan_free(plan);
    sd_graph_free(g);
    sd_weights_free(w);
    sd_backend_free(b);
}

/* A file whose weights are not those of the configuration. */
static void check_refused(struct sd_tensor_file *tf)
{
    struct sd_vit_file file = {.file = tf, .prefix = "wd."};
    struct sd_vit_config c = kinds[0].c;
    struct sd_err err = {0};
    for (int wrong = 0; wrong < 2; wrong++) {
        struct sd_weights *w = sd_weights_new(sd_vit_find, &file, &err);
        struct sd_graph *g = sd_graph_new();
        struct sd_nn nn;
        must(!w, &err);
        c.width = wrong ? 32 : 16;
        c.class_token = wrong;
        sd_nn_init(&nn, g, SD_F32, sd_weights_param, w);
        sd_vit(&nn, &c, sd_graph_input(g, "x", SD_F32, 4, (int64_t[]){1, 24, 24, 3}));
        sd_nn_free(&nn);
        ok(sd_weights_check(w, "wd", &err) &&
               strstr(err.msg, wrong ? "vit.cls_token" : "vit.patch_embed.proj.weight is"),
           "refused: %s", err.msg);
        sd_graph_free(g);
        sd_weights_free(w);
    }
}

int main(int argc, char **argv)
{
    const char *const backends[] = {"ref", test_backend()};
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, argc > 1 ? argv[1] : "t/data/model/vit-small.safetensors", &err), &err);
    if (argc > 1) {
        check(test_backend(), tf, "full", &sd_vit_wd, SD_F32);
        check(test_backend(), tf, "full", &sd_vit_wd, SD_BF16);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && argc == 1; i++) {
        for (int k = 0; k < 2; k++)
            check(backends[k], tf, kinds[i].name, &kinds[i].c, SD_F32);
        check(test_backend(), tf, kinds[i].name, &kinds[i].c, SD_BF16);
    }
    if (argc == 1)
        check_refused(tf);
    sd_tensor_file_close(tf);
    return tap_end();
}
