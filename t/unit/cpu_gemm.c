/* The CPU matrix products of every instruction set this machine runs against a naive one in double precision,
 * in every storage order, with and without bias, scale and acc; then that the number of threads does not show
 * in the bytes. Scratch starts as NaN; it and y are fenced. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/rng.h"
#include "tap.h"
#include "tensor/cpu/gemm.h"

static const char *const isa_name[SD_ISAS] = {"plain", "avx2", "avx512", "amx"};

struct trial {
    struct sd_gemm g;
    void *a, *b, *acc, *y;
    float *bias;
    double *exact; /* y */
    double norm;   /* its largest */
};

static void *get(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        perror("cpu_gemm");
        exit(1);
    }
    return p;
}

static double number(const void *x, bool bf16, int64_t i)
{
    return bf16 ? sd_bf16_to_f32(((const sd_bf16 *)x)[i]) : ((const float *)x)[i];
}

/* n normal numbers of one type, exactly at the end of a piece of memory, so that reading on is seen by
 * sanitizers */
static void *numbers(struct sd_rng *rng, int64_t n, bool bf16)
{
    void *x = malloc((size_t)n * (bf16 ? 2 : 4));
    if (!x) {
        perror("cpu_gemm");
        exit(1);
    }
    float *f = get((size_t)n * 4);
    sd_rng_randn(rng, f, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        if (bf16)
            ((sd_bf16 *)x)[i] = sd_f32_to_bf16(f[i]);
        else
            ((float *)x)[i] = f[i];
    free(f);
    return x;
}

enum { BIAS = 1, ACC = 2 };

static struct trial trial_new(const struct sd_gemm *g, int with)
{
    struct sd_rng rng;
    sd_rng_seed(&rng, 3);
    struct trial t = {.g = *g};
    t.a = numbers(&rng, g->m * g->k, g->bf16);
    t.b = numbers(&rng, g->n * g->k, g->bf16);
    t.bias = with & BIAS ? numbers(&rng, g->n, false) : NULL;
    t.acc = with & ACC ? numbers(&rng, g->m * g->n, !g->y_f32) : NULL;
    t.y = malloc((size_t)(g->m * g->n) * (g->y_f32 ? 4 : 2));
    t.exact = get((size_t)(g->m * g->n) * sizeof(double));
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0;
            for (int64_t k = 0; k < g->k; k++)
                sum += number(t.a, g->bf16, g->trans_a ? k * g->m + i : i * g->k + k) *
                       number(t.b, g->bf16, g->trans_b ? j * g->k + k : k * g->n + j);
            int64_t at = i * g->n + j;
            t.exact[at] = sum * (double)g->scale + (t.bias ? (double)t.bias[j] : 0) +
                          (t.acc ? number(t.acc, !g->y_f32, at) : 0);
            t.norm = fmax(t.norm, fabs(t.exact[at]));
        }
    return t;
}

static void trial_free(struct trial *t)
{
    free(t->a);
    free(t->b);
    free(t->bias);
    free(t->acc);
    free(t->y);
    free(t->exact);
}

/* Runs it; whether the fence behind the scratch still stands. `in_place`: acc is y. */
static bool run(const struct sd_gemm_kernels *kernels, struct trial *t, bool in_place)
{
    size_t bytes = kernels->scratch(&t->g), y_bytes = (size_t)(t->g.m * t->g.n) * (t->g.y_f32 ? 4 : 2);
    unsigned char *scratch = get(bytes + 64);
    memset(scratch, 0xff, bytes);
    memset(scratch + bytes, 0x5a, 64);
    memset(t->y, 0xff, y_bytes);
    if (in_place)
        memcpy(t->y, t->acc, y_bytes);
    kernels->run(&t->g, t->a, t->b, t->bias, in_place ? t->y : t->acc, t->y, scratch);
    bool good = true;
    for (int i = 0; i < 64; i++)
        good &= scratch[bytes + i] == 0x5a;
    free(scratch);
    return good;
}

static double error_of(const struct trial *t)
{
    double worst = 0;
    for (int64_t i = 0; i < t->g.m * t->g.n; i++) {
        double off = fabs(number(t->y, !t->g.y_f32, i) - t->exact[i]);
        worst = off <= worst ? worst : isnan(off) ? INFINITY : off;
    }
    return worst / fmax(t->norm, 1e-30);
}

