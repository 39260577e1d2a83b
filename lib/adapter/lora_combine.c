#include "adapter/lora_combine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora_pairs.h"
#include "adapter/svd.h"
#include "base/rng.h"

#define CLAMP_QUANTILE 0.99 /* svd_merge_lora.py's */

/* The factors of a merged module being built. */
struct sum {
    int64_t rank, room, out, width;
    float *up;   /* [out,room] */
    float *down; /* [room,width] */
};

struct work {
    const struct sd_lora_share *shares;
    size_t n;
    const struct sd_lora_combine_options *o;
    struct sd_lora_out *out;
};

static const struct sd_network_module *find(const struct work *w, size_t share, const char *place)
{
    return sd_network_find(w->shares[share].network, place);
}

static int check_alike(const struct sd_network_module *a, const struct sd_network_module *b,
                       struct sd_err *err)
{
    if (a->in == b->in && a->out == b->out && a->kernel == b->kernel)
        return 0;
    return sd_err_set(err, SD_ERR_DATA,
                      "%s: layers of %lld to %lld and of %lld to %lld: not for the same model", a->name,
                      (long long)a->in, (long long)a->out, (long long)b->in, (long long)b->out);
}

static int64_t total_rank(const struct work *w, const struct sd_network_module *first)
{
    int64_t rank = 0;
    for (size_t i = 0; i < w->n; i++) {
        const struct sd_network_module *p = find(w, i, first->place);
        rank += p ? p->rank : 0;
    }
    return rank;
}

/* Puts a LoRA's factors, scaled, behind those that are there; in precision d. */
static int append(struct sum *s, const struct sd_network_module *p, float up_scale, float down_scale,
                  enum sd_store_dtype d, struct sd_err *err)
{
    float *up, *down;
    if (sd_lora_pair_read(p, &up, &down, err))
        return -1;
    size_t nu = (size_t)(s->out * p->rank), nd = (size_t)(p->rank * s->width);
    sd_store_round(d, up, nu);
    sd_store_round(d, down, nd);
    for (int64_t i = 0; i < s->out; i++)
        for (int64_t r = 0; r < p->rank; r++)
            s->up[i * s->room + s->rank + r] = up[i * p->rank + r] * up_scale;
    for (size_t i = 0; i < nd; i++)
        s->down[s->rank * s->width + (int64_t)i] = down[i] * down_scale;
    s->rank += p->rank;
    free(up);
    free(down);
    return 0;
}

/* Adds a LoRA's factors, scaled, to those that are there; in precision d. */
static int add(struct sum *s, const struct sd_network_module *p, float up_scale, float down_scale,
               enum sd_store_dtype d, struct sd_err *err)
{
    struct sum one = {0, p->rank, s->out, s->width, NULL, NULL};
    size_t nu = (size_t)(s->out * p->rank), nd = (size_t)(p->rank * s->width);
    int rc = -1;
    if (p->rank != s->room)
        return sd_err_set(
            err, SD_ERR_DATA,
            "%s: ranks %lld and %lld cannot be added; concatenate the LoRAs, or merge them to a new "
            "rank",
            p->name, (long long)s->room, (long long)p->rank);
    one.up = malloc(nu * sizeof *one.up);
    one.down = malloc(nd * sizeof *one.down);
    if (!one.up || !one.down) {
        sd_err_memory(err, (nu + nd) * sizeof *one.up);
        goto out;
    }
    if (append(&one, p, up_scale, down_scale, d, err))
        goto out;
    sd_store_round(d, one.up, nu);
    sd_store_round(d, one.down, nd);
    for (size_t i = 0; i < nu; i++)
        s->up[i] += one.up[i];
    for (size_t i = 0; i < nd; i++)
        s->down[i] += one.down[i];
    sd_store_round(d, s->up, nu);
    sd_store_round(d, s->down, nd);
    s->rank = p->rank;
    rc = 0;
out:
    free(one.up);
    free(one.down);
    return rc;
}

