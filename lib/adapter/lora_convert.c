#include "adapter/lora_convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora_pairs.h"
#include "adapter/network_names.h"

bool sd_lora_is_diffusers(const struct sd_network *n)
{
    return n->count && n->order[0]->spelling != SD_LORA_KOHYA;
}

/* SD 2, by sd-scripts' metadata, or by the width of its text encoder. */
static bool is_sd2(const struct sd_network *n)
{
    const char *v2 = sd_tensor_file_meta(n->file, "ss_v2");
    if (v2)
        return !strcmp(v2, "True");
    for (size_t i = 0; i < n->count; i++) {
        const char *attn2 = strstr(n->order[i]->place, "attn2");
        if (attn2 && !strcmp(attn2, "attn2_to_k"))
            return n->order[i]->in == 1024;
    }
    return false;
}

static int rename_pair(const struct sd_network_module *p, bool to_diffusers, struct sd_buf *name,
                       const char *path, struct sd_err *err)
{
    int found = to_diffusers ? sd_network_path(p->name, name) : sd_network_place(p->name, name);
    if (found < 0)
        return sd_err_memory(err, name->len);
    if (found && (p->spelling == SD_LORA_KOHYA) == to_diffusers)
        return 0;
    return sd_err_set(err, SD_ERR_DATA, "%s: %s is no layer of Stable Diffusion 1 or 2 in the names of %s",
                      path, p->tensor[SD_ROLE_DOWN]->name, to_diffusers ? "sd-scripts" : "diffusers");
}

/* alpha of a file that sd_lora_convert wrote; else its own. */
static float kept_alpha(const struct sd_network *n, const struct sd_network_module *p, const char *name,
                        struct sd_buf *key)
{
    sd_buf_clear(key);
    const char *text = sd_buf_addf(key, "sd_alpha.%s", name) ? NULL : sd_tensor_file_meta(n->file, key->data);
    float v = text ? strtof(text, NULL) : (float)p->alpha;
    return isfinite(v) && v != 0 ? v : (float)p->alpha;
}

static int convert_pair(const struct sd_network *n, const struct sd_network_module *p, bool to_diffusers,
                        bool sd2, enum sd_store_dtype save, struct sd_lora_out *out, struct sd_meta *meta,
                        struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT, key = SD_BUF_INIT;
    struct sd_lora_shape shape = {p->rank,
                                  p->in,
                                  p->out,
                                  p->kernel,
                                  sd_lora_pair_is_conv(p),
                                  to_diffusers ? SD_LORA_PEFT : SD_LORA_KOHYA};
    float *up = NULL, *down = NULL, alpha = (float)p->alpha, scale;
    int rc = -1;
    if (rename_pair(p, to_diffusers, &name, sd_tensor_file_path(n->file), err) ||
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
        float kept = kept_alpha(n, p, name.data, &key);
        scale = alpha / kept;
        alpha = kept;
    }
    for (int64_t i = 0; scale != 1 && i < p->out * p->rank; i++)
        up[i] *= scale;
    rc = sd_lora_out_module(out, name.data, &shape, alpha, down, up,
                            save == SD_STORE_DTYPES ? p->tensor[SD_ROLE_DOWN]->dtype : save, err);
out:
    free(up);
    free(down);
    sd_buf_free(&name);
    sd_buf_free(&key);
    return rc;
}

int sd_lora_convert(const struct sd_network *n, bool to_diffusers, enum sd_store_dtype save,
                    struct sd_lora_out *out, struct sd_meta *meta, struct sd_err *err)
{
    size_t own_count;
    const struct sd_store_meta *own = sd_tensor_file_metadata(n->file, &own_count);
    bool sd2 = is_sd2(n);
    if (sd_lora_check(n, true, err) || sd_lora_out_init(out, 3 * n->count, err))
        return -1;
    for (size_t i = 0; i < own_count; i++)
        if (strncmp(own[i].key, "sd_alpha.", 9))
            sd_meta_set(meta, own[i].key, own[i].value);
    for (size_t i = 0; i < n->count; i++)
        if (convert_pair(n, n->order[i], to_diffusers, sd2, save, out, meta, err))
            return -1;
    return meta->failed ? sd_err_memory(err, 64) : 0;
}