static bool runs(enum sd_isa isa, const struct sd_gemm *g)
{
    return (isa != SD_ISA_AMX || g->bf16) && sd_gemm_kernels(isa);
}

static const char *describe(const struct sd_gemm *g, enum sd_isa isa)
{
    static char text[200];
    snprintf(text, sizeof text, "%s %s -> %s [%lld,%lld]%s x [%lld,%lld]%s", isa_name[isa],
             g->bf16 ? "bf16" : "f32", g->y_f32 ? "f32" : "bf16", (long long)g->m, (long long)g->k,
             g->trans_a ? "^T" : "", (long long)g->k, (long long)g->n, g->trans_b ? "^T" : "");
    return text;
}

/* The same bytes with 1, 2, 3 and 8 threads. */
static bool same_for_threads(const struct sd_gemm_kernels *kernels, struct trial *t)
{
    size_t bytes = (size_t)(t->g.m * t->g.n) * (t->g.y_f32 ? 4 : 2);
    void *first = get(bytes);
    int most = omp_get_max_threads();
    bool same = true;
    static const int threads[] = {1, 2, 3, 8};
    for (int i = 0; i < 4; i++) {
        omp_set_num_threads(threads[i]);
        run(kernels, t, false);
        if (i == 0)
            memcpy(first, t->y, bytes);
        same &= !memcmp(first, t->y, bytes);
    }
    omp_set_num_threads(most);
    free(first);
    return same;
}

/* The same bytes from a packed b. */
static bool same_when_packed(const struct sd_gemm_kernels *kernels, const struct trial *t)
{
    if (!kernels->pack)
        return true;
    struct trial other = *t;
    size_t bytes = (size_t)(t->g.m * t->g.n) * (t->g.y_f32 ? 4 : 2), packed = kernels->packed_bytes(&t->g);
    unsigned char *b = get(packed + 64);
    memset(b, 0xff, packed);
    memset(b + packed, 0x5a, 64);
    kernels->pack(&t->g, t->b, b);
    other.g.packed_b = true;
    other.b = b;
    other.y = get(bytes);
    bool same = run(kernels, &other, false) && !memcmp(other.y, t->y, bytes);
    for (int i = 0; i < 64; i++)
        same &= b[packed + i] == 0x5a;
    free(b);
    free(other.y);
    return same;
}

static void check(int64_t m, int64_t n, int64_t k)
{
    for (int form = 0; form < 4 * 3; form++) {
        struct sd_gemm g = {.m = m,
                            .n = n,
                            .k = k,
                            .trans_a = form & 1,
                            .trans_b = form & 2,
                            .bf16 = form / 4 > 0,
                            .y_f32 = form / 4 != 1,
                            .scale = form % 3 ? 0.5F : 1};
        int with = form % 4;
        struct trial t = trial_new(&g, with);
        double limit = g.y_f32 ? 1e-5 : 2e-2;
        for (int isa = 0; isa < SD_ISAS; isa++) {
            if (!runs((enum sd_isa)isa, &g))
                continue;
            const struct sd_gemm_kernels *kernels = sd_gemm_kernels((enum sd_isa)isa);
            bool fence = run(kernels, &t, false);
            double error = error_of(&t);
            if (with & ACC) {
                fence &= run(kernels, &t, true);
                error = fmax(error, error_of(&t));
            }
            bool same = same_for_threads(kernels, &t) && same_when_packed(kernels, &t);
            if (!ok(fence && error <= limit && same, "%s", describe(&g, (enum sd_isa)isa)))
                printf("# error %.2e%s%s\n", error, same ? "" : ", not the same bytes",
                       fence ? "" : ", wrote behind the scratch");
        }
        trial_free(&t);
    }
}

int main(void)
{
    static const int64_t shapes[][3] = {
        {1, 1, 1},     {1, 40, 33},   {3, 5, 7},      {17, 1, 65},    {33, 31, 32},    {64, 64, 64},
        {77, 96, 200}, {130, 40, 20}, {40, 150, 500}, {300, 16, 390}, {16, 700, 1030}, {270, 400, 193},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check(shapes[i][0], shapes[i][1], shapes[i][2]);
    for (int isa = 0; isa < SD_ISAS; isa++)
        if (!sd_gemm_kernels((enum sd_isa)isa))
            skip(isa_name[isa], "this processor has not got it");
    return tap_end();
}
