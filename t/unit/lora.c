/* LoRA networks against sd-scripts' networks.lora (t/data/lora, made by t/ref/lora.py): modules and their
 * order, initial values, the first step's loss and gradients, files read and written. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapter/lora.h"
#include "model/clip_text.h"
#include "model/config_json.h"
#include "model/unet.h"
#include "model/weights.h"
#include "store/safetensors.h"
#include "backend.h"
#include "tap.h"
#include "tensor/pass.h"
#include "tensor/plan.h"

static struct sd_tensor_file *open_file(const char *path)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, path, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return tf;
}

static struct sd_model_config config_of(const struct sd_tensor_file *tf)
{
    struct sd_err err = {0};
    struct sd_model_config c = *sd_model_config_builtin("sd1");
    if (sd_model_config_parse_text(&c, sd_tensor_file_meta(tf, "sd_config"), &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return c;
}

static const float *values(const struct sd_tensor_file *tf, const char *prefix, const char *name,
                           size_t *count)
{
    char key[256];
    snprintf(key, sizeof key, "%s%s", prefix, name);
    const struct sd_store_entry *e = sd_tensor_file_find(tf, key);
    *count = e ? e->bytes / 4 : 0;
    return e ? e->data : NULL;
}

static const struct sd_lora_options both = {.rank = 4, .alpha = 1, .text_encoder = true, .unet = true};

static struct sd_lora *make(const struct sd_model_config *c, const struct sd_lora_options *o,
                            struct sd_err *err)
{
    struct sd_lora *l = NULL;
    struct sd_rng rng;
    sd_rng_seed(&rng, 1);
    sd_lora_new(&l, c, o, &rng, err);
    return l;
}

/* Modules of a kind on a full-size model: text, transformers, the rest. */
static void test_counts(const char *arch, struct sd_lora_options o, size_t text, size_t attention,
                        size_t other)
{
    struct sd_err err = {0};
    size_t n[3] = {0};
    struct sd_lora *l = make(sd_model_config_builtin(arch), &o, &err);
    for (size_t i = 0; l && i < l->count; i++)
        n[l->modules[i].target->kind]++;
    if (!l)
        printf("# %s\n", err.msg);
    ok(l && n[0] == text && n[1] == attention && n[2] == other,
       "%s%s has %zu text, %zu transformer, %zu other modules", arch, o.conv_rank ? " with convolutions" : "",
       n[0], n[1], n[2]);
    sd_lora_free(l);
}

static void test_initial_values(const struct sd_model_config *c, const struct sd_tensor_file *run)
{
    struct sd_err err = {0};
    struct sd_lora *l = make(c, &both, &err);
    size_t same = 0, n = 0;
    for (size_t i = 0; l && i < l->count; i++) {
        const struct sd_lora_module *m = &l->modules[i];
        const float *want = values(run, "init.", m->down.name, &n);
        bool equal = want && n == (size_t)(m->rank * m->target->in) && !memcmp(want, m->down.data, 4 * n);
        if (!equal)
            printf("# %s differs\n", m->down.name);
        same += equal;
    }
    size_t all = 0;
    for (size_t i = 0; i < sd_tensor_file_count(run); i++)
        all += !strncmp(sd_tensor_file_entry(run, i)->name, "init.", 5);
    ok(l && all > 0 && same == all && l->count == all,
       "initial values are sd-scripts' to the bit, all of them");

    struct sd_lora_options o = both;
    o.text_encoder = false;
    struct sd_lora *unet = make(c, &o, &err);
    size_t skipped = l && unet ? l->count - unet->count : 0;
    ok(skipped > 0 && !memcmp(unet->modules[0].down.data, l->modules[skipped].down.data, 64),
       "a part that is not trained is drawn all the same");
    sd_lora_free(unet);
    sd_lora_free(l);
}

/* ---- one training step ---- */

static bool find_in_file(void *ctx, const char *name, struct sd_store_entry *entry)
{
    const struct sd_store_entry *e = sd_tensor_file_find(ctx, name);
    if (e)
        *entry = *e;
    return e != NULL;
}

