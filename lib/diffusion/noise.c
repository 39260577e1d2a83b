#include "diffusion/noise.h"

#include "tensor/enlarge.h"

#include <math.h>
#include <string.h>

static size_t count(const struct sd_noise *b)
{
    return (size_t)(b->n * b->c * b->h * b->w);
}

/* strength, or with random a share of it. */
static float draw_strength(double strength, bool random, struct sd_rng *rng)
{
    float share = 1;
    if (random)
        sd_rng_rand(rng, &share, 1);
    return share * (float)strength;
}

static float mean(const float *x, int64_t n, float scale)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)(x[i] * scale);
    return (float)(sum / (double)n);
}

static void add_offset(const struct sd_noise_options *o, struct sd_rng *rng, const struct sd_noise *b)
{
    float strength = draw_strength(o->offset, o->offset_random, rng), *normal = b->mixed;
    int64_t planes = b->n * b->c, area = b->h * b->w;
    sd_rng_randn(rng, normal, (size_t)planes);
    for (int64_t p = 0; p < planes; p++) {
        float s = strength;
        if (!isnan(o->offset_latent))
            s = fmaxf(0, s + (float)o->offset_latent * fabsf(mean(b->latents + p * area, area, b->scale)));
        for (int64_t i = 0; i < area; i++)
            b->target[p * area + i] += s * normal[p];
    }
}

/* y[h,w] += weight * x[xh,xw], enlarged. */
static void add_enlarged(float *y, int64_t h, int64_t w, const float *x, int64_t xh, int64_t xw, float weight)
{
    for (int64_t i = 0; i < h; i++) {
        struct sd_between r = sd_between(i, xh, h);
        const float *low = x + r.low * xw, *high = x + r.high * xw;
        for (int64_t k = 0; k < w; k++) {
            struct sd_between c = sd_between(k, xw, w);
            y[i * w + k] += weight * sd_blend(sd_blend(low[c.low], low[c.high], c.share),
                                              sd_blend(high[c.low], high[c.high], c.share), r.share);
        }
    }
}

static int64_t shrunk(int64_t side, double by)
{
    int64_t n = (int64_t)((double)side / by);
    return n > 1 ? n : 1;
}

/* Brings the whole batch to a standard deviation of 1; its mean stays where it is. */
static void normalise(float *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i];
    double middle = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        squares += ((double)x[i] - middle) * ((double)x[i] - middle);
    float deviation = (float)sqrt(squares / (double)(n - 1));
    for (size_t i = 0; i < n; i++)
        x[i] /= deviation;
}

/* Coarser noise, which is smaller by a factor of 2 to 4 a turn. */
struct turn {
    int64_t h, w;
    float weight;
};

static struct turn turn_of(const struct sd_noise_options *o, int64_t number, double factor, int64_t h,
                           int64_t w)
{
    double by = pow(factor, (double)number);
    return (struct turn){shrunk(h, by), shrunk(w, by), (float)pow(o->multires_discount, (double)number)};
}

/* The factor is drawn anew for each turn. */
static struct turn draw_turn(const struct sd_noise_options *o, int64_t number, struct sd_pyrandom *random,
                             int64_t h, int64_t w)
{
    return turn_of(o, number, sd_pyrandom_random(random) * 2 + 2, h, w);
}

static bool is_last(struct turn t)
{
    return t.h == 1 || t.w == 1;
}

static void add_multires(const struct sd_noise_options *o, struct sd_rng *rng, struct sd_pyrandom *random,
                         const struct sd_noise *b)
{
    int64_t planes = b->n * b->c, area = b->h * b->w;
    struct turn t = {0};
    for (int64_t i = 0; i < o->multires && !is_last(t); i++) {
        t = draw_turn(o, i, random, b->h, b->w);
        sd_rng_randn(rng, b->mixed, (size_t)(planes * t.h * t.w));
        for (int64_t p = 0; p < planes; p++)
            add_enlarged(b->target + p * area, b->h, b->w, b->mixed + p * t.h * t.w, t.h, t.w, t.weight);
    }
    normalise(b->target, count(b));
}

