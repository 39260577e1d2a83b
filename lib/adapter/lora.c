#include "adapter/lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sd_lora *sd_lora_alloc(const struct sd_model_config *c, struct sd_target **targets, size_t *n_targets,
                              struct sd_err *err)
{
    struct sd_lora *l = calloc(1, sizeof *l);
    if (!l) {
        sd_err_memory(err, sizeof *l);
        return NULL;
    }
    l->multiplier = 1;
    if (sd_targets(c, &l->arena, targets, n_targets, err)) {
        sd_lora_free(l);
        return NULL;
    }
    l->modules = sd_arena_array(&l->arena, *n_targets + 1, sizeof *l->modules);
    l->by_path = sd_arena_array(&l->arena, *n_targets + 1, sizeof *l->by_path);
    if (!l->modules || !l->by_path) {
        sd_err_memory(err, *n_targets * sizeof *l->modules);
        sd_lora_free(l);
        return NULL;
    }
    return l;
}

void sd_lora_free(struct sd_lora *l)
{
    if (!l)
        return;
    sd_arena_free(&l->arena);
    free(l->values);
    free(l);
}

static int by_path(const void *a, const void *b)
{
    const struct sd_lora_module *const *x = a, *const *y = b;
    return strcmp((*x)->target->path, (*y)->target->path);
}

bool sd_lora_is_conv(const struct sd_lora *l, const struct sd_target *t)
{
    bool projection = strstr(t->path, ".proj_in") || strstr(t->path, ".proj_out");
    return t->conv || (l->conv_projection && projection);
}

static size_t down_count(const struct sd_lora_module *m)
{
    return (size_t)(m->rank * m->target->in * m->target->kernel * m->target->kernel);
}

static size_t up_count(const struct sd_lora_module *m)
{
    return (size_t)(m->target->out * m->rank);
}

/* In memory every matrix starts at a multiple of 64 bytes. */
static size_t padded(size_t count)
{
    return (count + 15) & ~(size_t)15;
}

static void set_var(struct sd_var *v, const char *name, float *values, bool trainable, int ndim, int64_t rows,
                    int64_t cols, int64_t kernel)
{
    *v = (struct sd_var){.name = name,
                         .dtype = SD_F32,
                         .ndim = ndim,
                         .dim = {rows, cols, kernel, kernel},
                         .data = values,
                         .state = trainable ? values : NULL,
                         .trainable = trainable};
}

int sd_lora_place(struct sd_lora *l, bool trainable, struct sd_err *err)
{
    l->n_values = 16;
    for (size_t i = 0; i < l->count; i++)
        l->n_values += padded(down_count(&l->modules[i])) + padded(up_count(&l->modules[i]));
    l->values = aligned_alloc(64, l->n_values * sizeof *l->values);
    if (!l->values)
        return sd_err_memory(err, l->n_values * sizeof *l->values);
    memset(l->values, 0, l->n_values * sizeof *l->values);
    float *at = l->values;
    for (size_t i = 0; i < l->count; i++) {
        struct sd_lora_module *m = &l->modules[i];
        const struct sd_target *t = m->target;
        const char *down = sd_arena_printf(&l->arena, "%s.lora_down.weight", t->name);
        const char *up = sd_arena_printf(&l->arena, "%s.lora_up.weight", t->name);
        if (!down || !up)
            return sd_err_memory(err, strlen(t->name) + 32);
        m->scale = (float)((double)m->alpha / (double)m->rank);
        set_var(&m->down, down, at, trainable, t->kernel > 1 ? 4 : 2, m->rank, t->in, t->kernel);
        at += padded(down_count(m));
        set_var(&m->up, up, at, trainable, 2, t->out, m->rank, 1);
        at += padded(up_count(m));
        l->by_path[i] = m;
    }
    if (l->count)
        qsort(l->by_path, l->count, sizeof *l->by_path, by_path);
    return 0;
}

