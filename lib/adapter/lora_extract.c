#include "adapter/lora_extract.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/svd.h"
#include "adapter/target.h"
#include "base/filemap.h"

struct work {
    struct sd_model_file *original, *tuned;
    const struct sd_lora_extract_options *o;
    struct sd_lora_out *out;
    struct sd_lora_extract_report *report;
    bool conv_projection; /* see struct sd_lora_options */
    size_t done, total;
    bool failed;
    struct sd_err *err;
};

static size_t values_of(const struct sd_target *t)
{
    return (size_t)(t->out * t->in * t->kernel * t->kernel);
}

/* A layer's weight, rounded; free() it. */
static float *read_weight(struct sd_model_file *mf, const struct sd_target *t, enum sd_store_dtype load,
                          struct sd_err *err)
{
    char name[512];
    struct sd_store_entry e;
    size_t n = values_of(t);
    snprintf(name, sizeof name, "%s.weight", t->path);
    if (!sd_model_file_find(mf, name, &e)) {
        sd_err_set(err, SD_ERR_DATA, "%s: %s is missing", sd_model_file_path(mf), name);
        return NULL;
    }
    if (e.bytes != n * sd_store_dtype_bytes(e.dtype)) {
        char text[96];
        sd_err_set(err, SD_ERR_DATA, "%s: %s is %s, expected %lld x %lld: not the same kind of model",
                   sd_model_file_path(mf), name, sd_store_shape_text(e.ndim, e.shape, text, sizeof text),
                   (long long)t->out, (long long)(t->in * t->kernel * t->kernel));
        return NULL;
    }
    float *v = malloc(n * sizeof *v);
    if (!v) {
        sd_err_memory(err, n * sizeof *v);
        return NULL;
    }
    sd_store_to_f32(e.dtype, e.data, n, v);
    if (e.mapped)
        sd_filemap_release(e.data, e.bytes);
    sd_store_round(load, v, n);
    return v;
}

/* tuned - original; free() it. */
static float *difference(struct work *w, const struct sd_target *t, float *largest, struct sd_err *err)
{
    size_t n = values_of(t);
    float *a = read_weight(w->original, t, w->o->load, err);
    float *b = a ? read_weight(w->tuned, t, w->o->load, err) : NULL;
    *largest = 0;
    for (size_t i = 0; b && i < n; i++)
        b[i] -= a[i];
    if (b)
        sd_store_round(w->o->load, b, n);
    for (size_t i = 0; b && i < n; i++)
        *largest = fmaxf(*largest, fabsf(b[i]));
    free(a);
    return b;
}

static int64_t rank_of(const struct sd_lora_extract_options *o, const struct sd_target *t)
{
    int64_t rank = t->kernel > 1 ? o->conv_dim : o->dim, most = t->in < t->out ? t->in : t->out;
    return rank < most ? rank : most;
}

static int extract(struct work *w, const struct sd_target *t, struct sd_err *err)
{
    struct sd_svd svd = {0};
    struct sd_lora_shape shape = {rank_of(w->o, t), t->in, t->out, t->kernel, t->conv, SD_LORA_KOHYA};
    bool projection = strstr(t->path, ".proj_in") || strstr(t->path, ".proj_out");
    float largest, *diff = difference(w, t, &largest, err);
    int rc = -1;
    shape.conv |= w->conv_projection && projection;
    if (!diff)
        return -1;
    if (sd_svd(&svd, diff, t->out, t->in * t->kernel * t->kernel, shape.rank, err)) {
        sd_err_prefix(err, "%s", t->name);
        goto out;
    }
    free(diff);
    diff = NULL;
    if (sd_svd_clamp(&svd, w->o->clamp_quantile, err))
        goto out;
#pragma omp critical(sd_lora_extract)
    {
        w->report->different |= largest > 0;
        rc = sd_lora_out_module(w->out, t->name, &shape, (float)shape.rank, svd.vt, svd.us, w->o->save, err);
    }
out:
    free(diff);
    sd_svd_free(&svd);
    return rc;
}

/* One of many, by any thread. */
static void extract_one(struct work *w, const struct sd_target *t)
{
    struct sd_err err = {0};
    bool stop;
#pragma omp atomic read
    stop = w->failed;
    if (stop)
        return;
    int rc = extract(w, t, &err);
#pragma omp critical(sd_lora_extract)
    {
        if (rc && !w->failed)
            *w->err = err;
        if (!rc)
            w->report->modules++;
        if (rc || (w->o->go_on && !w->o->go_on(w->o->ctx, ++w->done, w->total))) {
#pragma omp atomic write
            w->failed = true;
        }
    }
}

static int text_encoder_differs(struct work *w, const struct sd_target *targets, size_t n)
{
    w->report->text_diff = 0;
    for (size_t i = 0; i < n; i++) {
        float largest;
        float *diff = targets[i].kind == SD_TARGET_TEXT ? difference(w, &targets[i], &largest, w->err) : NULL;
        if (targets[i].kind != SD_TARGET_TEXT)
            continue;
        if (!diff)
            return -1;
        free(diff);
        w->report->text_diff = fmaxf(w->report->text_diff, largest);
    }
    w->report->text_encoder = (double)w->report->text_diff > w->o->min_diff;
    return 0;
}

int sd_lora_extract(struct sd_model_file *original, struct sd_model_file *tuned,
                    const struct sd_lora_extract_options *o, struct sd_lora_out *out,
                    struct sd_lora_extract_report *report, struct sd_err *err)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_target *targets;
    size_t n, kept = 0;
    struct work w = {original, tuned, o, out, report, .err = err};
    const struct sd_model_config *c = sd_model_file_config(original);
    int rc = -1;
    *report = (struct sd_lora_extract_report){0};
    for (int p = 0; p < SD_PARTS; p++)
        if (p != SD_PART_VAE && (sd_model_file_need(original, (enum sd_part)p, err) ||
                                 sd_model_file_need(tuned, (enum sd_part)p, err)))
            return -1;
    if (sd_targets(c, &arena, &targets, &n, err) || text_encoder_differs(&w, targets, n))
        goto out;
    w.conv_projection = c->unet.linear_projection && !sd_model_file_is_folder(original);
    for (size_t i = 0; i < n; i++)
        if ((targets[i].kind != SD_TARGET_TEXT || report->text_encoder) &&
            (targets[i].kind != SD_TARGET_RESNET || o->conv_dim))
            targets[kept++] = targets[i];
    w.total = kept;
    if (sd_lora_out_init(out, 3 * kept, err))
        goto out;
#pragma omp parallel for schedule(dynamic, 1) num_threads(o->threads)
    for (size_t i = 0; i < kept; i++)
        extract_one(&w, &targets[i]);
    rc = w.failed ? -1 : 0;
out:
    sd_arena_free(&arena);
    return rc;
}
