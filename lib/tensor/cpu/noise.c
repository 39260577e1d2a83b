#include "tensor/cpu/block.h"
#include "tensor/enlarge.h"

#include <math.h>

/* --- offset: a piece of work is a sample --- */

/* The strength of each channel of a sample, raised by its latents' mean. */
static void strengths(const struct sd_call *c, int64_t sample, int64_t area, int64_t channels, float *s)
{
    const float *strength = c->in[2], *latents = (const float *)c->in[3] + sample * area * channels;
    for (int64_t ch = 0; ch < channels; ch++) {
        double sum = 0;
        for (int64_t p = 0; p < area; p++)
            sum += (double)latents[p * channels + ch];
        s[ch] = fmaxf(0, strength[0] + strength[1] * fabsf((float)(sum / (double)area)));
    }
}

static void offset_samples(const struct sd_call *c, int64_t from, int64_t to)
{
    const int64_t *dim = c->node->in[0]->dim;
    int64_t area = dim[1] * dim[2], channels = dim[3];
    float by[SD_CPU_MAX_CHANNELS];
    for (int64_t n = from; n < to; n++) {
        const float *x = (const float *)c->in[0] + n * area * channels,
                    *normal = (const float *)c->in[1] + n * channels;
        float *y = (float *)c->out[0] + n * area * channels;
        for (int64_t ch = 0; ch < channels; ch++)
            by[ch] = *(const float *)c->in[2];
        if (c->in[3])
            strengths(c, n, area, channels, by);
        for (int64_t i = 0; i < area * channels; i++)
            y[i] = x[i] + by[i % channels] * normal[i % channels];
    }
}

static int offset_plan(struct sd_call *c, struct sd_err *err)
{
    if (c->node->in[0]->dim[3] > SD_CPU_MAX_CHANNELS)
        return sd_err_set(err, SD_ERR_DATA, "cpu: noise_offset: more than %d channels", SD_CPU_MAX_CHANNELS);
    return 0;
}

static void noise_offset(const struct sd_call *c)
{
    sd_cpu_split(c, c->node->in[0]->dim[0], 1, offset_samples);
}
const struct sd_kernel sd_cpu_noise_offset = {.plan = offset_plan, .run = noise_offset};

/* --- levels: a piece of work is a row of pixels of a sample --- */

struct sums {
    double all, squares;
};

/* y[W,C] += weight * level [C,h,w], its row i. */
static void add_level(const int64_t *dim, const float *level, const float *turn, int64_t i, float *y)
{
    int64_t h = (int64_t)turn[0], w = (int64_t)turn[1], channels = dim[3];
    struct sd_between r = sd_between(i, h, dim[1]);
    for (int64_t k = 0; k < dim[2]; k++) {
        struct sd_between s = sd_between(k, w, dim[2]);
        for (int64_t ch = 0; ch < channels; ch++) {
            const float *low = level + (ch * h + r.low) * w, *high = level + (ch * h + r.high) * w;
            y[k * channels + ch] += turn[2] * sd_blend(sd_blend(low[s.low], low[s.high], s.share),
                                                       sd_blend(high[s.low], high[s.high], s.share), r.share);
        }
    }
}

static void levels_rows(const struct sd_call *c, int64_t from, int64_t to)
{
    const int64_t *dim = c->node->in[0]->dim;
    const float *turns = c->in[2];
    int64_t width = dim[2] * dim[3];
    for (int64_t row = from; row < to; row++) {
        int64_t sample = row / dim[1], i = row % dim[1];
        const float *x = (const float *)c->in[0] + row * width, *level = c->in[1];
        float *y = (float *)c->out[0] + row * width;
        struct sums s = {0};
        for (int64_t k = 0; k < width; k++)
            y[k] = x[k];
        for (int64_t t = 0; t < c->node->in[2]->dim[0] && turns[3 * t] > 0; t++) {
            int64_t each = dim[3] * (int64_t)turns[3 * t] * (int64_t)turns[3 * t + 1];
            add_level(dim, level + sample * each, turns + 3 * t, i, y);
            level += dim[0] * each;
        }
        for (int64_t k = 0; k < width; k++) {
            s.all += (double)y[k];
            s.squares += (double)y[k] * (double)y[k];
        }
        ((struct sums *)c->scratch)[row] = s;
    }
}

static float deviation(const struct sd_call *c)
{
    const int64_t *dim = c->node->in[0]->dim;
    const struct sums *row = c->scratch;
    double n = (double)sd_tensor_count(c->node->in[0]), all = 0, squares = 0;
    for (int64_t i = 0; i < dim[0] * dim[1]; i++) {
        all += row[i].all;
        squares += row[i].squares;
    }
    return (float)sqrt((squares - all * all / n) / (n - 1));
}

static int levels_plan(struct sd_call *c, struct sd_err *err)
{
    (void)err;
    c->scratch_bytes = (size_t)(c->node->in[0]->dim[0] * c->node->in[0]->dim[1] + 1) * sizeof(struct sums);
    return 0;
}

static void noise_levels(const struct sd_call *c)
{
    const struct sd_tensor *x = c->node->in[0];
    int64_t n = sd_tensor_count(x);
    float *y = c->out[0];
    sd_cpu_split(c, x->dim[0] * x->dim[1], 8, levels_rows);
    float by = deviation(c);
    for (int64_t i = 0; i < n; i++)
        y[i] /= by;
}
const struct sd_kernel sd_cpu_noise_levels = {.plan = levels_plan, .run = noise_levels};
