/* LoRA networks in files. */
#include "adapter/lora.h"

#include <string.h>

#include "adapter/lora_out.h"
#include "adapter/lora_pairs.h"

/* Finds the module for a layer, of this rank (0: of any) and with no core: 1, 0 when there is none, -1. */
static int find_module(const struct sd_network *n, const struct sd_target *t, int64_t rank,
                       const struct sd_network_module **found, struct sd_err *err)
{
    const struct sd_network_module *m = *found = sd_network_find(n, t->name);
    const char *path = sd_tensor_file_path(n->file);
    char text[96];
    if (!m || m->type != SD_NETWORK_LORA)
        return 0;
    if (m->fault)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s", path, m->fault);
    rank = rank ? rank : m->rank;
    bool down = m->rank == rank && m->in == t->in && m->kernel == t->kernel && !m->tensor[SD_ROLE_MID];
    if (down && m->out == t->out)
        return 1;
    const struct sd_store_entry *wrong = m->tensor[down ? SD_ROLE_UP : SD_ROLE_DOWN];
    return sd_err_set(err, SD_ERR_DATA,
                      "%s: %s is %s, which does not fit rank %lld of a layer from %lld to %lld", path,
                      wrong->name, sd_store_shape_text(wrong->ndim, wrong->shape, text, sizeof text),
                      (long long)rank, (long long)t->in, (long long)t->out);
}

static void read_values(struct sd_lora_module *to, const struct sd_network_module *from)
{
    const struct sd_store_entry *down = from->tensor[SD_ROLE_DOWN], *up = from->tensor[SD_ROLE_UP];
    sd_store_to_f32(down->dtype, down->data, down->bytes / sd_store_dtype_bytes(down->dtype),
                    (float *)to->down.data);
    sd_store_to_f32(up->dtype, up->data, up->bytes / sd_store_dtype_bytes(up->dtype), (float *)to->up.data);
}

/* Keys of the file that are no tensor of a module of this network. */
static void report_unmatched(const struct sd_lora *l, const struct sd_network *n, struct sd_lora_report *r)
{
    for (size_t i = 0; i < sd_tensor_file_count(n->file); i++) {
        bool pair = sd_lora_holds(n, i), found = false;
        for (size_t k = 0; pair && k < l->count && !found; k++)
            found = !strcmp(l->modules[k].target->name, n->of[i]->place);
        if (!found)
            sd_lora_report_key(r, sd_tensor_file_entry(n->file, i)->name);
    }
}

/* Chooses the modules: those of the file. */
static int choose_modules(struct sd_lora *l, const struct sd_target *targets, size_t n_targets,
                          const struct sd_network *n, struct sd_err *err)
{
    for (size_t i = 0; i < n_targets; i++) {
        const struct sd_network_module *m;
        int found = find_module(n, &targets[i], 0, &m, err);
        if (found < 0)
            return -1;
        if (!found)
            continue;
        l->modules[l->count++] = (struct sd_lora_module){
            .target = &targets[i], .rank = m->rank, .alpha = m->alpha > 0 ? (float)m->alpha : (float)m->rank};
        l->conv_projection |= !targets[i].conv && m->tensor[SD_ROLE_DOWN]->ndim == 4;
    }
    return 0;
}

int sd_lora_open(struct sd_lora **lora, const struct sd_model_config *c, const char *path, float multiplier,
                 bool trainable, struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_network n = {0};
    struct sd_target *targets;
    size_t count;
    *report = (struct sd_lora_report){0};
    *lora = NULL;
    struct sd_lora *l = sd_lora_alloc(c, &targets, &count, err);
    if (!l)
        return -1;
    if (sd_network_open(&n, path, err) || choose_modules(l, targets, count, &n, err) ||
        sd_lora_place(l, trainable, err)) {
        sd_network_close(&n);
        sd_lora_free(l);
        return -1;
    }
    l->multiplier = multiplier;
    for (size_t i = 0; i < l->count; i++)
        read_values(&l->modules[i], sd_network_find(&n, l->modules[i].target->name));
    report->modules = l->count;
    report_unmatched(l, &n, report);
    sd_network_close(&n);
    *lora = l;
    return 0;
}

int sd_lora_assign(struct sd_lora *l, const char *path, struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_network n;
    int found = 0;
    *report = (struct sd_lora_report){0};
    if (sd_network_open(&n, path, err))
        return -1;
    for (size_t i = 0; i < l->count && found >= 0; i++) {
        struct sd_lora_module *m = &l->modules[i];
        const struct sd_network_module *from;
        found = find_module(&n, m->target, m->rank, &from, err);
        if (found <= 0)
            continue;
        read_values(m, from);
        if (from->tensor[SD_ROLE_ALPHA])
            m->alpha = (float)from->alpha;
        report->modules++;
    }
    if (found >= 0)
        report_unmatched(l, &n, report);
    sd_network_close(&n);
    return found < 0 ? -1 : 0;
}

int sd_lora_save(const struct sd_lora *l, const char *path, enum sd_store_dtype dtype,
                 const struct sd_store_meta *meta, size_t meta_count, struct sd_err *err)
{
    struct sd_lora_out out;
    int rc = sd_lora_out_init(&out, 3 * l->count, err);
    for (size_t i = 0; i < l->count && !rc; i++) {
        const struct sd_lora_module *m = &l->modules[i];
        const struct sd_target *t = m->target;
        const struct sd_lora_shape shape = {m->rank,      t->in, t->out, t->kernel, sd_lora_is_conv(l, t),
                                            SD_LORA_KOHYA};
        rc = sd_lora_out_module(&out, t->name, &shape, m->alpha, m->down.data, m->up.data, dtype, err);
    }
    if (!rc)
        rc = sd_lora_out_write(&out, path, meta, meta_count, err);
    sd_lora_out_free(&out);
    return rc;
}
