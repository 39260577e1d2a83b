#include "model/layout.h"

#include <string.h>

#include "model/declare.h"

/* One parameter: a tensor of its own, or another third of the one before it with this key. Fused tensors'
 * parameters come in the order of the network, q, k, v, with nothing but their biases between. */
static int place(const struct sd_var *v, enum sd_part part, enum sd_naming naming, const char *key, int slice,
                 struct sd_arena *arena, struct sd_layout_tensor *list, size_t *count, struct sd_err *err)
{
    for (size_t i = *count; slice > 0 && i-- > 0;)
        if (!strcmp(list[i].key, key)) {
            list[i].param[slice] = sd_arena_strdup(arena, v->name);
            return list[i].param[slice] ? 0 : sd_err_memory(err, strlen(v->name));
        }
    struct sd_layout_tensor *t = &list[(*count)++];
    *t = (struct sd_layout_tensor){.key = sd_arena_strdup(arena, key),
                                   .ndim = v->ndim,
                                   .param = {sd_arena_strdup(arena, v->name)},
                                   .params = slice < 0 ? 1 : 3};
    if (!t->key || !t->param[0])
        return sd_err_memory(err, strlen(key));
    memcpy(t->shape, v->dim, sizeof t->shape);
    t->shape[0] *= t->params;
    if (part == SD_PART_VAE && naming == SD_NAMING_LDM && v->ndim == 2) {
        t->shape[2] = t->shape[3] = 1;
        t->ndim = 4;
    }
    return 0;
}

int sd_layout_part(const struct sd_model_config *c, enum sd_part part, const struct sd_part_names *names,
                   struct sd_arena *arena, struct sd_layout_tensor **out, size_t *count, struct sd_err *err)
{
    struct sd_buf key = SD_BUF_INIT;
    struct sd_weights *w = sd_weights_new(NULL, NULL, err);
    int rc = !w || sd_model_declare(w, c, part, NULL, NULL, err) ? -1 : 0;
    size_t n = rc ? 0 : sd_weights_count(w);
    *count = 0;
    *out = rc ? NULL : sd_arena_array(arena, n + 1, sizeof **out);
    if (!rc && !*out)
        rc = sd_err_memory(err, n * sizeof **out);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct sd_var *v = sd_weights_var(w, i);
        int slice, found = sd_name_to_file(c, names, v->name, &key, &slice);
        if (found > 0)
            rc = place(v, part, names->naming, key.data, slice, arena, *out, count, err);
        else
            rc = found ? sd_err_memory(err, key.len)
                       : sd_err_set(err, SD_ERR_USAGE, "%s has no name in this layout", v->name);
    }
    sd_buf_free(&key);
    sd_weights_free(w);
    return rc;
}
