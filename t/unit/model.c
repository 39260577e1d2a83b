/* CLIP's text encoder, U-Net and VAE against diffusers and transformers (t/data/model, made by
 * t/ref/models.py), in f32 on every backend; the same weights in the original (LDM) layout; bfloat16 near
 * float. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/clip_text.h"
#include "model/config_json.h"
#include "model/declare.h"
#include "model/model_file.h"
#include "model/unet.h"
#include "model/vae.h"
#include "model/weights.h"
#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/pass.h"
#include "tensor/plan.h"

/* One model file with its configuration, read on one backend. */
struct subject {
    struct sd_tensor_file *file; /* fixtures: inputs, outputs, and, in diffusers' layout, weights */
    struct sd_model_file *model; /* where weights are read in place of the fixture, or NULL */
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

/* Difference between got [rows, stride] from column at on and the fixture: in f32 the largest one over the
 * largest value, in bf16 that of the root mean squares. */
static double difference(const struct subject *s, const char *name, const float *got, int64_t at,
                         int64_t stride)
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

/* Plans and runs what was built; then checks the output against one fixture, or two halves of it against two.
 */
static void finish(struct bench *t, const char *first, const char *second)
{
    const struct subject *s = t->s;
    struct sd_err err = {0};
    struct sd_tensor *out = t->out ? sd_nn_cast(&t->b, t->out, SD_F32) : NULL;
    if (out)
        sd_graph_output(t->g, out);
    sd_graph_fuse(t->g);
    struct sd_plan *p =
        sd_weights_check(s->weights, s->label, &err) ? NULL : sd_plan_new(t->g, s->backend, &err);
    double worst = INFINITY, limit = s->dtype == SD_F32 ? 1e-4 : 8e-2; /* torch: 2e-2 to 5e-2 */
    if (p) {
        feed(p, t);
        plan_run(p);
        int64_t width = out->dim[out->ndim - 1];
        worst = difference(s, first, sd_plan_data(p, out), 0, width);
        if (second)
            worst = fmax(worst, difference(s, second, sd_plan_data(p, out), width / 2, width));
    } else {
        printf("# %s\n", err.msg);
    }
    ok(worst < limit, "%s %s %s: %s (%.1e)", s->label, s->backend->name, sd_dtype_name(s->dtype), first,
       worst);
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

/* ---- gradients ---- */

/* Weights and inputs whose gradients are in the file, made trainable: copies of what the store holds. */
struct trained {
    const struct subject *s;
    const struct sd_tensor_file *grads;
    const char *prefix; /* "out.sd1.unet.a.": before the name without its part */
    struct sd_var var[64];
    const struct sd_store_entry *want[64];
    int n;
};

/* The trainable copy of var, if its gradient is in the file; else var itself. */
static struct sd_var *trainable(struct trained *t, const char *name, struct sd_var *var)
{
    char key[200];
    snprintf(key, sizeof key, "%s%s", t->prefix, name);
    const struct sd_store_entry *want = sd_tensor_file_find(t->grads, key);
    for (int i = 0; i < t->n; i++)
        if (t->want[i] == want)
            return &t->var[i];
    if (!want || t->n == 64)
        return var;
    size_t n = want->bytes / 4;
    struct sd_var *copy = &t->var[t->n];
    *copy = *var;
    copy->state = malloc(n * 4);
    if (!copy->state || sd_dtype_convert(copy->state, SD_F32, var->data, var->dtype, n))
        exit(3);
    copy->data = copy->state;
    copy->dtype = SD_F32;
    copy->trainable = true;
    t->want[t->n++] = want;
    return copy;
}

static struct sd_var *train_param(void *ctx, const char *name, int ndim, const int64_t *dim,
                                  struct sd_err *err)
{
    struct trained *t = ctx;
    struct sd_var *var = sd_weights_param(t->s->weights, name, ndim, dim, err);
    return var && var->data ? trainable(t, strchr(name, '.') + 1, var) : var;
}

/* An input of the network as a variable. */
static struct sd_tensor *train_input(struct trained *t, struct bench *b, const char *name,
                                     const char *fixture)
{
    const struct sd_store_entry *e = entry(t->s, fixture);
    struct sd_var var = {.name = name, .dtype = SD_F32, .ndim = e->ndim, .data = e->data};
    memcpy(var.dim, e->shape, (size_t)e->ndim * sizeof *var.dim);
    struct sd_var *copy = trainable(t, name, &var);
    if (copy == &var)
        return NULL;
    if (e->ndim == 4) {
        permute(e->data, copy->state, e->shape, true);
        copy->dim[1] = e->shape[2];
        copy->dim[2] = e->shape[3];
        copy->dim[3] = e->shape[1];
    }
    return sd_graph_var(b->g, copy, SD_F32);
}

static double gradient_difference(const struct sd_store_entry *want, const float *got, bool image)
{
    size_t n = want->bytes / 4;
    float *w = malloc(n * sizeof *w);
    double worst = 0, scale = 0;
    if (!w)
        exit(3);
    if (image)
        permute(want->data, w, want->shape, true);
    else
        memcpy(w, want->data, want->bytes);
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)w[i]);
        worst = d > worst || isnan(d) ? d : worst;
        scale = fmax(scale, fabs((double)w[i]));
    }
    free(w);
    return worst / scale;
}

