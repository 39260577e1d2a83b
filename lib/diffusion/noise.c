#include "diffusion/noise.h"

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

/* Where a place of a row of `to` lies between two of a row of `from`, as PyTorch interpolates (corners not
 * aligned). */
struct between {
    int64_t low, high;
    float share; /* of high */
};

static struct between between(int64_t i, int64_t from, int64_t to)
{
    if (from == to)
        return (struct between){i, i, 0};
    float at = (float)from / (float)to * ((float)i + 0.5f) - 0.5f;
    at = at < 0 ? 0 : at;
    struct between b = {.low = (int64_t)at};
    b.low = b.low < from ? b.low : from - 1;
    b.high = b.low + (b.low + 1 < from);
    b.share = fminf(at - (float)b.low, 1);
    return b;
}

static float blend(const float *row, struct between x)
{
    return (1 - x.share) * row[x.low] + x.share * row[x.high];
}

/* y[h,w] += weight * x[xh,xw], enlarged. */
static void add_enlarged(float *y, int64_t h, int64_t w, const float *x, int64_t xh, int64_t xw, float weight)
{
    for (int64_t i = 0; i < h; i++) {
        struct between r = between(i, xh, h);
        const float *low = x + r.low * xw, *high = x + r.high * xw;
        for (int64_t k = 0; k < w; k++) {
            struct between c = between(k, xw, w);
            y[i * w + k] += weight * ((1 - r.share) * blend(low, c) + r.share * blend(high, c));
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

/* Adds noise of sizes that shrink by a factor of 2 to 4 a turn, which is drawn anew for each. */
static void add_multires(const struct sd_noise_options *o, struct sd_rng *rng, struct sd_pyrandom *random,
                         const struct sd_noise *b)
{
    int64_t planes = b->n * b->c, area = b->h * b->w;
    for (int64_t turn = 0; turn < o->multires; turn++) {
        double by = pow(sd_pyrandom_random(random) * 2 + 2, (double)turn);
        int64_t h = shrunk(b->h, by), w = shrunk(b->w, by);
        float weight = (float)pow(o->multires_discount, (double)turn);
        sd_rng_randn(rng, b->mixed, (size_t)(planes * h * w));
        for (int64_t p = 0; p < planes; p++)
            add_enlarged(b->target + p * area, b->h, b->w, b->mixed + p * h * w, h, w, weight);
        if (h == 1 || w == 1)
            break;
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