/* Rank and alpha of a layer's module; 0 where it gets none. */
static int64_t rank_of(const struct sd_lora_options *o, const struct sd_target *t, float *alpha)
{
    const struct sd_lora_blocks *b = t->kind == SD_TARGET_TEXT ? NULL : o->blocks;
    int block = b ? sd_target_block(t) : 0;
    if (t->kind == SD_TARGET_RESNET && !(b ? b->conv : o->conv_rank > 0))
        return 0;
    int64_t rank = t->kernel > 1 ? o->conv_rank : o->rank;
    float a = t->kernel > 1 ? o->conv_alpha : o->alpha;
    if (b) {
        rank = t->kernel > 1 ? b->conv_rank[block] : b->rank[block];
        a = t->kernel > 1 ? b->conv_alpha[block] : b->alpha[block];
    }
    *alpha = a != 0 ? a : (float)rank;
    return rank;
}

/* The draws of sd-scripts' LoRAModule: torch's own initialisation of both matrices, then that of the down
 * matrix again, kaiming_uniform_ with a = sqrt(5), which stays. spare takes what is overwritten. */
static void initialise(const struct sd_target *t, int64_t rank, struct sd_rng *rng, float *down, float *spare)
{
    size_t n_down = (size_t)(rank * t->in * t->kernel * t->kernel), n_up = (size_t)(t->out * rank);
    double a = sqrt(5.0), gain = sqrt(2.0 / (1 + a * a));
    double down_bound = sqrt(3.0) * (gain / sqrt((double)(t->in * t->kernel * t->kernel)));
    double up_bound = sqrt(3.0) * (gain / sqrt((double)rank));
    sd_rng_uniform(rng, (float)-down_bound, (float)down_bound, down, n_down);
    sd_rng_uniform(rng, (float)-up_bound, (float)up_bound, spare, n_up);
    sd_rng_uniform(rng, (float)-down_bound, (float)down_bound, down, n_down);
}

static int draw(struct sd_lora *l, const struct sd_lora_options *o, const struct sd_target *targets,
                size_t n_targets, struct sd_rng *rng, struct sd_err *err)
{
    size_t most = 1, next = 0;
    float alpha;
    for (size_t i = 0; i < n_targets; i++) {
        struct sd_lora_module m = {.target = &targets[i], .rank = rank_of(o, &targets[i], &alpha)};
        most = down_count(&m) > most ? down_count(&m) : most;
        most = up_count(&m) > most ? up_count(&m) : most;
    }
    float *spare = malloc(2 * most * sizeof *spare);
    if (!spare)
        return sd_err_memory(err, 2 * most * sizeof *spare);
    for (size_t i = 0; i < n_targets; i++) {
        int64_t rank = rank_of(o, &targets[i], &alpha);
        bool mine = next < l->count && l->modules[next].target == &targets[i];
        if (rank)
            initialise(&targets[i], rank, rng, mine ? l->modules[next].down.state : spare + most, spare);
        next += mine;
    }
    free(spare);
    return 0;
}

/* Ranks by block must cover the model. */
static int check_blocks(const struct sd_lora_options *o, const struct sd_target *targets, size_t n,
                        struct sd_err *err)
{
    for (size_t i = 0; i < n && o->blocks; i++)
        if (targets[i].kind != SD_TARGET_TEXT && sd_target_block(&targets[i]) < 0)
            return sd_err_set(err, SD_ERR_USAGE,
                              "%s lies outside of the %d blocks by which ranks and rates are set",
                              targets[i].path, SD_UNET_BLOCKS);
    return 0;
}

