/* Singular values: reconstruction, orthogonality, known spectra, flat spectra, thin products, degenerate
 * input. */
#include "tap.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/svd.h"
#include "base/quantile.h"
#include "base/rng.h"

static float *randn(struct sd_rng *rng, int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);
    sd_rng_randn(rng, v, (size_t)n);
    return v;
}

/* Relative distance of us vt from a. */
static double residual(const struct sd_svd *s, const float *a)
{
    double d = 0, norm = 0;
    for (int64_t i = 0; i < s->m; i++)
        for (int64_t j = 0; j < s->n; j++) {
            double x = 0, want = a[i * s->n + j];
            for (int64_t r = 0; r < s->rank; r++)
                x += (double)s->us[i * s->rank + r] * s->vt[r * s->n + j];
            d += (x - want) * (x - want);
            norm += want * want;
        }
    return sqrt(d / norm);
}

/* Largest deviation of vt vt' from the unit matrix, and of us' us from diag(s^2), relative to s[0]^2. */
static double crookedness(const struct sd_svd *s)
{
    double worst = 0;
    for (int64_t p = 0; p < s->rank; p++)
        for (int64_t q = 0; q < s->rank; q++) {
            double v = 0, u = 0;
            for (int64_t j = 0; j < s->n; j++)
                v += (double)s->vt[p * s->n + j] * s->vt[q * s->n + j];
            for (int64_t i = 0; i < s->m; i++)
                u += (double)s->us[i * s->rank + p] * s->us[i * s->rank + q];
            worst = fmax(worst, fabs(v - (p == q)));
            worst = fmax(worst, fabs(u - (p == q ? s->s[p] * s->s[p] : 0)) / (s->s[0] * s->s[0]));
        }
    return worst;
}

static bool signs(const struct sd_svd *s)
{
    for (int64_t r = 0; r < s->rank; r++) {
        float largest = 0;
        for (int64_t j = 0; j < s->n; j++)
            largest = fabsf(s->vt[r * s->n + j]) > fabsf(largest) ? s->vt[r * s->n + j] : largest;
        if (largest <= 0)
            return false;
    }
    return true;
}

static void full(struct sd_rng *rng, int64_t m, int64_t n)
{
    struct sd_err err = {0};
    struct sd_svd s, t;
    int64_t k = m < n ? m : n;
    float *a = randn(rng, m * n);
    ok(!sd_svd(&s, a, m, n, k, &err), "%lld x %lld %s", (long long)m, (long long)n, err.msg);
    ok(residual(&s, a) < 1e-6, "all triplets make the matrix: %g", residual(&s, a));
    ok(crookedness(&s) < 1e-5, "vectors are orthogonal: %g", crookedness(&s));
    ok(signs(&s), "signs");
    double tail = 0, all = 0;
    int64_t cut = (k + 1) / 2;
    for (int64_t r = 0; r < k; r++) {
        all += s.s[r] * s.s[r];
        tail += r >= cut ? s.s[r] * s.s[r] : 0;
    }
    ok(!sd_svd(&t, a, m, n, cut, &err) && fabs(residual(&t, a) - sqrt(tail / all)) < 1e-6,
       "of a flat spectrum half the triplets leave exactly the tail");
    free(a);
    sd_svd_free(&s);
    sd_svd_free(&t);
}

