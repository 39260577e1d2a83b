/* A whole model on the inputs of a file, for comparison with diffusers and transformers at full size:
 *     t/ref/full_shape.py run MODEL REFERENCE        makes inputs (in.*) and outputs (out.*)
 *     full_shape MODEL REFERENCE OURS [f32|bf16]     reads the inputs, writes our outputs
 *     t/ref/full_shape.py compare REFERENCE OURS
 * Pictures and latents are NCHW in these files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/clip_text.h"
#include "model/model_file.h"
#include "model/unet.h"
#include "model/vae.h"
#include "model/weights.h"
#include "store/safetensors_write.h"
#include "tensor/pass.h"
#include "tensor/plan.h"

struct job {
    struct sd_tensor_file *inputs;
    struct sd_model_file *model;
    enum sd_dtype dtype;
    struct sd_store_tensor out[5];
    int64_t shape[5][4];
    size_t count;
};

static void die(const char *message)
{
    fprintf(stderr, "full_shape: %s\n", message);
    exit(1);
}

/* [N,A,B] to [N,B,A], all f32. */
static void swap(const float *from, float *to, int64_t n, int64_t a, int64_t b)
{
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < a; i++)
            for (int64_t j = 0; j < b; j++)
                to[(k * b + j) * a + i] = from[(k * a + i) * b + j];
}

static const struct sd_store_entry *entry(const struct job *j, const char *name)
{
    const struct sd_store_entry *e = sd_tensor_file_find(j->inputs, name);
    if (!e)
        die(name);
    return e;
}

static struct sd_tensor *input(const struct job *j, struct sd_graph *g, const char *name)
{
    const struct sd_store_entry *e = entry(j, name);
    int64_t d[4] = {e->shape[0], e->ndim > 1 ? e->shape[1] : 0, e->ndim > 2 ? e->shape[2] : 0};
    if (e->ndim == 4)
        memcpy(d, (int64_t[]){e->shape[0], e->shape[2], e->shape[3], e->shape[1]}, sizeof d);
    return sd_graph_input(g, name, strstr(name, "ids") ? SD_I32 : SD_F32, e->ndim, d);
}

static void feed(const struct job *j, struct sd_plan *p, const struct sd_tensor *t)
{
    const struct sd_store_entry *e = entry(j, t->name);
    float *to = sd_plan_data(p, t);
    if (e->ndim == 4)
        swap(e->data, to, e->shape[0], e->shape[1], e->shape[2] * e->shape[3]);
    else if (t->dtype == SD_I32)
        memcpy(to, e->data, e->bytes);
    else
        sd_store_to_f32(e->dtype, e->data, (size_t)sd_tensor_count(t), to);
}

/* Keeps `channels` of the output from `first` on, as NCHW. */
static void keep(struct job *j, const char *name, const struct sd_tensor *t, const float *data, int64_t first,
                 int64_t channels)
{
    int64_t c = t->dim[t->ndim - 1], rows = sd_tensor_count(t) / c, n = t->dim[0];
    float *part = malloc((size_t)(rows * channels) * sizeof *part),
          *out = malloc((size_t)(rows * channels) * 4);
    if (!part || !out)
        die("out of memory");
    for (int64_t r = 0; r < rows; r++)
        memcpy(part + r * channels, data + r * c + first, (size_t)channels * sizeof *part);
    if (t->ndim == 4)
        swap(part, out, n, rows / n, channels);
    else
        memcpy(out, part, (size_t)(rows * channels) * sizeof *out);
    int64_t *shape = j->shape[j->count];
    memcpy(shape, (int64_t[]){n, channels, t->dim[1], t->dim[2]}, 4 * sizeof *shape);
    if (t->ndim == 3)
        memcpy(shape, t->dim, 3 * sizeof *shape);
    j->out[j->count++] = (struct sd_store_tensor){
        .name = name, .dtype = SD_STORE_F32, .ndim = t->ndim, .shape = shape, .data = out};
    free(part);
}

static void run(struct job *j, char part)
{
    struct sd_err err = {0};
    const struct sd_model_config *c = sd_model_file_config(j->model);
    struct sd_backend *backend = sd_backend_new("cpu", &err);
    struct sd_weights *w = sd_weights_new(sd_model_file_find, j->model, &err);
    struct sd_graph *g = sd_graph_new();
    struct sd_nn b;
    struct sd_tensor *in[3] = {NULL}, *y;
    if (!backend || !w || !g)
        die(err.msg);
    sd_nn_init(&b, g, j->dtype, sd_weights_param, w);
    if (part == 't') {
        in[0] = input(j, g, "in.text.ids");
        y = sd_clip_text(&b, &c->text, in[0], 0);
    } else if (part == 'e') {
        in[0] = input(j, g, "in.vae.image");
        y = sd_vae_encode(&b, &c->vae, in[0]);
    } else if (part == 'd') {
        in[0] = input(j, g, "in.vae.latents");
        y = sd_vae_decode(&b, &c->vae, in[0]);
    } else {
        in[0] = input(j, g, "in.unet.sample");
        in[1] = input(j, g, "in.unet.timesteps");
        in[2] = input(j, g, "in.unet.context");
        y = sd_unet(&b, &c->unet, in[0], in[1], in[2]);
    }
    y = sd_nn_cast(&b, y, SD_F32);
    if (sd_graph_error(g, &err) || sd_weights_check(w, sd_model_file_path(j->model), &err))
        die(err.msg);
    sd_graph_output(g, y);
    sd_graph_fuse(g);
    struct sd_plan *p = sd_plan_new(g, backend, &err);
    if (!p)
        die(err.msg);
    for (int i = 0; i < 3 && in[i]; i++)
        feed(j, p, in[i]);
    if (sd_plan_run(p, &err))
        die(err.msg);
    const float *data = sd_plan_data(p, y);
    int64_t channels = y->dim[y->ndim - 1];
    if (part == 'e') {
        keep(j, "out.vae.mean", y, data, 0, channels / 2);
        keep(j, "out.vae.logvar", y, data, channels / 2, channels / 2);
    } else {
        keep(j,
             part == 't'   ? "out.text.last"
             : part == 'd' ? "out.vae.image"
                           : "out.unet",
             y, data, 0, channels);
    }
    sd_plan_free(p);
    sd_nn_free(&b);
    sd_graph_free(g);
    sd_weights_free(w);
    sd_backend_free(backend);
}

int main(int argc, char **argv)
{
    struct sd_err err = {0};
    struct job j = {.dtype = argc > 4 && !strcmp(argv[4], "bf16") ? SD_BF16 : SD_F32};
    if (argc < 4)
        die("usage: full_shape MODEL REFERENCE OURS [f32|bf16]");
    if (sd_model_file_open(&j.model, argv[1], &err) || sd_tensor_file_open(&j.inputs, argv[2], &err))
        die(err.msg);
    for (const char *part = "tedu"; *part; part++)
        run(&j, *part);
    if (sd_store_write(argv[3], j.out, j.count, NULL, 0, &err))
        die(err.msg);
    for (size_t i = 0; i < j.count; i++)
        free((void *)j.out[i].data);
    sd_tensor_file_close(j.inputs);
    sd_model_file_close(j.model);
    return 0;
}
