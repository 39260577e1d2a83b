#include "adapter/lora_meta.h"

#include "base/path.h"

#include <stdio.h>
#include <string.h>

#include "base/pyfloat.h"

static char *keep(struct sd_meta *m, const char *text)
{
    char *copy = sd_arena_strdup(&m->arena, text);
    m->failed |= !copy;
    return copy;
}

static bool room(struct sd_meta *m)
{
    if (m->n < m->cap)
        return true;
    size_t cap = m->cap ? 2 * m->cap : 64;
    struct sd_store_meta *more = sd_arena_array(&m->arena, cap, sizeof *more);
    if (!more) {
        m->failed = true;
        return false;
    }
    if (m->n)
        memcpy(more, m->v, m->n * sizeof *more);
    m->v = more;
    m->cap = cap;
    return true;
}

static void append(struct sd_meta *m, const char *key, const char *value)
{
    char *k = keep(m, key), *v = keep(m, value);
    if (k && v && room(m))
        m->v[m->n++] = (struct sd_store_meta){k, v};
}

void sd_meta_set(struct sd_meta *m, const char *key, const char *value)
{
    if (!value)
        return;
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->v[i].key, key)) {
            char *v = keep(m, value);
            m->v[i].value = v ? v : m->v[i].value;
            return;
        }
    append(m, key, value);
}

void sd_meta_set_float(struct sd_meta *m, const char *key, double v)
{
    char text[32];
    sd_python_float(v, text);
    sd_meta_set(m, key, text);
}

void sd_meta_set_int(struct sd_meta *m, const char *key, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    sd_meta_set(m, key, text);
}

void sd_meta_copy(struct sd_meta *m, const struct sd_tensor_file *tf)
{
    size_t n;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(tf, &n);
    for (size_t i = 0; i < n; i++) /* a header has each key once */
        append(m, meta[i].key, meta[i].value);
}

void sd_meta_free(struct sd_meta *m)
{
    sd_arena_free(&m->arena);
    *m = (struct sd_meta){0};
}

static const char *stem(struct sd_meta *m, const char *path)
{
    const char *base = sd_path_base(path);
    char *s = sd_arena_strndup(&m->arena, base, sd_path_stem_len(base));
    m->failed |= !s;
    return s;
}

const char *sd_meta_title(struct sd_meta *m, const struct sd_tensor_file *tf, const char *path)
{
    const char *title = sd_tensor_file_meta(tf, "modelspec.title");
    return title ? title : stem(m, path);
}

void sd_meta_modelspec(struct sd_meta *m, const struct sd_modelspec *s)
{
    char text[64];
    struct tm tm;
    const char *kind = !s->v2 ? "v1" : s->v_prediction ? "v2-768-v" : "v2-512";
    snprintf(text, sizeof text, "stable-diffusion-%s%s", kind, s->lora ? "/lora" : "");
    sd_meta_set(m, "modelspec.sai_model_spec", "1.0.1");
    sd_meta_set(m, "modelspec.architecture", text);
    sd_meta_set(m, "modelspec.implementation",
                s->lora || s->diffusers ? "diffusers" : "https://github.com/Stability-AI/generative-models");
    sd_meta_set(m, "modelspec.title", stem(m, s->path));
    sd_meta_set(m, "modelspec.resolution", s->v2 && s->v_prediction ? "768x768" : "512x512");
    if (localtime_r(&s->date, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm))
        sd_meta_set(m, "modelspec.date", text);
    sd_meta_set(m, "modelspec.merged_from", s->merged_from);
    sd_meta_set(m, "modelspec.prediction_type", s->v_prediction ? "v" : "epsilon");
}
