#include "adapter/lora_convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool sd_lora_is_diffusers(const struct sd_lora_modules *m)
{
    return m->pairs[0].spelling != SD_LORA_KOHYA;
}

/* SD 2, by sd-scripts' metadata, or by the width of its text encoder. */
static bool is_sd2(const struct sd_lora_modules *m)
{
    const char *v2 = sd_tensor_file_meta(m->file, "ss_v2");
    if (v2)
        return !strcmp(v2, "True");
    for (size_t i = 0; i < m->count; i++) {
        const char *name = m->pairs[i].name, *attn2 = strstr(name, "attn2");
        if (attn2 && (!strcmp(attn2 + 5, ".to_k") || !strcmp(attn2 + 5, "_to_k")))
            return m->pairs[i].in == 1024;
    }
    return false;
}

static int rename_pair(const struct sd_lora_pair *p, bool to_diffusers, struct sd_buf *name, const char *path,
                       struct sd_err *err)
{
    int found = to_diffusers ? sd_network_path(p->name, name) : sd_network_place(p->name, name);
    if (found < 0)
        return sd_err_memory(err, name->len);
    if (found && (p->spelling == SD_LORA_KOHYA) == to_diffusers)
        return 0;
    return sd_err_set(err, SD_ERR_DATA, "%s: %s is no layer of Stable Diffusion 1 or 2 in the names of %s",
                      path, p->down->name, to_diffusers ? "sd-scripts" : "diffusers");
}

/* alpha of a file that sd_lora_convert wrote; else its own. */
static float kept_alpha(const struct sd_lora_modules *m, const struct sd_lora_pair *p, const char *name,
                        struct sd_buf *key)
{
    sd_buf_clear(key);
    const char *text = sd_buf_addf(key, "sd_alpha.%s", name) ? NULL : sd_tensor_file_meta(m->file, key->data);
    float v = text ? strtof(text, NULL) : p->alpha;
    return isfinite(v) && v != 0 ? v : p->alpha;
}

static int convert_pair(const struct sd_lora_modules *m, const struct sd_lora_pair *p, bool to_diffusers,
                        bool sd2, enum sd_store_dtype save, struct sd_lora_out *out, struct sd_meta *meta,
                        struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT, key = SD_BUF_INIT;
    struct sd_lora_shape shape = {p->rank,   p->in,   p->out,
                                  p->kernel, p->conv, to_diffusers ? SD_LORA_PEFT : SD_LORA_KOHYA};
    float *up = NULL, *down = NULL, alpha = p->alpha, scale;
    int rc = -1;
    if (rename_pair(p, to_diffusers, &name, sd_tensor_file_path(m->file), err) ||
        sd_lora_pair_read(p, &up, &down, err))
        goto out;
    if (sd2 && p->kernel == 1 && (strstr(p->name, "proj_in") || (strstr(p->name, "proj_out"))))
        shape.conv = !to_diffusers;
    if (to_diffusers) {
        scale = alpha / (float)p->rank;
        if (!sd_buf_addf(&key, "sd_alpha.%s", p->name) && alpha != (float)p->rank)
            sd_meta_set_float(meta, key.data, (double)alpha);
        alpha = NAN;
    } else { /* what the other way did to up, undone; and alpha that was in the file stays */
        float kept = kept_alpha(m, p, name.data, &key);
        scale = p->alpha / kept;
        alpha = kept;
    }
    for (int64_t i = 0; scale != 1 && i < p->out * p->rank; i++)
        up[i] *= scale;
    rc = sd_lora_out_module(out, name.data, &shape, alpha, down, up,
                            save == SD_STORE_DTYPES ? p->down->dtype : save, err);
out:
    free(up);
    free(down);
    sd_buf_free(&name);
    sd_buf_free(&key);
    return rc;
}

int sd_lora_convert(const struct sd_lora_modules *m, bool to_diffusers, enum sd_store_dtype save,
                    struct sd_lora_out *out, struct sd_meta *meta, struct sd_err *err)
{
    size_t n;
    const struct sd_store_meta *own = sd_tensor_file_metadata(m->file, &n);
    bool sd2 = is_sd2(m);
    if (sd_lora_modules_only_pairs(m, err) || sd_lora_out_init(out, 3 * m->count, err))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (strncmp(own[i].key, "sd_alpha.", 9))
            sd_meta_set(meta, own[i].key, own[i].value);
    for (size_t i = 0; i < m->count; i++)
        if (convert_pair(m, &m->pairs[i], to_diffusers, sd2, save, out, meta, err))
            return -1;
    return meta->failed ? sd_err_memory(err, 64) : 0;
}