static void to_nhwc(const float *from, float *to, const int64_t *nchw, float scale)
{
    int64_t c = nchw[1], hw = nchw[2] * nchw[3];
    for (int64_t n = 0; n < nchw[0]; n++)
        for (int64_t i = 0; i < c; i++)
            for (int64_t p = 0; p < hw; p++)
                to[(n * hw + p) * c + i] = scale * from[(n * c + i) * hw + p];
}

/* sqrt(alpha_bar), sqrt(1 - alpha_bar) of SD's scaled linear schedule. */
static void noise_table(float *table)
{
    double bar = 1, a = sqrt(0.00085), b = sqrt(0.012);
    for (int i = 0; i < 1000; i++) {
        double root = a + (b - a) * i / 999;
        bar *= 1 - root * root;
        table[2 * i] = (float)sqrt(bar);
        table[2 * i + 1] = (float)sqrt(1 - bar);
    }
}

struct step {
    struct sd_graph *g;
    struct sd_tensor *latents, *noise, *timesteps, *table, *weight, *ids, *seed, *loss;
    struct sd_tensor **grads;
};

static void build(struct step *s, const struct sd_model_config *c, struct sd_weights *w, struct sd_lora *l,
                  const struct sd_store_entry *e, enum sd_dtype dtype, bool checkpoint)
{
    struct sd_nn b;
    struct sd_lora_stack stack = {&l, 1};
    struct sd_graph *g = s->g = sd_graph_new();
    int64_t n = e->shape[0], dim[4] = {n, e->shape[2], e->shape[3], e->shape[1]};
    sd_nn_init(&b, g, dtype, sd_weights_param, w);
    b.adapt = sd_lora_adapt;
    b.adapt_ctx = &stack;
    s->latents = sd_graph_input(g, "latents", SD_F32, 4, dim);
    s->noise = sd_graph_input(g, "noise", SD_F32, 4, dim);
    s->timesteps = sd_graph_input(g, "timesteps", SD_F32, 1, &n);
    s->table = sd_graph_input(g, "table", SD_F32, 2, (int64_t[]){1000, 2});
    s->weight = sd_graph_input(g, "weight", SD_F32, 1, &n);
    s->ids = sd_graph_input(g, "ids", SD_I32, 2, (int64_t[]){n, 77});
    s->seed = sd_graph_input(g, "seed", SD_F32, 1, (int64_t[]){1});
    struct sd_tensor *noisy = sd_graph_mix(g, s->latents, s->noise, s->timesteps, s->table);
    struct sd_tensor *context = sd_clip_text(&b, &c->text, s->ids, 0);
    struct sd_tensor *pred = sd_unet(&b, &c->unet, noisy, s->timesteps, context);
    s->loss = sd_graph_loss(g, SD_LOSS_L2, pred, s->noise, s->weight, NULL);
    if (s->loss && !sd_graph_grad(g, s->loss, s->seed, &s->grads)) {
        sd_graph_output(g, s->loss);
        for (size_t i = 0; i < l->count; i++) {
            struct sd_tensor *v = sd_graph_var(g, &l->modules[i].up, SD_F32);
            if (s->grads[v->id])
                sd_graph_output(g, s->grads[v->id]);
        }
        if (checkpoint)
            sd_graph_checkpoint(g);
        sd_graph_fuse(g);
        sd_graph_prune(g);
    }
    sd_nn_free(&b);
}

static void feed(const struct step *s, struct sd_plan *p, const struct sd_tensor_file *run)
{
    const struct sd_store_entry *x = sd_tensor_file_find(run, "in.00.latents");
    const struct sd_store_entry *noise = sd_tensor_file_find(run, "in.00.noise");
    const struct sd_store_entry *t = sd_tensor_file_find(run, "in.00.timesteps");
    const struct sd_store_entry *ids = sd_tensor_file_find(run, "in.00.ids");
    to_nhwc(x->data, sd_plan_data(p, s->latents), x->shape, 0.18215f);
    to_nhwc(noise->data, sd_plan_data(p, s->noise), x->shape, 1);
    for (int64_t i = 0; i < x->shape[0]; i++) {
        ((float *)sd_plan_data(p, s->timesteps))[i] = (float)((const int32_t *)t->data)[i];
        ((float *)sd_plan_data(p, s->weight))[i] = 1;
    }
    noise_table(sd_plan_data(p, s->table));
    memcpy(sd_plan_data(p, s->ids), ids->data, ids->bytes);
    *(float *)sd_plan_data(p, s->seed) = 1;
}

