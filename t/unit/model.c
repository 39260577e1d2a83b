/* CLIP's text encoder, U-Net and VAE against diffusers and transformers (t/data/model, made by t/ref/models.py), in f32
 * on every backend; the same weights in the original (LDM) layout; bfloat16 near float. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/clip_text.h"
#include "model/config_json.h"
#include "model/unet.h"
#include "model/vae.h"
#include "model/weights.h"
#include "store/safetensors.h"
#include "tensor/pass.h"
#include "tensor/plan.h"

static int tests, failures;

static void ok(int good, const char *name)
{
    printf("%sok %d - %s\n", good ? "" : "not ", ++tests, name);
    failures += !good;
}

/* One model file with its configuration, read on one backend. */
struct subject {
    struct sd_tensor_file *file; /* fixtures: inputs, outputs, and, in diffusers' layout, weights */
    struct sd_model_config config;
    struct sd_weights *weights;
    struct sd_backend *backend;
    enum sd_dtype dtype;
    const char *label;
};

/* A network under construction and its inputs' and outputs' names. */
struct bench {
    const struct subject *s;
    struct sd_graph *g;
    struct sd_nn b;
    struct sd_tensor *in[3], *out;
    const char *in_name[3];
    int n_in;
};

static bool find_in_file(void *ctx, const char *name, struct sd_store_entry *entry)
{
    const struct sd_store_entry *e = sd_tensor_file_find(ctx, name);
    if (e)
        *entry = *e;
    return e != NULL;
}

static const struct sd_store_entry *entry(const struct subject *s, const char *name)
{
    return sd_tensor_file_find(s->file, name);
}

/* [N,C,H,W] to [N,H,W,C] or back; other shapes as they are. */
static void permute(const float *from, float *to, const int64_t *nchw, bool to_nhwc)
{
    int64_t c = nchw[1], hw = nchw[2] * nchw[3];
    for (int64_t n = 0; n < nchw[0]; n++)
        for (int64_t i = 0; i < c; i++)
            for (int64_t p = 0; p < hw; p++) {
                int64_t chw = (n * c + i) * hw + p, hwc = (n * hw + p) * c + i;
                to[to_nhwc ? hwc : chw] = from[to_nhwc ? chw : hwc];
            }
}

static struct bench start(const struct subject *s)
{
    struct bench t = {.s = s, .g = sd_graph_new()};
    if (!t.g)
        exit(3);
    sd_nn_init(&t.b, t.g, s->dtype, sd_weights_param, s->weights);
    return t;
}

/* A graph input of the shape of a fixture's tensor; images become NHWC. */
static struct sd_tensor *input(struct bench *t, const char *name)
{
    const struct sd_store_entry *e = entry(t->s, name);
    if (!e)
        return NULL;
    int64_t dim[4];
    memcpy(dim, e->shape, (size_t)e->ndim * sizeof *dim);
    if (e->ndim == 4) {
        dim[1] = e->shape[2];
        dim[2] = e->shape[3];
        dim[3] = e->shape[1];
    }
    bool ids = e->dtype == SD_STORE_I32 && strstr(name, "ids");
    t->in_name[t->n_in] = name;
    return t->in[t->n_in++] = sd_graph_input(t->g, name, ids ? SD_I32 : SD_F32, e->ndim, dim);
}

static void feed(struct sd_plan *p, const struct bench *t)
{
    for (int i = 0; i < t->n_in; i++) {
        const struct sd_store_entry *e = entry(t->s, t->in_name[i]);
        void *to = sd_plan_data(p, t->in[i]);
        if (t->in[i]->dtype == SD_I32) {
            memcpy(to, e->data, e->bytes);
            continue;
        }
        size_t n = e->bytes / sd_store_dtype_bytes(e->dtype);
        float *values = malloc(n * sizeof *values);
        if (!values)
            exit(3);
        sd_store_to_f32(e->dtype, e->data, n, values);
        if (e->ndim == 4)
            permute(values, to, e->shape, true);
        else
            memcpy(to, values, n * sizeof *values);
        free(values);
    }
}

/* Difference between got [rows, stride] from column at on and the fixture: in f32 the largest one over the largest value,
 * in bf16 that of the root mean squares. */
static double difference(const struct subject *s, const char *name, const float *got, int64_t at, int64_t stride)
{
    const struct sd_store_entry *e = entry(s, name);
    if (!e)
        return INFINITY;
    size_t n = e->bytes / 4;
    int64_t width = e->ndim == 4 ? e->shape[1] : e->shape[e->ndim - 1];
    float *want = malloc(2 * n * sizeof *want);
    if (!want)
        exit(3);
    memcpy(want + n, e->data, n * sizeof *want);
    if (e->ndim == 4)
        permute(want + n, want, e->shape, true);
    else
        memcpy(want, want + n, n * sizeof *want);
    double worst = 0, scale = 0, sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t row = (int64_t)i / width, col = (int64_t)i % width;
        double d = fabs((double)got[row * stride + at + col] - (double)want[i]);
        worst = d > worst || isnan(d) ? d : worst;
        scale = fmax(scale, fabs((double)want[i]));
        sum += d * d;
        square += (double)want[i] * (double)want[i];
    }
    free(want);
    return s->dtype == SD_F32 ? worst / scale : sqrt(sum / square);
}

