#include "adapter/network_layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The layers of a model by name. */
struct layers {
    struct sd_target *v;
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct sd_target *)a)->name, ((const struct sd_target *)b)->name);
}

/* The layer of a place, which begins with "oft_" in place of "lora_" in files of OFT. */
static const struct sd_target *find_layer(const struct layers *l, const char *place)
{
    char name[256];
    if (!strncmp(place, "oft_", 4) && (size_t)snprintf(name, sizeof name, "lora_%s", place + 4) < sizeof name)
        place = name;
    struct sd_target key = {.name = place};
    return l->count ? bsearch(&key, l->v, l->count, sizeof key, by_name) : NULL;
}

const struct sd_network_module *sd_network_at(const struct sd_network *n, const struct sd_target *t)
{
    char name[256];
    const struct sd_network_module *m = sd_network_find(n, t->name);
    if (!m && (size_t)snprintf(name, sizeof name, "oft_%s", t->name + strlen("lora_")) < sizeof name)
        m = sd_network_find(n, name);
    return m;
}

void sd_lora_report_key(struct sd_lora_report *r, const char *key)
{
    size_t used = strlen(r->first);
    if (r->unmatched++ < 4 && used + strlen(key) + 3 <= sizeof r->first) /* whole names only */
        snprintf(r->first + used, sizeof r->first - used, "%s%s", used ? ", " : "", key);
}

/* ---- keys ---- */

/* What the key says behind its layer's name. */
static const char *leaf_of(const struct sd_network_module *m, const char *key)
{
    const char *leaf = key + (m ? strlen(m->name) : strcspn(key, "."));
    return *leaf ? leaf + 1 : leaf;
}

/* Whether a tensor can change a layer: one of a kind that is applied here. */
static bool applies(const struct sd_network_module *m, const char *key)
{
    static const enum sd_network_role strange[] = {SD_ROLE_DORA, SD_ROLE_DIFF, SD_ROLE_DIFF_B, SD_ROLE_W_NORM,
                                                   SD_ROLE_B_NORM};
    if (!m)
        return false;
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++)
        if (m->tensor[strange[i]] && m->tensor[strange[i]]->name == key)
            return false;
    /* LyCORIS and PEFT have rotations of other forms */
    return !m->tensor[SD_ROLE_OFT] || m->tensor[SD_ROLE_OFT]->name != key ||
           !strcmp(leaf_of(m, key), "oft_blocks");
}

static int check_key(const struct sd_network *n, size_t i, const struct layers *layers,
                     struct sd_lora_report *report, struct sd_err *err)
{
    const char *key = sd_tensor_file_entry(n->file, i)->name;
    const struct sd_network_module *m = n->of[i];
    char place[256];
    snprintf(place, sizeof place, "%.*s", (int)strcspn(key, "."), key);
    if (m ? !m->target : !find_layer(layers, place)) {
        sd_lora_report_key(report, key);
        return 0;
    }
    return applies(m, key)
               ? 0
               : sd_err_set(err, SD_ERR_DATA,
                            "%s: %s: there is no \"%s\" in a LoRA, LoCon, LoHa, LoKr or OFT; other "
                            "networks cannot be applied",
                            sd_tensor_file_path(n->file), key, leaf_of(m, key));
}

/* ---- shapes ---- */

static const struct sd_store_entry *first_of(const struct sd_network_module *m,
                                             const enum sd_network_role *roles)
{
    while (!m->tensor[*roles])
        roles++;
    return m->tensor[*roles];
}

/* A tensor that does not fit the layer, or NULL. A convolution's matrix may be flat, [rank, in k k]. */
static const struct sd_store_entry *misfit(const struct sd_network_module *m)
{
    static const enum sd_network_role rows[] = {SD_ROLE_UP, SD_ROLE_W1, SD_ROLE_W1_A},
                                      cols[] = {SD_ROLE_MID, SD_ROLE_DOWN, SD_ROLE_W1_B, SD_ROLE_W2,
                                                SD_ROLE_W2_B};
    const struct sd_target *t = m->target;
    const struct sd_store_entry *oft = m->tensor[SD_ROLE_OFT];
    if (oft) {
        int64_t n = oft->ndim == 3 ? oft->shape[0] : 0;
        bool fits = n > 0 && t->out % n == 0 && oft->shape[1] == t->out / n && oft->shape[2] == t->out / n;
        return fits ? NULL : oft;
    }
    if (m->out != t->out)
        return first_of(m, rows);
    bool flat = m->window == 1 && m->in == t->in * t->kernel * t->kernel;
    return flat || (m->in == t->in && m->kernel == t->kernel) ? NULL : first_of(m, cols);
}

static int check_module(const struct sd_network *n, const struct sd_network_module *m, struct sd_err *err)
{
    const char *path = sd_tensor_file_path(n->file);
    const struct sd_target *t = m->target;
    char text[96];
    if (m->fault)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s", path, m->fault);
    if (sd_network_at(n, t) != m)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s is of both a %s and a %s", path, t->name,
                          sd_network_kind_name(sd_network_at(n, t)->type), sd_network_kind_name(m->type));
    const struct sd_store_entry *e = misfit(m);
    if (!e)
        return 0;
    return sd_err_set(err, SD_ERR_DATA,
                      "%s: %s is %s, which does not fit the %s of a layer from %lld to %lld", path, e->name,
                      sd_store_shape_text(e->ndim, e->shape, text, sizeof text),
                      sd_network_kind_name(m->type), (long long)t->in, (long long)t->out);
}

int sd_network_relate(struct sd_network *n, const struct sd_model_config *c, struct sd_lora_report *report,
                      struct sd_err *err)
{
    struct layers layers;
    *report = (struct sd_lora_report){0};
    if (sd_layers(c, &n->arena, &layers.v, &layers.count, err))
        return -1;
    if (layers.count)
        qsort(layers.v, layers.count, sizeof *layers.v, by_name);
    for (size_t i = 0; i < n->count; i++)
        n->modules[i].target = find_layer(&layers, n->modules[i].place);
    for (size_t i = 0; i < sd_tensor_file_count(n->file); i++)
        if (check_key(n, i, &layers, report, err))
            return -1;
    for (size_t i = 0; i < n->count; i++) {
        struct sd_network_module *m = &n->modules[i];
        if (m->type == SD_NETWORK_OTHER) /* an alpha alone changes nothing */
            m->target = NULL;
        if (m->target && check_module(n, m, err))
            return -1;
        report->modules += m->target != NULL;
    }
    return 0;
}

bool sd_network_is_lora(const struct sd_network *n)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct sd_network_module *m = &n->modules[i];
        if (m->target && (m->type != SD_NETWORK_LORA || m->tensor[SD_ROLE_MID] ||
                          m->target->kind == SD_TARGET_OTHER || m->kernel != m->target->kernel))
            return false;
    }
    return true;
}