int sd_lora_new(struct sd_lora **lora, const struct sd_model_config *c, const struct sd_lora_options *o,
                struct sd_rng *rng, struct sd_err *err)
{
    struct sd_target *targets;
    size_t n;
    *lora = NULL;
    if (o->rank < 1 || o->conv_rank < 0 || o->rank > 65536 || o->conv_rank > 65536)
        return sd_err_set(err, SD_ERR_USAGE, "a LoRA of rank %lld, expected 1 to 65536", (long long)o->rank);
    struct sd_lora *l = sd_lora_alloc(c, &targets, &n, err);
    if (!l)
        return -1;
    l->conv_projection = o->conv_projection;
    l->dropout = o->dropout;
    if (check_blocks(o, targets, n, err)) {
        sd_lora_free(l);
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        float alpha;
        int64_t rank = rank_of(o, &targets[i], &alpha);
        if (rank && (targets[i].kind == SD_TARGET_TEXT ? o->text_encoder : o->unet))
            l->modules[l->count++] =
                (struct sd_lora_module){.target = &targets[i], .rank = rank, .alpha = alpha};
    }
    if (sd_lora_place(l, true, err) || draw(l, o, targets, n, rng, err)) {
        sd_lora_free(l);
        return -1;
    }
    *lora = l;
    return 0;
}

/* Leaves the modules of the parts that are trained. */
static void keep_parts(struct sd_lora *l, const struct sd_lora_options *o)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++)
        if (l->modules[i].target->kind == SD_TARGET_TEXT ? o->text_encoder : o->unet)
            l->modules[kept++] = l->modules[i];
    l->count = kept;
    for (size_t i = 0; i < kept; i++)
        l->by_path[i] = &l->modules[i];
    if (kept)
        qsort(l->by_path, kept, sizeof *l->by_path, by_path);
}

int sd_lora_resume(struct sd_lora **lora, const struct sd_model_config *c, const char *path,
                   const struct sd_lora_options *o, struct sd_rng *rng, struct sd_lora_report *report,
                   struct sd_err *err)
{
    if (sd_lora_open(lora, c, path, 1, true, report, err))
        return -1;
    struct sd_lora *l = *lora;
    size_t most = 1;
    for (size_t i = 0; i < l->count; i++) {
        most = down_count(&l->modules[i]) > most ? down_count(&l->modules[i]) : most;
        most = up_count(&l->modules[i]) > most ? up_count(&l->modules[i]) : most;
    }
    float *spare = malloc(most * sizeof *spare);
    if (!spare) {
        sd_lora_free(l);
        *lora = NULL;
        return sd_err_memory(err, most * sizeof *spare);
    }
    for (size_t i = 0; i < l->count; i++)
        initialise(l->modules[i].target, l->modules[i].rank, rng, spare, spare);
    free(spare);
    l->conv_projection |= o->conv_projection;
    keep_parts(l, o);
    return 0;
}

static struct sd_lora_module *module_at(const struct sd_lora *l, const char *path)
{
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strcmp(path, l->by_path[mid]->target->path);
        if (!c)
            return l->by_path[mid];
        *(c < 0 ? &high : &low) = c < 0 ? mid : mid + 1;
    }
    return NULL;
}

struct sd_tensor *sd_lora_adapt(void *ctx, struct sd_nn *b, const struct sd_nn_layer *layer,
                                struct sd_tensor *x, struct sd_tensor *y)
{
    const struct sd_lora_stack *stack = ctx;
    for (size_t i = 0; i < stack->count && y; i++) {
        struct sd_lora *lora = stack->lora[i];
        struct sd_lora_module *m = module_at(lora, layer->path);
        float scale = m ? lora->multiplier * m->scale : 0;
        if (scale == 0)
            continue;
        m->used = true;
        struct sd_tensor *down = sd_nn_var(b, &m->down, x->dtype), *up = sd_nn_var(b, &m->up, x->dtype);
        struct sd_tensor *h = layer->kernel > 1 ? sd_graph_conv2d(b->g, x, down, NULL, &layer->window)
                                                : sd_graph_matmul(b->g, x, down, NULL, false, true);
        h = sd_lora_mask(lora, m, b, h);
        if (lora->dropout.rank > 0) /* the ranks that are left stand for all */
            scale = (float)((double)scale * (1 / (1 - lora->dropout.rank)));
        h = sd_graph_matmul_scaled(b->g, h, up, NULL, false, true, scale, y->dtype);
        y = sd_graph_add(b->g, h, y, 1); /* in this order: fusion lets the product add to y */
    }
    return y;
}