/* Plans and runs what was built; then checks the output against one fixture, or two halves of it against two. */
static void finish(struct bench *t, const char *first, const char *second)
{
    const struct subject *s = t->s;
    struct sd_err err = {0};
    char what[200];
    struct sd_tensor *out = t->out ? sd_nn_cast(&t->b, t->out, SD_F32) : NULL;
    if (out)
        sd_graph_output(t->g, out);
    sd_graph_fuse(t->g);
    struct sd_plan *p = sd_weights_check(s->weights, s->label, &err) ? NULL : sd_plan_new(t->g, s->backend, &err);
    double worst = INFINITY, limit = s->dtype == SD_F32 ? 1e-4 : 8e-2; /* torch: 2e-2 to 5e-2 */
    if (p) {
        feed(p, t);
        sd_plan_run(p);
        int64_t width = out->dim[out->ndim - 1];
        worst = difference(s, first, sd_plan_data(p, out), 0, width);
        if (second)
            worst = fmax(worst, difference(s, second, sd_plan_data(p, out), width / 2, width));
    } else {
        printf("# %s\n", err.msg);
    }
    snprintf(what, sizeof what, "%s %s %s: %s (%.1e)", s->label, s->backend->name, sd_dtype_name(s->dtype), first,
             worst);
    ok(worst < limit, what);
    sd_plan_free(p);
    sd_nn_free(&t->b);
    sd_graph_free(t->g);
}

static void test_text(const struct subject *s, const char *want, int clip_skip)
{
    if (!entry(s, want))
        return;
    struct bench t = start(s);
    t.out = sd_clip_text(&t.b, &s->config.text, input(&t, "in.text.ids"), clip_skip);
    finish(&t, want, NULL);
}

static void test_unet(const struct subject *s, const char *want)
{
    char x[64], ts[64], context[64];
    snprintf(x, sizeof x, "in.%s.sample", want + 4);
    snprintf(ts, sizeof ts, "in.%s.timesteps", want + 4);
    snprintf(context, sizeof context, "in.%s.context", want + 4);
    if (!entry(s, want))
        return;
    struct bench t = start(s);
    struct sd_tensor *sample = input(&t, x), *steps = input(&t, ts);
    t.out = sd_unet(&t.b, &s->config.unet, sample, steps, input(&t, context));
    finish(&t, want, NULL);
}

static void test_encode(const struct subject *s, const char *from, const char *mean, const char *logvar)
{
    if (!entry(s, from))
        return;
    struct bench t = start(s);
    t.out = sd_vae_encode(&t.b, &s->config.vae, input(&t, from));
    finish(&t, mean, logvar);
}

static void test_decode(const struct subject *s, const char *from, const char *want)
{
    if (!entry(s, from))
        return;
    struct bench t = start(s);
    t.out = sd_vae_decode(&t.b, &s->config.vae, input(&t, from));
    finish(&t, want, NULL);
}

static void test_all(const struct subject *s)
{
    test_text(s, "out.text.last", 0);
    test_text(s, "out.text.skip2", 2);
    test_unet(s, "out.unet.a");
    test_unet(s, "out.unet.b");
    test_unet(s, "out.unet.c");
    test_encode(s, "in.vae.image", "out.vae.mean", "out.vae.logvar");
    test_encode(s, "in.vae.image2", "out.vae.mean2", "out.vae.logvar2");
    test_decode(s, "in.vae.latents", "out.vae.image");
    test_decode(s, "in.vae.latents2", "out.vae.image2");
}

static void test_fixture(const char *name, const char *backend, enum sd_dtype dtype)
{
    struct sd_err err = {0};
    char path[256];
    struct subject s = {.label = name, .dtype = dtype, .config = *sd_model_config_builtin("sd1")};
    snprintf(path, sizeof path, "t/data/model/%s.safetensors", name);
    if (sd_tensor_file_open(&s.file, path, &err) ||
        sd_model_config_parse_text(&s.config, sd_tensor_file_meta(s.file, "sd_config"), &err) ||
        !(s.backend = sd_backend_new(backend, &err)) || !(s.weights = sd_weights_new(find_in_file, s.file, &err))) {
        printf("# %s: %s\n", name, err.msg);
        ok(0, name);
    } else {
        test_all(&s);
    }
    sd_weights_free(s.weights);
    if (s.backend)
        sd_backend_free(s.backend);
    sd_tensor_file_close(s.file);
}

int main(void)
{
    static const char *const fixtures[] = {"sd1-small", "sd2-small"};
    static const char *const backends[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++)
            test_fixture(fixtures[i], backends[k], SD_F32);
    test_fixture("sd1-small", "cpu", SD_BF16);
    printf("1..%d\n", tests);
    return failures > 0;
}