/* The product of the output with the cotangent, summed. */
static struct sd_tensor *product_with(struct bench *t, struct sd_tensor *y, struct sd_tensor *cotangent)
{
    int64_t n = y ? sd_tensor_count(y) : 1;
    struct sd_tensor *row = sd_graph_reshape(t->g, y, 2, (int64_t[]){1, n});
    struct sd_tensor *column = sd_graph_reshape(t->g, cotangent, 2, (int64_t[]){n, 1});
    struct sd_tensor *sum = sd_graph_matmul(t->g, row, column, NULL, false, false);
    return sd_graph_reshape(t->g, sum, 1, (int64_t[]){1});
}

static void test_gradients(const struct subject *s, const struct sd_tensor_file *grads, const char *model,
                           const char *what, bool checkpoint)
{
    char prefix[40], in[60], name[4][60];
    bool unet = what[0] == 'u';
    struct sd_err err = {0};
    snprintf(prefix, sizeof prefix, "out.%s.%s.", model, what);
    snprintf(in, sizeof in, "in.%s.%s", model, what);
    const char *const leaf[] = {"sample", "timesteps", "context"};
    for (int i = 0; i < 3; i++)
        snprintf(name[i], sizeof name[i], "in.%s.%s", what, leaf[i]);
    snprintf(name[3], sizeof name[3], "out.%s", unet ? what : "text.last");

    struct trained tr = {.s = s, .grads = grads, .prefix = prefix};
    struct bench t = start(s);
    t.b.param = train_param;
    t.b.param_ctx = &tr;
    struct sd_tensor *y, *seed = sd_graph_input(t.g, "seed", SD_F32, 1, (int64_t[]){1}), **d = NULL;
    if (unet) {
        struct sd_tensor *x = train_input(&tr, &t, "sample", name[0]), *steps = input(&t, name[1]);
        y = sd_unet(&t.b, &s->config.unet, x, steps, train_input(&tr, &t, "context", name[2]));
    } else {
        y = sd_clip_text(&t.b, &s->config.text, input(&t, "in.text.ids"), 0);
    }
    struct sd_tensor *c =
        sd_graph_input(t.g, "cotangent", SD_F32, y ? y->ndim : 1, y ? y->dim : (int64_t[]){1});
    struct sd_tensor *loss = product_with(&t, y, c);
    if (loss && !sd_graph_grad(t.g, loss, seed, &d))
        for (int i = 0; i < tr.n; i++)
            if (d[sd_graph_var(t.g, &tr.var[i], SD_F32)->id])
                sd_graph_output(t.g, d[sd_graph_var(t.g, &tr.var[i], SD_F32)->id]);
    if (checkpoint)
        sd_graph_checkpoint(t.g);
    sd_graph_fuse(t.g);
    sd_graph_prune(t.g);
    struct sd_backend *backend = sd_backend_new(s->backend->name, &err); /* it may not outlive tr.var */
    struct sd_plan *p = backend ? sd_plan_new(t.g, backend, &err) : NULL;
    double worst = 0;
    for (int i = 0; i < tr.n && p; i++) {
        struct sd_tensor *g = d[sd_graph_var(t.g, &tr.var[i], SD_F32)->id];
        if (i == 0) {
            const struct sd_store_entry *e = sd_tensor_file_find(grads, in);
            feed(p, &t);
            *(float *)sd_plan_data(p, seed) = 1;
            if (e->ndim == 4)
                permute(e->data, sd_plan_data(p, c), e->shape, true);
            else
                memcpy(sd_plan_data(p, c), e->data, e->bytes);
            plan_run(p);
        }
        double e =
            g ? gradient_difference(tr.want[i], sd_plan_data(p, g), tr.want[i]->ndim == 4 && i == 0 && unet)
              : INFINITY;
        if (!(e < 3e-4))
            printf("# %s: %.1e\n", tr.want[i]->name, e);
        worst = !(e < worst) ? e : worst;
    }
    if (!p)
        printf("# %s\n", err.msg);
    /* to_k: differences of near equals */
    ok(p && tr.n >= 2 && worst < 3e-4, "%s %s%s: %d gradients of %s (%.1e)", model, s->backend->name,
       checkpoint ? " checkpointed" : "", tr.n, what, worst);
    sd_plan_free(p);
    sd_backend_free(backend);
    for (int i = 0; i < tr.n; i++)
        free(tr.var[i].state);
    sd_nn_free(&t.b);
    sd_graph_free(t.g);
}