/* Root of the mean square difference of all gradients in the file, relative to theirs. */
static double gradient_error(const struct step *s, struct sd_plan *p, const struct sd_lora *l,
                             const struct sd_tensor_file *run, int *seen)
{
    double d = 0, scale = 0;
    size_t n;
    for (size_t i = 0; i < l->count; i++) {
        const float *want = values(run, "grad.", l->modules[i].up.name, &n);
        struct sd_tensor *v = sd_graph_var(s->g, &l->modules[i].up, SD_F32);
        if (!want)
            continue;
        if (!s->grads[v->id])
            return INFINITY;
        const float *got = sd_plan_data(p, s->grads[v->id]);
        for (size_t k = 0; k < n; k++) {
            d += ((double)got[k] - (double)want[k]) * ((double)got[k] - (double)want[k]);
            scale += (double)want[k] * (double)want[k];
        }
        ++*seen;
    }
    return sqrt(d / scale);
}

static void test_step(const char *backend, const struct sd_model_config *c, struct sd_tensor_file *model,
                      const struct sd_tensor_file *run, enum sd_dtype dtype, bool checkpoint)
{
    struct sd_err err = {0};
    struct sd_backend *be = sd_backend_new(backend, &err);
    struct sd_weights *w = sd_weights_new(find_in_file, model, &err);
    struct sd_lora *l = make(c, &both, &err);
    struct step s = {0};
    struct sd_plan *p = NULL;
    double loss = INFINITY, grads = INFINITY, limit = dtype == SD_F32 ? 1e-4 : 5e-2;
    int seen = 0;
    if (be && w && l) {
        build(&s, c, w, l, sd_tensor_file_find(run, "in.00.latents"), dtype, checkpoint);
        p = sd_plan_new(s.g, be, &err);
    }
    if (p) {
        size_t n;
        feed(&s, p, run);
        plan_run(p);
        double want = (double)values(run, "", "out.loss", &n)[0];
        loss = fabs((double)*(float *)sd_plan_data(p, s.loss) - want) / want;
        grads = gradient_error(&s, p, l, run, &seen);
    } else {
        printf("# %s\n", err.msg);
    }
    ok(loss < limit && grads < 2 * limit && seen > 20,
       "%s %s%s: loss (%.1e) and %d gradients (%.1e) of sd-scripts' first step", backend,
       sd_dtype_name(dtype), checkpoint ? " checkpointed" : "", loss, seen, grads);
    sd_plan_free(p);
    sd_graph_free(s.g);
    sd_lora_free(l);
    sd_weights_free(w);
    if (be)
        sd_backend_free(be);
}

/* ---- merged ---- */

/* Weights with a network already added to them: W + scale * up down. */
struct merged {
    struct sd_weights *weights;
    const struct sd_lora *lora;
    struct sd_var var[400];
    int n;
};

static void merge(const struct sd_lora_module *m, float *w)
{
    int64_t cols = m->target->in * m->target->kernel * m->target->kernel;
    const float *up = m->up.data, *down = m->down.data;
    for (int64_t o = 0; o < m->target->out; o++)
        for (int64_t i = 0; i < cols; i++)
            for (int64_t r = 0; r < m->rank; r++)
                w[o * cols + i] += m->scale * up[o * m->rank + r] * down[r * cols + i];
}

static struct sd_var *merged_param(void *ctx, const char *name, int ndim, const int64_t *dim,
                                   struct sd_err *err)
{
    struct merged *t = ctx;
    struct sd_var *var = sd_weights_param(t->weights, name, ndim, dim, err);
    for (size_t i = 0; var && i < t->lora->count && t->n < 400; i++) {
        const struct sd_lora_module *m = &t->lora->modules[i];
        size_t len = strlen(m->target->path);
        if (strncmp(name, m->target->path, len) || strcmp(name + len, ".weight"))
            continue;
        struct sd_var *copy = &t->var[t->n++];
        int64_t n = 1;
        for (int k = 0; k < ndim; k++)
            n *= dim[k];
        float *w = malloc((size_t)n * sizeof *w);
        if (!w || sd_dtype_convert(w, SD_F32, var->data, var->dtype, (size_t)n))
            exit(3);
        merge(m, w);
        *copy = *var;
        copy->data = w;
        copy->dtype = SD_F32;
        return copy;
    }
    return var;
}

