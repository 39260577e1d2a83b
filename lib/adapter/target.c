#include "adapter/target.h"

#include <stdlib.h>
#include <string.h>

#include "adapter/network_names.h"
#include "model/declare.h"

/* Parts of paths in the order in which the modules of sd-scripts' U-Net and of transformers' CLIP were
 * registered, where that is not the order of computation. */
static const char *const order[] = {
    "text_encoder",
    "unet",
    "down_blocks",
    "up_blocks",
    "mid_block",
    "attentions",
    "resnets",
    "downsamplers",
    "upsamplers",
    "proj_in",
    "transformer_blocks",
    "proj_out",
    "attn1",
    "ff",
    "attn2",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "conv1",
    "time_emb_proj",
    "conv2",
    "conv_shortcut",
    "self_attn",
    "mlp",
    "k_proj",
    "v_proj",
    "q_proj",
    "out_proj",
    "fc1",
    "fc2",
};

static long rank(const char *part, size_t len)
{
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (strlen(order[i]) == len && !memcmp(order[i], part, len))
            return (long)i;
    return strtol(part, NULL, 10);
}

static int by_registration(const void *x, const void *y)
{
    const char *a = ((const struct sd_target *)x)->path, *b = ((const struct sd_target *)y)->path;
    for (;;) {
        size_t la = strcspn(a, "."), lb = strcspn(b, ".");
        long ra = rank(a, la), rb = rank(b, lb);
        if (ra != rb)
            return ra < rb ? -1 : 1;
        if (!a[la] || !b[lb])
            return (a[la] != 0) - (b[lb] != 0);
        a += la + 1;
        b += lb + 1;
    }
}

struct collection {
    struct sd_arena *arena;
    struct sd_target *list;
    size_t count, cap;
    bool all, no_memory;
};

static bool kind_of(const char *path, enum sd_target_kind *kind)
{
    bool text = !strncmp(path, "text_encoder.", 13);
    if (text && (strstr(path, ".self_attn.") || strstr(path, ".mlp.")))
        *kind = SD_TARGET_TEXT;
    else if (!text && strstr(path, ".attentions."))
        *kind = SD_TARGET_ATTENTION;
    else if (!text && (strstr(path, ".resnets.") || strstr(path, "samplers.")))
        *kind = SD_TARGET_RESNET;
    else
        return *kind = SD_TARGET_OTHER, false;
    return true;
}

static char *adapter_name(struct sd_arena *arena, const char *path)
{
    struct sd_buf b = SD_BUF_INIT;
    char *name = sd_network_place(path, &b) < 0 ? NULL : sd_arena_strdup(arena, b.data);
    sd_buf_free(&b);
    return name;
}

static struct sd_tensor *collect(void *ctx, struct sd_nn *b, const struct sd_nn_layer *layer,
                                 struct sd_tensor *x, struct sd_tensor *y)
{
    struct collection *c = ctx;
    enum sd_target_kind kind;
    (void)b;
    (void)x;
    if (c->no_memory || (!kind_of(layer->path, &kind) && !c->all))
        return y;
    if (c->count == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 512;
        struct sd_target *more = sd_arena_array(c->arena, cap, sizeof *more);
        if (more && c->count)
            memcpy(more, c->list, c->count * sizeof *more);
        c->list = more ? more : c->list;
        c->cap = more ? cap : c->cap;
        c->no_memory = !more;
    }
    if (!c->no_memory)
        c->list[c->count++] = (struct sd_target){
            .path = sd_arena_strdup(c->arena, layer->path),
            .name = adapter_name(c->arena, layer->path),
            .kind = kind,
            .in = layer->in,
            .out = layer->out,
            .kernel = layer->kernel,
            .conv = layer->conv,
            .window = layer->window,
        };
    if (!c->no_memory && (!c->list[c->count - 1].path || !c->list[c->count - 1].name))
        c->no_memory = true;
    return y;
}

static int find_all(const struct sd_model_config *c, bool all, struct sd_arena *arena,
                    struct sd_target **targets, size_t *count, struct sd_err *err)
{
    struct collection found = {.arena = arena, .all = all};
    struct sd_weights *names = sd_weights_new(NULL, NULL, err);
    int rc = !names || sd_model_declare(names, c, SD_PART_TEXT, collect, &found, err) ||
             sd_model_declare(names, c, SD_PART_UNET, collect, &found, err);
    sd_weights_free(names);
    if (rc)
        return -1;
    if (found.no_memory)
        return sd_err_memory(err, found.cap * sizeof *found.list);
    if (found.count)
        qsort(found.list, found.count, sizeof *found.list, by_registration);
    *targets = found.list;
    *count = found.count;
    return 0;
}

int sd_targets(const struct sd_model_config *c, struct sd_arena *arena, struct sd_target **targets,
               size_t *count, struct sd_err *err)
{
    return find_all(c, false, arena, targets, count, err);
}

int sd_layers(const struct sd_model_config *c, struct sd_arena *arena, struct sd_target **layers,
              size_t *count, struct sd_err *err)
{
    return find_all(c, true, arena, layers, count, err);
}
