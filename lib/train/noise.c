#include "train/noise.h"

#include <math.h>
#include <string.h>

void sd_train_to_nhwc(float *to, const float *from, int64_t n, int64_t c, int64_t hw)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t p = 0; p < hw; p++)
            for (int64_t k = 0; k < c; k++)
                to[(i * hw + p) * c + k] = from[(i * c + k) * hw + p];
}

static struct sd_tensor *row(struct sd_graph *g, const char *name, int64_t n)
{
    return sd_graph_input(g, name, SD_F32, 1, &n);
}

/* Normal numbers, and the input with the state they are drawn from. */
static struct sd_tensor *normal(struct sd_graph *g, const char *name, uint64_t threads, const int64_t *dim,
                                struct sd_tensor **state)
{
    *state = sd_graph_input(g, name, SD_I32, 1, (int64_t[]){4});
    return sd_graph_randn(g, *state, (int64_t)threads, 4, dim);
}

static struct sd_tensor *build_target(struct sd_train_noise *s, struct sd_graph *g,
                                      const struct sd_noise_options *o, uint64_t threads, struct sd_tensor *x)
{
    const int64_t *dim = x->dim, plane[] = {dim[0], 1, 1, dim[3]};
    struct sd_tensor *y = normal(g, "noise state", threads, dim, &s->normal);
    if (o->offset != 0) {
        struct sd_tensor *by = normal(g, "offset state", threads, plane, &s->offset);
        s->offset_strength = row(g, "offset strength", 2);
        y = sd_graph_noise_offset(g, y, by, s->offset_strength, isnan(o->offset_latent) ? NULL : x);
    }
    if (o->multires > 0) {
        s->levels = row(g, "levels", sd_noise_level_count(o, dim[0], dim[3], dim[1], dim[2]));
        s->turns = sd_graph_input(g, "turns", SD_F32, 2, (int64_t[]){sd_noise_turns(o, dim[1], dim[2]), 3});
        y = sd_graph_noise_levels(g, y, s->levels, s->turns);
    }
    return y;
}

void sd_train_noise_build(struct sd_train_noise *s, struct sd_graph *g, const struct sd_noise_options *o,
                          uint64_t threads, struct sd_tensor *x)
{
    *s = (struct sd_train_noise){0};
    if (!x)
        return;
    if (!o->cuda) {
        s->target = sd_graph_input(g, "noise", SD_F32, 4, x->dim);
        s->mixed = o->input != 0 ? sd_graph_input(g, "mixed", SD_F32, 4, x->dim) : s->target;
        return;
    }
    s->mixed = s->target = build_target(s, g, o, threads, x);
    if (o->input != 0) {
        struct sd_tensor *other = normal(g, "mixed state", threads, x->dim, &s->input);
        s->input_strength = sd_graph_input(g, "mixed strength", SD_F32, 2, (int64_t[]){x->dim[0], 2});
        s->mixed =
            sd_graph_combine(g, 2, (struct sd_tensor *[]){s->target, other}, s->input_strength, 0, false);
    }
}

static void put_state(struct sd_plan *plan, struct sd_tensor *state, const struct sd_philox *p)
{
    memcpy(sd_plan_data(plan, state),
           (uint32_t[]){(uint32_t)p->seed, (uint32_t)(p->seed >> 32), (uint32_t)p->offset,
                        (uint32_t)(p->offset >> 32)},
           4 * sizeof(uint32_t));
}

static void feed_parts(const struct sd_train_noise *s, struct sd_plan *plan, const struct sd_noise_options *o,
                       const struct sd_noise_parts *p)
{
    put_state(plan, s->normal, &p->normal);
    if (s->offset) {
        float *strength = sd_plan_data(plan, s->offset_strength);
        put_state(plan, s->offset, &p->offset);
        strength[0] = p->offset_strength;
        strength[1] = (float)o->offset_latent;
    }
    if (s->levels) {
        memcpy(sd_plan_data(plan, s->levels), p->levels, sd_tensor_bytes(s->levels));
        memcpy(sd_plan_data(plan, s->turns), p->turns, sd_tensor_bytes(s->turns));
    }
    if (s->input) {
        float *strength = sd_plan_data(plan, s->input_strength);
        put_state(plan, s->input, &p->input);
        for (int64_t i = 0; i < s->input_strength->dim[0]; i++) {
            strength[2 * i] = 1;
            strength[2 * i + 1] = p->input_strength;
        }
    }
}

static void feed(struct sd_plan *plan, struct sd_tensor *to, const float *from)
{
    sd_train_to_nhwc(sd_plan_data(plan, to), from, to->dim[0], to->dim[3], to->dim[1] * to->dim[2]);
}

void sd_train_noise_feed(const struct sd_train_noise *s, struct sd_plan *plan,
                         const struct sd_noise_options *o, const struct sd_train_noise_batch *b)
{
    if (o->cuda) {
        feed_parts(s, plan, o, b->parts);
        return;
    }
    feed(plan, s->target, b->target);
    if (s->mixed != s->target)
        feed(plan, s->mixed, b->mixed);
}