static int gather(const struct work *w, const struct sd_network_module *first, struct sum *s,
                  struct sd_err *err)
{
    enum sd_lora_combination how = w->o->how;
    for (size_t i = 0; i < w->n; i++) {
        const struct sd_network_module *p = find(w, i, first->place);
        double ratio = w->shares[i].ratio;
        int rc;
        if (!p)
            continue;
        if (check_alike(first, p, err))
            return -1;
        if (how == SD_LORA_SVD) {
            int block = w->shares[i].blocks ? sd_lora_block(p->place) : -1;
            double scale = (double)sd_lora_pair_scale(p) * (block < 0 ? 1 : w->shares[i].blocks[block]);
            rc = append(s, p, (float)(ratio * scale), 1, SD_STORE_F32, err);
        } else {
            double root = sqrt(p->alpha / first->alpha) * ratio;
            if (!isfinite(root))
                return sd_err_set(err, SD_ERR_DATA, "%s: alphas %g and %g cannot be brought together",
                                  p->name, first->alpha, p->alpha);
            rc = (how == SD_LORA_ADD ? add : append)(s, p, (float)fabs(root), (float)root, w->o->precision,
                                                     err);
        }
        if (rc)
            return -1;
    }
    size_t nu = (size_t)(s->out * s->room), nd = (size_t)(s->room * s->width);
    if (how != SD_LORA_SVD) {
        sd_store_round(w->o->precision, s->up, nu);
        sd_store_round(w->o->precision, s->down, nd);
    }
    return 0;
}

static int shuffle(struct sum *s, const int64_t *order, struct sd_err *err)
{
    size_t nu = (size_t)(s->out * s->rank), nd = (size_t)(s->rank * s->width);
    float *copy = malloc((nu > nd ? nu : nd) * sizeof *copy);
    if (!copy)
        return sd_err_memory(err, nd * sizeof *copy);
    memcpy(copy, s->down, nd * sizeof *copy);
    for (int64_t r = 0; r < s->rank; r++)
        memcpy(s->down + r * s->width, copy + order[r] * s->width, (size_t)s->width * sizeof *copy);
    memcpy(copy, s->up, nu * sizeof *copy);
    for (int64_t i = 0; i < s->out; i++)
        for (int64_t r = 0; r < s->rank; r++)
            s->up[i * s->rank + r] = copy[i * s->rank + order[r]];
    free(copy);
    return 0;
}

static int cut(const struct work *w, const struct sd_network_module *p, const struct sum *s,
               struct sd_svd *svd, struct sd_err *err)
{
    int64_t rank = p->kernel > 1 ? w->o->conv_rank : w->o->rank, most = p->in < p->out ? p->in : p->out;
    rank = rank < most ? rank : most;
    if (sd_svd_product(svd, s->up, s->down, s->out, s->rank, s->width, err))
        return sd_err_prefix(err, "%s", p->name);
    if (svd->rank > rank && sd_svd_truncate(svd, rank, err))
        return -1;
    if (sd_svd_clamp(svd, CLAMP_QUANTILE, err))
        return -1;
    return svd->rank < rank ? sd_svd_truncate(svd, rank, err) : 0;
}

/* Merges the modules of first's name. order is NULL, or how to shuffle the ranks. */
static int combine(const struct work *w, const struct sd_network_module *first, const int64_t *order,
                   struct sd_err *err)
{
    struct sd_svd svd = {0};
    struct sum s = {0,          w->o->how == SD_LORA_ADD ? first->rank : total_rank(w, first),
                    first->out, sd_lora_pair_width(first),
                    NULL,       NULL};
    int rc = -1;
    s.up = calloc((size_t)(s.out * s.room), sizeof *s.up);
    s.down = calloc((size_t)(s.room * s.width), sizeof *s.down);
    if (!s.up || !s.down) {
        sd_err_memory(err, (size_t)((s.out + s.width) * s.room) * sizeof *s.up);
        goto out;
    }
    if (gather(w, first, &s, err) || (order && shuffle(&s, order, err)) ||
        (w->o->how == SD_LORA_SVD && cut(w, first, &s, &svd, err)))
        goto out;
    struct sd_lora_shape shape = {svd.s ? svd.rank : s.rank,   first->in,    first->out, first->kernel,
                                  sd_lora_pair_is_conv(first), SD_LORA_KOHYA};
#pragma omp critical(sd_lora_combine)
    rc = sd_lora_out_module(w->out, first->place, &shape, svd.s ? (float)svd.rank : (float)first->alpha,
                            svd.s ? svd.vt : s.down, svd.s ? svd.us : s.up, w->o->save, err);
out:
    sd_svd_free(&svd);
    free(s.up);
    free(s.down);
    return rc;
}

