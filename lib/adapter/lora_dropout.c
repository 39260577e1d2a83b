/* Dropout in a static graph: what a module drops at a step is an input, written before the step runs. A step
 * that recomputes activations reads the same input again. */
#include "adapter/lora.h"

#include <string.h>

struct sd_lora_mask {
    struct sd_lora_mask *next;
    const struct sd_graph *graph;
    struct sd_lora_module *module;
    struct sd_tensor *input; /* f32: h's shape, or [N,1,...,rank] where h itself is not dropped from */
    int64_t samples, places; /* of h */
    bool channels_first;     /* PyTorch draws [N,rank,H,W] */
};

static bool any(const struct sd_lora_dropout *d)
{
    return d->hidden > 0 || d->rank > 0 || d->module > 0;
}

/* Puts the mask behind the others, but before a shortcut's that was just put there if this is the convolution
 * beside it: PyTorch computes the shortcut last. */
static void add(struct sd_lora *l, struct sd_lora_mask *mask)
{
    struct sd_lora_mask **at = &l->masks;
    const char *end = strstr(mask->module->target->path, ".conv2");
    while (*at) {
        const char *path = (*at)->module->target->path;
        bool beside = end && !end[6] && (*at)->graph == mask->graph && !(*at)->next &&
                      strstr(path, ".conv_shortcut") == path + (end - mask->module->target->path) &&
                      !strncmp(path, mask->module->target->path, (size_t)(end - mask->module->target->path));
        if (beside)
            break;
        at = &(*at)->next;
    }
    mask->next = *at;
    *at = mask;
}

struct sd_tensor *sd_lora_mask(struct sd_lora *l, const struct sd_lora_module *m, struct sd_nn *b,
                               struct sd_tensor *h)
{
    int64_t dim[SD_MAX_DIMS];
    if (!h || !any(&l->dropout))
        return h;
    struct sd_lora_mask *mask = sd_arena_alloc(&l->arena, sizeof *mask);
    if (!mask) {
        sd_err_memory(&b->g->err, sizeof *mask);
        return NULL;
    }
    *mask = (struct sd_lora_mask){.graph = b->g,
                                  .module = &l->modules[m - l->modules],
                                  .samples = h->dim[0],
                                  .places = sd_tensor_count(h) / h->dim[0] / m->rank,
                                  .channels_first = sd_lora_is_conv(l, m->target)};
    memcpy(dim, h->dim, sizeof dim);
    for (int i = 1; i < h->ndim - 1 && l->dropout.hidden <= 0; i++)
        dim[i] = 1;
    mask->input = sd_graph_input(b->g, m->target->name, SD_F32, h->ndim, dim);
    add(l, mask);
    return sd_graph_mul(b->g, h, sd_nn_cast(b, mask->input, h->dtype));
}

/* torch.nn.functional.dropout's mask on a CPU: a number of 53 random bits for each element. to NULL: only
 * drawn. */
static void draw_hidden(const struct sd_lora_mask *m, double p, struct sd_rng *rng, float *to)
{
    int64_t ranks = m->module->rank, rows = m->channels_first ? ranks : m->places,
            cols = m->channels_first ? m->places : ranks;
    float kept = p < 1 ? 1 / (float)(1 - p) : 0;
    for (int64_t n = 0; n < m->samples; n++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) {
                double u = (double)(sd_rng_u64(rng) & 0x1fffffffffffffull) * 0x1p-53;
                int64_t place = m->channels_first ? j : i, rank = m->channels_first ? i : j;
                if (to)
                    to[(n * m->places + place) * ranks + rank] = u < 1 - p ? kept : 0;
            }
}

/* torch.rand((N, rank)) > p */
static void draw_ranks(const struct sd_lora_mask *m, float p, bool hidden, struct sd_rng *rng, float *to)
{
    int64_t ranks = m->module->rank, rows = hidden ? m->places : 1;
    for (int64_t n = 0; n < m->samples; n++)
        for (int64_t k = 0; k < ranks; k++) {
            float u;
            sd_rng_rand(rng, &u, 1);
            for (int64_t i = 0; to && u <= p && i < rows; i++)
                to[(n * rows + i) * ranks + k] = 0;
        }
}

/* The draws of one module at one step; to [as the input] receives the mask, or is NULL. */
static void draw(const struct sd_lora_dropout *d, struct sd_lora_mask *m, struct sd_rng *rng, float *to)
{
    float u = 1;
    size_t count = to ? (size_t)sd_tensor_count(m->input) : 0;
    if (d->module > 0)
        sd_rng_rand(rng, &u, 1);
    bool dropped = d->module > 0 && u < (float)d->module;
    for (size_t i = 0; i < count; i++)
        to[i] = !dropped;
    if (dropped)
        return;
    m->module->live |= to != NULL;
    if (d->hidden >= 1 && to) /* nothing is drawn then */
        memset(to, 0, count * sizeof *to);
    else if (d->hidden > 0 && d->hidden < 1)
        draw_hidden(m, d->hidden, rng, to);
    if (d->rank > 0)
        draw_ranks(m, (float)d->rank, d->hidden > 0, rng, to);
}

void sd_lora_draw_masks(struct sd_lora *l, const struct sd_graph *graph, struct sd_plan *plan, bool unet,
                        struct sd_rng *rng)
{
    struct sd_lora_mask like = {0};
    for (struct sd_lora_mask *m = l->masks; m; m = m->next) {
        bool text = m->module->target->kind == SD_TARGET_TEXT;
        if (m->graph != graph || text == unet)
            continue;
        draw(&l->dropout, m, rng, sd_plan_data(plan, m->input));
        like = *m;
    }
    /* With --clip_skip the last layers are no part of the graph, but sd-scripts computes them all the same.
     */
    for (size_t i = 0; i < l->count && !unet && like.samples; i++)
        if (l->modules[i].target->kind == SD_TARGET_TEXT && !l->modules[i].used) {
            like.module = &l->modules[i];
            draw(&l->dropout, &like, rng, NULL);
        }
}