static void test_all_gradients(const struct subject *s)
{
    struct sd_err err = {0};
    struct sd_tensor_file *grads;
    char model[4] = {s->label[0], s->label[1], s->label[2], 0};
    if (sd_tensor_file_open(&grads, "t/data/model/grad.safetensors", &err)) {
        ok(0, "%s", err.msg);
        return;
    }
    test_gradients(s, grads, model, "unet.a", false);
    test_gradients(s, grads, model, "unet.a", true);
    if (!strcmp(model, "sd1")) {
        test_gradients(s, grads, model, "unet.b", false);
        test_gradients(s, grads, model, "text", false);
    }
    sd_tensor_file_close(grads);
}

/* ---- files ---- */

/* The fixture `name`; its weights from the file `weights` (LDM layout), or its own where that is NULL. */
static void test_fixture(const char *name, const char *weights, const char *backend, enum sd_dtype dtype)
{
    struct sd_err err = {0};
    char path[256], other[256];
    struct subject s = {
        .label = weights ? weights : name, .dtype = dtype, .config = *sd_model_config_builtin("sd1")};
    snprintf(path, sizeof path, "t/data/model/%s.safetensors", name);
    snprintf(other, sizeof other, "t/data/model/%s.safetensors", weights ? weights : name);
    if (sd_tensor_file_open(&s.file, path, &err) ||
        sd_model_config_parse_text(&s.config, sd_tensor_file_meta(s.file, "sd_config"), &err) ||
        (weights && sd_model_file_open(&s.model, other, &err)) ||
        !(s.backend = sd_backend_new(backend, &err)) ||
        !(s.weights = weights ? sd_weights_new(sd_model_file_find, s.model, &err)
                              : sd_weights_new(find_in_file, s.file, &err))) {
        printf("# %s: %s\n", name, err.msg);
        ok(0, "%s", name);
    } else {
        test_all(&s);
        if (!weights && dtype == SD_F32)
            test_all_gradients(&s);
    }
    sd_weights_free(s.weights);
    if (s.backend)
        sd_backend_free(s.backend);
    sd_model_file_close(s.model);
    sd_tensor_file_close(s.file);
}

/* Every parameter of an SD2 model in the original layout is found, and a wrong configuration is told in
 * names. */
static void test_declarations(void)
{
    struct sd_err err = {0};
    struct sd_model_file *mf = NULL;
    struct sd_weights *w = NULL;
    int bad = sd_model_file_open(&mf, "t/data/model/sd2-small-ldm.safetensors", &err) ||
              !(w = sd_weights_new(sd_model_file_find, mf, &err));
    for (int part = 0; part < SD_PARTS && !bad; part++)
        bad = sd_model_declare(w, sd_model_file_config(mf), (enum sd_part)part, NULL, NULL, &err);
    ok(!bad && !sd_weights_check(w, "x", &err), "sd2-small-ldm holds every parameter");
    if (err.code)
        printf("# %s\n", err.msg);
    sd_weights_free(w);
    w = NULL;
    struct sd_model_config wrong = bad ? *sd_model_config_builtin("sd1") : *sd_model_file_config(mf);
    wrong.unet.context += 8;
    wrong.unet.layers += 1;
    bad = !(w = sd_weights_new(sd_model_file_find, mf, &err)) ||
          sd_model_declare(w, &wrong, SD_PART_UNET, NULL, NULL, &err);
    ok(!bad && sd_weights_check(w, "file", &err) && strstr(err.msg, "missing: unet.") &&
           strstr(err.msg, "misshapen: unet.") && strstr(err.msg, ", expected [") && strstr(err.msg, ", ..."),
       "%s", err.msg);
    sd_weights_free(w);
    sd_model_file_close(mf);
}

int main(void)
{
    const char *const backends[] = {"ref", test_backend()};
    for (int k = 0; k < 2; k++) {
        test_fixture("sd1-small", NULL, backends[k], SD_F32);
        test_fixture("sd2-small", NULL, backends[k], SD_F32);
    }
    test_fixture("sd1-small", "sd1-small-ldm", test_backend(), SD_F32);
    test_fixture("sd1-small", NULL, test_backend(), SD_BF16);
    test_declarations();
    return tap_end();
}
