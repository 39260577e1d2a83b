#include "adapter/lora_pairs.h"

#include "adapter/network_product.h"

static int check_module(const struct sd_network *n, const struct sd_network_module *m, struct sd_err *err)
{
    const char *path = sd_tensor_file_path(n->file);
    const struct sd_store_entry *down = m->tensor[SD_ROLE_DOWN];
    char text[96];
    if (m->fault)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s", path, m->fault);
    if (m->kernel)
        return 0;
    return sd_err_set(err, SD_ERR_DATA, "%s: %s is %s, expected [rank,in] or [rank,in,k,k]", path, down->name,
                      sd_store_shape_text(down->ndim, down->shape, text, sizeof text));
}

bool sd_lora_holds(const struct sd_network *n, size_t i)
{
    const struct sd_network_module *m = n->of[i];
    const char *name = sd_tensor_file_entry(n->file, i)->name;
    for (int r = SD_ROLE_DOWN; m && m->type == SD_NETWORK_LORA && r <= SD_ROLE_ALPHA; r++)
        if (m->tensor[r] && m->tensor[r]->name == name)
            return true;
    return false;
}

int sd_lora_check(const struct sd_network *n, bool only, struct sd_err *err)
{
    const char *path = sd_tensor_file_path(n->file), *other = NULL;
    size_t pairs = 0, others = 0;
    for (size_t i = 0; i < n->count; i++) {
        if (n->order[i]->type != SD_NETWORK_LORA)
            continue;
        pairs++;
        if (check_module(n, n->order[i], err))
            return -1;
    }
    if (!pairs)
        return sd_err_set(err, SD_ERR_DATA, "%s: no LoRA: not one lora_down or lora_A matrix in it", path);
    for (size_t i = sd_tensor_file_count(n->file); only && i-- > 0;)
        if (!sd_lora_holds(n, i)) {
            other = sd_tensor_file_entry(n->file, i)->name;
            others++;
        }
    if (!others)
        return 0;
    return sd_err_set(
        err, SD_ERR_DATA,
        "%s: %s and %zu more tensors are no pair of lora_down and lora_up, which is all that can "
        "be worked on here",
        path, other, others - 1);
}

int sd_lora_pair_read(const struct sd_network_module *m, float **up, float **down, struct sd_err *err)
{
    struct sd_delta d;
    if (sd_delta_load(&d, m, err))
        return -1;
    *up = d.m[0].u;
    *down = d.m[0].d;
    return 0;
}

bool sd_lora_pair_is_conv(const struct sd_network_module *m)
{
    return m->tensor[SD_ROLE_DOWN]->ndim == 4;
}

int64_t sd_lora_pair_width(const struct sd_network_module *m)
{
    return m->in * m->window;
}

float sd_lora_pair_scale(const struct sd_network_module *m)
{
    return (float)m->alpha / (float)m->rank;
}