/* The product of thin factors, and the same multiplied out. */
static void thin(struct sd_rng *rng, int64_t m, int64_t r, int64_t n)
{
    struct sd_err err = {0};
    struct sd_svd p, d;
    float *up = randn(rng, m * r), *down = randn(rng, r * n), *a = calloc((size_t)(m * n), sizeof *a);
    for (int64_t i = 0; i < m; i++)
        for (int64_t q = 0; q < r; q++)
            for (int64_t j = 0; j < n; j++)
                a[i * n + j] += up[i * r + q] * down[q * n + j];
    ok(!sd_svd_product(&p, up, down, m, r, n, &err), "product %lld x %lld x %lld %s", (long long)m,
       (long long)r, (long long)n, err.msg);
    ok(residual(&p, a) < 1e-6 && crookedness(&p) < 1e-5 && signs(&p), "its triplets: %g", residual(&p, a));
    ok(!sd_svd(&d, a, m, n, p.rank, &err), "multiplied out");
    double worst = 0;
    for (int64_t i = 0; i < p.rank; i++)
        worst = fmax(worst, fabs(p.s[i] - d.s[i]) / p.s[0]);
    ok(worst < 1e-6, "the same singular values: %g", worst);
    ok(!sd_svd_truncate(&p, p.rank + 3, &err) && residual(&p, a) < 1e-6,
       "a larger rank is made up with zeros");
    free(up);
    free(down);
    free(a);
    sd_svd_free(&p);
    sd_svd_free(&d);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void quantiles(struct sd_rng *rng)
{
    int wrong = 0;
    for (int round = 0; round < 200; round++) {
        size_t n = 1 + (size_t)(sd_rng_u32(rng) % 300);
        float *v = randn(rng, (int64_t)n), q;
        if (round % 3 == 0) /* many equal ones */
            for (size_t i = 0; i < n; i++)
                v[i] = roundf(v[i]);
        float *sorted = malloc(n * sizeof *sorted);
        memcpy(sorted, v, n * sizeof *v);
        qsort(sorted, n, sizeof *sorted, by_value);
        sd_rng_rand(rng, &q, 1);
        q = round % 10 == 0 ? 1 : round % 10 == 1 ? 0 : q;
        float at = q * (float)(n - 1), low = sorted[(size_t)at], high = sorted[(size_t)ceilf(at)];
        float want = low + (at - floorf(at)) * (high - low);
        wrong += sd_quantile(v, n, (double)q) != want;
        free(v);
        free(sorted);
    }
    ok(!wrong, "quantiles as by sorting");
}

int main(void)
{
    struct sd_rng rng;
    struct sd_svd s;
    struct sd_err err = {0};
    sd_rng_seed(&rng, 1);
    full(&rng, 40, 40);
    full(&rng, 7, 600);
    full(&rng, 1100, 30);
    full(&rng, 1, 5);
    thin(&rng, 30, 4, 50);
    thin(&rng, 6, 10, 40);
    thin(&rng, 40, 20, 5);
    quantiles(&rng);

    float zero[12] = {0}, diagonal[9] = {2, 0, 0, 0, -3, 0, 0, 0, 1e-5f}, bad[4] = {1, NAN, 0, 1};
    ok(!sd_svd(&s, zero, 3, 4, 2, &err) && s.s[0] == 0 && s.us[0] == 0 && s.vt[0] == 0, "a matrix of zeros");
    ok(!sd_svd_clamp(&s, 0.99, &err), "clamped");
    sd_svd_free(&s);
    ok(!sd_svd(&s, diagonal, 3, 3, 3, &err) && fabs(s.s[0] - 3) < 1e-6 && fabs(s.s[1] - 2) < 1e-6 &&
           fabs(s.s[2] / 1e-5 - 1) < 1e-3,
       "a small value beside large ones");
    ok(s.vt[1] == 1 && s.us[3] == -3, "the sign goes to the left side");
    sd_svd_free(&s);
    ok(sd_svd(&s, bad, 2, 2, 1, &err) && strstr(err.msg, "finite"), "NaN is refused: %s", err.msg);
    ok(sd_svd(&s, zero, 3, 4, 4, &err), "more triplets than there are: %s", err.msg);

    float three[4] = {3, 0, 0, 1};
    ok(!sd_svd(&s, three, 2, 2, 2, &err) && !sd_svd_clamp(&s, 0.5, &err) && s.us[0] == 0.5f &&
           s.vt[0] == 0.5f,
       "clamping at the median of 3 0 0 1 1 0 0 1");
    sd_svd_free(&s);
    return tap_end();
}
