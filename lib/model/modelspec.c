#include "model/modelspec.h"

#include <stdio.h>
#include <string.h>

#include "base/path.h"

/* The last name of a path, without its ending unless that is a folder's. */
static const char *name_of(struct sd_meta *m, const char *path, bool folder)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    char *name = sd_arena_strndup(&m->arena, path, len);
    const char *base = name ? sd_path_base(name) : NULL;
    if (base && !folder)
        base = sd_arena_strndup(&m->arena, base, sd_path_stem_len(base));
    m->failed |= !base;
    return base;
}

const char *sd_modelspec_title(struct sd_meta *m, const struct sd_tensor_file *tf, const char *path)
{
    const char *title = tf ? sd_tensor_file_meta(tf, "modelspec.title") : NULL;
    return title ? title : name_of(m, path, !tf);
}

void sd_modelspec_set(struct sd_meta *m, const struct sd_modelspec *s)
{
    char text[64];
    struct tm tm;
    const char *kind = !s->v2 ? "v1" : s->v_prediction ? "v2-768-v" : "v2-512";
    int side = s->side ? s->side : s->v2 && s->v_prediction ? 768 : 512;
    snprintf(text, sizeof text, "stable-diffusion-%s%s", kind, s->lora ? "/lora" : "");
    sd_meta_set(m, "modelspec.sai_model_spec", "1.0.1");
    sd_meta_set(m, "modelspec.architecture", text);
    sd_meta_set(m, "modelspec.implementation",
                s->lora || s->diffusers ? "diffusers" : "https://github.com/Stability-AI/generative-models");
    sd_meta_set(m, "modelspec.title", name_of(m, s->path, false));
    snprintf(text, sizeof text, "%dx%d", side, side);
    sd_meta_set(m, "modelspec.resolution", text);
    if (localtime_r(&s->date, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm))
        sd_meta_set(m, "modelspec.date", text);
    sd_meta_set(m, "modelspec.merged_from", s->merged_from);
    sd_meta_set(m, "modelspec.prediction_type", s->v_prediction ? "v" : "epsilon");
    sd_meta_set(m, "modelspec.timestep_range", s->timestep_range);
    if (s->clip_skip)
        sd_meta_set_int(m, "modelspec.encoder_layer", s->clip_skip);
}