enum { PREDICTED = 8 * 12 * 4 };

/* One prediction of the U-Net in f32; false when it could not be made. */
static bool predict(const struct sd_model_config *c, sd_nn_param *param, void *ctx,
                    struct sd_lora_stack *stack, const char *backend, float out[PREDICTED])
{
    struct sd_err err = {0};
    struct sd_backend *be = sd_backend_new(backend, &err);
    struct sd_graph *g = sd_graph_new();
    struct sd_nn b;
    if (!be || !g)
        exit(3);
    sd_nn_init(&b, g, SD_F32, param, ctx);
    b.adapt = stack ? sd_lora_adapt : NULL;
    b.adapt_ctx = stack;
    struct sd_tensor *x = sd_graph_input(g, "x", SD_F32, 4, (int64_t[]){1, 8, 12, 4});
    struct sd_tensor *t = sd_graph_input(g, "t", SD_F32, 1, (int64_t[]){1});
    struct sd_tensor *k = sd_graph_input(g, "k", SD_F32, 3, (int64_t[]){1, 77, c->unet.context});
    struct sd_tensor *y = sd_unet(&b, &c->unet, x, t, k);
    if (y)
        sd_graph_output(g, y);
    sd_graph_fuse(g);
    struct sd_plan *p = sd_plan_new(g, be, &err);
    if (p) {
        struct sd_rng rng;
        sd_rng_seed(&rng, 5);
        sd_rng_randn(&rng, sd_plan_data(p, x), (size_t)sd_tensor_count(x));
        sd_rng_randn(&rng, sd_plan_data(p, k), (size_t)sd_tensor_count(k));
        *(float *)sd_plan_data(p, t) = 300;
        plan_run(p);
        memcpy(out, sd_plan_data(p, y), PREDICTED * sizeof *out);
    } else {
        printf("# %s\n", err.msg);
    }
    bool done = p != NULL;
    sd_plan_free(p);
    sd_nn_free(&b);
    sd_graph_free(g);
    sd_backend_free(be);
    return done;
}

/* Every kind of layer, convolutions too: the hook gives what merged weights give, and not what plain ones do.
 */
static void test_merged(const struct sd_model_config *c, struct sd_tensor_file *model, const char *backend)
{
    struct sd_err err = {0};
    struct sd_lora_options o = both;
    o.conv_rank = 3;
    o.conv_alpha = 2;
    struct sd_weights *w = sd_weights_new(find_in_file, model, &err);
    struct sd_lora *l = make(c, &o, &err);
    struct sd_lora_stack stack = {&l, 1};
    struct merged *m = calloc(1, sizeof *m);
    float plain[PREDICTED], hooked[PREDICTED], folded[PREDICTED];
    struct sd_rng rng;
    if (!w || !l || !m)
        exit(3);
    m->weights = w;
    m->lora = l;
    sd_rng_seed(&rng, 9);
    for (size_t i = 0; i < l->count; i++) {
        const struct sd_lora_module *each = &l->modules[i];
        sd_rng_normal(&rng, 0, 0.5, each->up.state, (size_t)(each->rank * each->target->out));
    }
    bool good = predict(c, sd_weights_param, w, NULL, backend, plain) &&
                predict(c, sd_weights_param, w, &stack, backend, hooked) &&
                predict(c, merged_param, m, NULL, backend, folded);
    double d = 0, scale = 0, change = 0;
    for (int i = 0; i < PREDICTED && good; i++) {
        d = fmax(d, fabs((double)hooked[i] - (double)folded[i]));
        change = fmax(change, fabs((double)hooked[i] - (double)plain[i]));
        scale = fmax(scale, fabs((double)folded[i]));
    }
    ok(good && m->n > 200 && d < 1e-4 * scale && change > 0.1 * scale,
       "%s: the hook is what %d merged weights are (%.1e)", backend, m->n, d / scale);
    for (int i = 0; i < m->n; i++)
        free((void *)m->var[i].data);
    free(m);
    sd_lora_free(l);
    sd_weights_free(w);
}

