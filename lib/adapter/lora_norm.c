#include "adapter/lora.h"

#include <math.h>

/* The products of n vectors of count numbers with one another; row says whether they lie one after the other.
 */
static double gram(const float *v, int64_t n, int64_t count, bool row, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t k = 0; k < count; k++)
        sum += row ? (double)v[i * count + k] * (double)v[j * count + k]
                   : (double)v[k * n + i] * (double)v[k * n + j];
    return sum;
}

/* The Frobenius norm of up down, whose square is the sum over both Gram matrices: nothing of the layer's size
 * is made. */
static double product_norm(const struct sd_lora_module *m)
{
    int64_t in = m->target->in * m->target->kernel * m->target->kernel, r = m->rank;
    double sum = 0;
    for (int64_t i = 0; i < r; i++)
        for (int64_t j = 0; j <= i; j++)
            sum += (i == j ? 1 : 2) * gram(m->up.data, r, m->target->out, false, i, j) *
                   gram(m->down.data, r, in, true, i, j);
    return sqrt(fmax(sum, 0));
}

static void scale_var(struct sd_var *v, float factor, int64_t n)
{
    float *x = v->state;
    for (int64_t i = 0; i < n; i++)
        x[i] *= factor;
}

void sd_lora_limit_norms(struct sd_lora *l, double max, struct sd_lora_norms *norms)
{
    *norms = (struct sd_lora_norms){0};
    for (size_t i = 0; i < l->count; i++) {
        struct sd_lora_module *m = &l->modules[i];
        double norm = product_norm(m) * fabs((double)m->scale);
        float ratio = norm > max ? (float)(max / norm) : 1, root = sqrtf(ratio);
        if (ratio < 1) {
            norms->scaled++;
            scale_var(&m->up, root, m->target->out * m->rank);
            scale_var(&m->down, root, m->rank * m->target->in * m->target->kernel * m->target->kernel);
        }
        norm *= (double)ratio;
        norms->average += norm / (double)l->count;
        norms->most = fmax(norms->most, norm);
    }
}