/* The modules of all LoRAs, each where it comes first. */
static size_t list_modules(const struct work *w, const struct sd_network_module **list)
{
    size_t count = 0;
    for (size_t i = 0; i < w->n; i++)
        for (size_t k = 0; k < w->shares[i].network->count; k++) {
            const struct sd_network_module *p = w->shares[i].network->order[k];
            bool seen = false;
            for (size_t e = 0; e < i && !seen; e++)
                seen = find(w, e, p->place);
            if (!seen)
                list[count++] = p;
        }
    return count;
}

static void tell(struct sd_lora_combine_report *r, const struct sd_network_module *const *list, size_t count)
{
    *r = (struct sd_lora_combine_report){count, list[0]->rank, list[0]->alpha};
    for (size_t i = 1; i < count; i++) {
        r->rank = list[i]->rank == r->rank ? r->rank : 0;
        r->alpha = list[i]->alpha == r->alpha ? r->alpha : NAN;
    }
}

/* A shuffled order of each module's ranks, drawn in the modules' order. */
static int draw_orders(const struct work *w, const struct sd_network_module *const *list, size_t count,
                       struct sd_arena *arena, int64_t **orders, struct sd_err *err)
{
    struct sd_rng rng;
    sd_rng_seed(&rng, w->o->seed);
    for (size_t i = 0; i < count; i++) {
        int64_t rank = w->o->how == SD_LORA_ADD ? list[i]->rank : total_rank(w, list[i]);
        orders[i] = sd_arena_array(arena, (size_t)rank, sizeof *orders[i]);
        if (!orders[i])
            return sd_err_memory(err, (size_t)rank * sizeof *orders[i]);
        sd_rng_randperm(&rng, orders[i], (size_t)rank);
    }
    return 0;
}

int sd_lora_combine(const struct sd_lora_share *shares, size_t n, const struct sd_lora_combine_options *o,
                    struct sd_lora_out *out, struct sd_lora_combine_report *report, struct sd_err *err)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct work w = {shares, n, o, out};
    size_t most = 0;
    bool failed = false;
    for (size_t i = 0; i < n; i++) {
        most += shares[i].network->count;
        if (sd_lora_check(shares[i].network, true, err))
            return -1;
    }
    const struct sd_network_module **list = sd_arena_array(&arena, most + 1, sizeof *list);
    int64_t **orders = sd_arena_array(&arena, most + 1, sizeof *orders);
    if (!list || !orders) {
        sd_arena_free(&arena);
        return sd_err_memory(err, most * sizeof *list);
    }
    size_t count = list_modules(&w, list);
    tell(report, list, count);
    failed = sd_lora_out_init(out, 3 * count, err) ||
             (o->shuffle && draw_orders(&w, list, count, &arena, orders, err));
#pragma omp parallel for schedule(dynamic, 1) num_threads(o->threads)
    for (size_t i = 0; i < count; i++) {
        struct sd_err mine = {0};
        bool stop;
#pragma omp atomic read
        stop = failed;
        if (!stop && combine(&w, list[i], orders[i], &mine)) {
#pragma omp critical(sd_lora_combine)
            {
                if (!failed)
                    *err = mine;
#pragma omp atomic write
                failed = true;
            }
        }
    }
    sd_arena_free(&arena);
    return failed ? -1 : 0;
}