/* ---- files ---- */

static bool same_tensors(const char *a, const char *b)
{
    struct sd_tensor_file *x = open_file(a), *y = open_file(b);
    bool same = sd_tensor_file_count(x) == sd_tensor_file_count(y);
    for (size_t i = 0; same && i < sd_tensor_file_count(x); i++) {
        const struct sd_store_entry *p = sd_tensor_file_entry(x, i), *q = sd_tensor_file_entry(y, i);
        same = !strcmp(p->name, q->name) && p->dtype == q->dtype && p->ndim == q->ndim &&
               !memcmp(p->shape, q->shape, (size_t)p->ndim * sizeof *p->shape) &&
               !memcmp(p->data, q->data, p->bytes);
    }
    const char *h = sd_tensor_file_meta(x, "sshs_model_hash"), *k = sd_tensor_file_meta(y, "sshs_model_hash");
    same = same && h && k && !strcmp(h, k);
    sd_tensor_file_close(x);
    sd_tensor_file_close(y);
    return same;
}

static void test_files(const struct sd_model_config *c, const char *path)
{
    struct sd_err err = {0};
    struct sd_lora_report report;
    struct sd_lora *l = NULL, *back = NULL;
    char copy[] = "/tmp/sd-lora-XXXXXX";
    int fd = mkstemp(copy);
    if (fd >= 0)
        close(fd);
    bool good =
        !sd_lora_open(&l, c, path, 1, true, &report, &err) && report.unmatched == 0 && report.modules == 204;
    ok(good, "reads the file that sd-scripts wrote");
    good = l && !sd_lora_save(l, copy, SD_STORE_F32, NULL, 0, &err) && same_tensors(path, copy);
    ok(good, "writes it back: order, names, shapes, values, hash");

    struct sd_lora *other = make(c, &both, &err);
    good = other && !sd_lora_assign(other, path, &report, &err) && report.modules == l->count &&
           !memcmp(other->values, l->values, l->n_values * sizeof *l->values);
    ok(good, "puts its values into a network");

    good = l && !sd_lora_save(l, copy, SD_STORE_BF16, NULL, 0, &err) &&
           !sd_lora_open(&back, c, copy, 0.5f, false, &report, &err) && back->count == l->count;
    for (size_t i = 0; good && i < back->count; i++) {
        float a = ((const float *)l->modules[i].up.data)[0], b = ((const float *)back->modules[i].up.data)[0];
        good = fabsf(a - b) <= fabsf(a) / 128 && !back->modules[i].up.state && back->modules[i].alpha == 1;
    }
    ok(good, "saves in bfloat16 and reads that");
    if (err.code)
        printf("# %s\n", err.msg);
    sd_lora_free(back);
    sd_lora_free(other);
    sd_lora_free(l);

    const struct sd_model_config *sd2 = sd_model_config_builtin("sd2");
    ok(sd_lora_open(&l, sd2, path, 1, false, &report, &err) && strstr(err.msg, "does not fit"), "%s",
       err.msg);
    unlink(copy);
}

int main(void)
{
    struct sd_tensor_file *model = open_file("t/data/model/sd1-small.safetensors");
    struct sd_tensor_file *run = open_file("t/data/lora/run1.safetensors");
    struct sd_model_config c = config_of(model);
    struct sd_lora_options conv = both;
    conv.conv_rank = 2;
    test_counts("sd1", both, 72, 192, 0);
    test_counts("sd2", both, 138, 192, 0);
    test_counts("sd1", conv, 72, 192, 86);
    test_initial_values(&c, run);
    test_files(&c, "t/data/lora/run1-final.safetensors");
    test_merged(&c, model, "ref");
    test_merged(&c, model, test_backend());
    test_step("ref", &c, model, run, SD_F32, false);
    test_step("ref", &c, model, run, SD_F32, true);
    test_step(test_backend(), &c, model, run, SD_F32, false);
    test_step(test_backend(), &c, model, run, SD_BF16, true);
    sd_tensor_file_close(run);
    sd_tensor_file_close(model);
    return tap_end();
}