static void draw_timesteps(const struct sd_noise_options *o, struct sd_rng *rng, int64_t *t, int64_t n)
{
    if (o->min_timestep < o->max_timestep)
        sd_rng_randint(rng, o->min_timestep, o->max_timestep, t, (size_t)n);
    else
        for (int64_t i = 0; i < n; i++)
            t[i] = o->max_timestep;
}

static void perturb(const struct sd_noise_options *o, struct sd_rng *rng, const struct sd_noise *b)
{
    float strength = draw_strength(o->input, o->input_random, rng);
    sd_rng_randn(rng, b->mixed, count(b));
    for (size_t i = 0; i < count(b); i++)
        b->mixed[i] = b->target[i] + strength * b->mixed[i];
}

void sd_noise_draw(const struct sd_noise_options *o, struct sd_rng *rng, struct sd_pyrandom *random,
                   const struct sd_noise *b)
{
    /* mixed holds what is drawn on the way, until its own turn comes. */
    sd_rng_randn(rng, b->target, count(b));
    if (o->offset != 0)
        add_offset(o, rng, b);
    if (o->multires > 0)
        add_multires(o, rng, random, b);
    draw_timesteps(o, rng, b->timesteps, b->n);
    if (o->input != 0)
        perturb(o, rng, b);
    else
        memcpy(b->mixed, b->target, count(b) * sizeof *b->mixed);
}

int64_t sd_noise_turns(const struct sd_noise_options *o, int64_t h, int64_t w)
{
    int64_t i = 0;
    for (struct turn t = {0}; i < o->multires && i < SD_NOISE_TURNS && !is_last(t); i++)
        t = turn_of(o, i, 2, h, w);
    return i;
}

int64_t sd_noise_level_count(const struct sd_noise_options *o, int64_t n, int64_t c, int64_t h, int64_t w)
{
    int64_t total = 0;
    for (int64_t i = 0; i < sd_noise_turns(o, h, w); i++) {
        struct turn t = turn_of(o, i, 2, h, w);
        total += n * c * t.h * t.w;
    }
    return total;
}

static float draw_device_strength(double strength, bool random, struct sd_philox *philox)
{
    return (random ? sd_philox_rand(philox) : 1) * (float)strength;
}

static void draw_levels(const struct sd_noise_options *o, struct sd_rng *rng, struct sd_pyrandom *random,
                        int64_t planes, int64_t h, int64_t w, struct sd_noise_parts *p)
{
    float *at = p->levels;
    int64_t most = sd_noise_turns(o, h, w);
    struct turn t = {0};
    for (int64_t i = 0; i < most && !is_last(t); i++) {
        t = draw_turn(o, i, random, h, w);
        sd_rng_randn(rng, at, (size_t)(planes * t.h * t.w));
        at += planes * t.h * t.w;
        p->turns[i][0] = (float)t.h;
        p->turns[i][1] = (float)t.w;
        p->turns[i][2] = t.weight;
    }
}

void sd_noise_draw_parts(const struct sd_noise_options *o, struct sd_philox *philox, uint64_t threads,
                         struct sd_rng *rng, struct sd_pyrandom *random, int64_t n, int64_t c, int64_t h,
                         int64_t w, struct sd_noise_parts *p, int64_t *timesteps)
{
    uint64_t elements = (uint64_t)(n * c * h * w);
    memset(p->turns, 0, sizeof p->turns);
    p->normal = *philox;
    sd_philox_advance(philox, threads, elements);
    if (o->offset != 0) {
        p->offset_strength = draw_device_strength(o->offset, o->offset_random, philox);
        p->offset = *philox;
        sd_philox_advance(philox, threads, (uint64_t)(n * c));
    }
    draw_levels(o, rng, random, n * c, h, w, p);
    draw_timesteps(o, rng, timesteps, n);
    if (o->input != 0) {
        p->input_strength = draw_device_strength(o->input, o->input_random, philox);
        p->input = *philox;
        sd_philox_advance(philox, threads, elements);
    }
}
