/* Losses and their gradients against sd-scripts (t/data/optim/loss.safetensors, made by t/ref/loss.py), on
 * the reference and the tested backend. */
#include <math.h>
#include <string.h>

#include "backend.h"
#include "fixture.h"
#include "tap.h"
#include "tensor/pass.h"

static const float *values(const struct sd_tensor_file *tf, const char *kind, const char *name, int64_t *n)
{
    const struct sd_store_entry *e = fixture(tf, "%s%s", kind, name);
    *n = fixture_floats(e);
    return e->data;
}

static struct sd_tensor *row(struct sd_graph *g, struct sd_var *v, const struct sd_tensor_file *tf,
                             const char *name, int64_t samples, bool trained)
{
    int64_t n;
    const float *data = values(tf, "", name, &n);
    *v = (struct sd_var){.name = name, .dtype = SD_F32, .data = data};
    v->ndim = n == samples ? 1 : 2;
    v->dim[0] = samples;
    v->dim[1] = n / samples;
    if (trained) {
        v->state = malloc((size_t)n * sizeof(float));
        v->data = memcpy(v->state, data, (size_t)n * sizeof(float));
        v->trainable = true;
    }
    return sd_graph_var(g, v, SD_F32);
}

static void check(const char *backend, const struct sd_tensor_file *tf, enum sd_loss kind, const char *name)
{
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    struct sd_var v[4];
    int64_t n, one, samples;
    values(tf, "", "weight", &samples);
    struct sd_tensor *pred = row(g, &v[0], tf, "pred", samples, true),
                     *target = row(g, &v[1], tf, "target", samples, false);
    struct sd_tensor *weight = row(g, &v[2], tf, "weight", samples, false);
    struct sd_tensor *delta = kind < SD_LOSS_SMOOTH_L1 ? NULL : row(g, &v[3], tf, "delta", samples, false);
    struct sd_tensor *loss = sd_graph_loss(g, kind, pred, target, weight, delta), **grads;
    struct sd_backend *b = sd_backend_new(backend, &err);
    must(!b || sd_graph_grad(g, loss, sd_graph_fill(g, SD_F32, 1, (int64_t[]){1}, 1), &grads), &err);
    struct sd_tensor *grad = grads[pred->id];
    sd_graph_output(g, loss);
    sd_graph_output(g, grad);
    struct sd_plan *p = sd_plan_new(g, b, &err);
    must(!p, &err);
    plan_run(p);
    const float *want_loss = values(tf, name, ".loss", &one), *want_grad = values(tf, name, ".grad", &n);
    double d = fixture_difference(sd_plan_data(p, loss), want_loss, one),
           e = fixture_difference(sd_plan_data(p, grad), want_grad, n);
    ok(d < 1e-6 && e < 1e-6 && n == sd_tensor_count(grad), "%s: %s (%.1e), and its gradient (%.1e)", backend,
       name, d, e);
    sd_plan_free(p);
    sd_backend_free(b);
    sd_graph_free(g);
    free(v[0].state);
}

/* delta is given where it is needed, and only there. */
static void check_refused(enum sd_loss kind, bool delta)
{
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    struct sd_tensor *x = sd_graph_input(g, "x", SD_F32, 2, (int64_t[]){2, 3});
    struct sd_tensor *w = sd_graph_input(g, "w", SD_F32, 1, (int64_t[]){2});
    ok(!sd_graph_loss(g, kind, x, x, w, delta ? w : NULL) && sd_graph_error(g, &err) &&
           strstr(err.msg, "delta"),
       "%s", err.msg);
    sd_graph_free(g);
}

int main(void)
{
    static const char *const names[] = {"l2", "l1", "smooth_l1", "huber"};
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, "t/data/optim/loss.safetensors", &err), &err);
    for (int i = 0; i < 4; i++) {
        check("ref", tf, (enum sd_loss)i, names[i]);
        check(test_backend(), tf, (enum sd_loss)i, names[i]);
    }
    check_refused(SD_LOSS_L2, true);
    check_refused(SD_LOSS_HUBER, false);
    sd_tensor_file_close(tf);
    return tap_end();
}
