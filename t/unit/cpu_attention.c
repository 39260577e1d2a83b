/* The CPU attention kernels of every instruction set this machine runs, forward and backward, against a naive
 * computation in double precision; then that the number of threads does not show in the bytes. Gaps between
 * tokens hold NaN on the way in and must be untouched on the way out; scratch starts as NaN and is fenced. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/rng.h"
#include "tap.h"
#include "tensor/cpu/attention_impl.h"

enum { Q, K, V, O, DO, DQ, DK, DV, TENSORS };
static const char *const tensor_name[TENSORS] = {"q", "k", "v", "o", "dout", "dq", "dk", "dv"};
static const char *const isa_name[SD_ISAS] = {"plain", "avx2", "avx512", "amx"};

/* One attention with everything it reads and writes, in double and in the kernel's type. */
struct trial {
    struct sd_attn a;
    int bf16;
    double *exact[TENSORS];
    void *data[TENSORS]; /* as the kernel lays it, `elements` numbers */
    int64_t elements[TENSORS];
    double *lse_exact;
    float *lse;
};

static void *get(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        perror("cpu_attention");
        exit(1);
    }
    return p;
}

static int on_keys(int t)
{
    return t == K || t == V || t == DK || t == DV;
}

static int64_t stride_of(const struct sd_attn *a, int t)
{
    return t == Q || t == DQ   ? a->q_stride
           : t == K || t == DK ? a->k_stride
           : t == V || t == DV ? a->v_stride
                               : a->o_stride;
}

static int64_t tokens_of(const struct sd_attn *a, int t)
{
    return a->batch * (on_keys(t) ? a->k_len : a->q_len);
}

static double element(const struct trial *t, int which, int64_t i)
{
    return t->bf16 ? sd_bf16_to_f32(((sd_bf16 *)t->data[which])[i]) : ((float *)t->data[which])[i];
}

static void set(struct trial *t, int which, int64_t i, float x)
{
    if (t->bf16)
        ((sd_bf16 *)t->data[which])[i] = sd_f32_to_bf16(x);
    else
        ((float *)t->data[which])[i] = x;
}

static void naive_head(struct trial *t, int64_t b, int64_t h, double *p)
{
    const struct sd_attn *a = &t->a;
    int64_t width = a->heads * a->head_dim, dim = a->head_dim;
    for (int64_t i = 0; i < a->q_len; i++) {
        int64_t row = (b * a->q_len + i) * width + h * dim,
                seen = a->causal ? sd_attn_min(i + 1, a->k_len) : a->k_len;
        const double *q = t->exact[Q] + row, *dout = t->exact[DO] + row;
        double *o = t->exact[O] + row, *dq = t->exact[DQ] + row, top = -INFINITY, sum = 0, delta = 0;
        for (int64_t j = 0; j < seen; j++) {
            const double *k = t->exact[K] + (b * a->k_len + j) * width + h * dim;
            p[j] = 0;
            for (int64_t c = 0; c < dim; c++)
                p[j] += q[c] * k[c];
            p[j] *= a->scale;
            top = fmax(top, p[j]);
        }
        for (int64_t j = 0; j < seen; j++)
            sum += p[j] = exp(p[j] - top);
        t->lse_exact[(b * a->heads + h) * a->q_len + i] = top + log(sum);
        for (int64_t j = 0; j < seen; j++) {
            const double *v = t->exact[V] + (b * a->k_len + j) * width + h * dim;
            p[j] /= sum;
            for (int64_t c = 0; c < dim; c++)
                o[c] += p[j] * v[c];
        }
        for (int64_t c = 0; c < dim; c++)
            delta += o[c] * dout[c];
        for (int64_t j = 0; j < seen; j++) {
            int64_t key = (b * a->k_len + j) * width + h * dim;
            double dp = 0, ds;
            for (int64_t c = 0; c < dim; c++) {
                dp += dout[c] * t->exact[V][key + c];
                t->exact[DV][key + c] += p[j] * dout[c];
            }
            ds = a->scale * p[j] * (dp - delta);
            for (int64_t c = 0; c < dim; c++) {
                dq[c] += ds * t->exact[K][key + c];
                t->exact[DK][key + c] += ds * q[c];
            }
        }
    }
}

/* Random inputs, outputs of NaN and, when asked, what should come out. */
static void trial_make(struct trial *t, const struct sd_attn *a, int bf16, uint64_t seed, int reference)
{
    *t = (struct trial){.a = *a, .bf16 = bf16};
    int64_t width = a->heads * a->head_dim;
    struct sd_rng rng;
    sd_rng_seed(&rng, seed);
    for (int w = 0; w < TENSORS; w++) {
        int64_t rows = tokens_of(a, w), stride = stride_of(a, w);
        t->elements[w] = (rows - 1) * stride + width; /* the last token has no gap behind it */
        t->data[w] = get((size_t)t->elements[w] * (bf16 ? 2 : 4));
        t->exact[w] = get((size_t)(rows * width) * sizeof(double));
        memset(t->data[w], 0xff, (size_t)t->elements[w] * (bf16 ? 2 : 4));
        memset(t->exact[w], 0, (size_t)(rows * width) * sizeof(double));
        if (w != Q && w != K && w != V && w != DO)
            continue;
        float *x = get((size_t)(rows * width) * sizeof *x);
        sd_rng_randn(&rng, x, (size_t)(rows * width));
        for (int64_t i = 0; i < rows * width; i++) {
            set(t, w, i / width * stride + i % width, x[i]);
            t->exact[w][i] = element(t, w, i / width * stride + i % width);
        }
        free(x);
    }
    size_t scores = (size_t)(a->batch * a->heads * a->q_len);
    t->lse = get(scores * sizeof *t->lse);
    t->lse_exact = get(scores * sizeof *t->lse_exact);
    double *p = get((size_t)a->k_len * sizeof *p);
    for (int64_t head = 0; reference && head < a->batch * a->heads; head++)
        naive_head(t, head / a->heads, head % a->heads, p);
    free(p);
}

static void trial_free(struct trial *t)
{
    for (int w = 0; w < TENSORS; w++) {
        free(t->data[w]);
        free(t->exact[w]);
    }
    free(t->lse);
    free(t->lse_exact);
}

/* Runs one direction in scratch that starts as NaN; returns whether the fence behind it still stands. */
static int run(const struct sd_attn_kernels *kernels, struct trial *t, int backward)
{
    struct sd_attn_job job = {.a = t->a,
                              .bf16 = t->bf16,
                              .q = t->data[Q],
                              .k = t->data[K],
                              .v = t->data[V],
                              .out = t->data[O],
                              .lse_out = t->lse,
                              .o = t->data[O],
                              .lse = t->lse,
                              .dout = t->data[DO],
                              .dq = t->data[DQ],
                              .dk = t->data[DK],
                              .dv = t->data[DV]};
    size_t bytes = sd_attn_scratch(kernels, &t->a, t->bf16, backward);
    unsigned char *scratch = get(bytes + 64);
    memset(scratch, 0xff, bytes);
    memset(scratch + bytes, 0x5a, 64);
    sd_attn_run(kernels, &job, backward, scratch);
    int good = bytes % 64 == 0;
    for (int i = 0; i < 64; i++)
        good &= scratch[bytes + i] == 0x5a;
    free(scratch);
    return good;
}

/* Greatest difference over greatest magnitude; infinity when a gap was written to. */
static double error_of(const struct trial *t, int w)
{
    int64_t width = t->a.heads * t->a.head_dim, stride = stride_of(&t->a, w);
    double worst = 0, norm = 1e-30;
    for (int64_t i = 0; i < t->elements[w]; i++) {
        double x = element(t, w, i);
        if (i % stride >= width) {
            if (!isnan(x))
                return INFINITY;
            continue;
        }
        double want = t->exact[w][i / stride * width + i % stride], off = fabs(x - want);
        worst = off <= worst ? worst : isnan(off) ? INFINITY : off;
        norm = fmax(norm, fabs(want));
    }
    return worst / norm;
}

static double lse_error(const struct trial *t)
{
    double worst = 0;
    for (int64_t i = 0; i < t->a.batch * t->a.heads * t->a.q_len; i++) {
        double off = fabs(t->lse[i] - t->lse_exact[i]) / fmax(1, fabs(t->lse_exact[i]));
        worst = off <= worst ? worst : isnan(off) ? INFINITY : off;
    }
    return worst;
}

static int runs(int isa, int bf16)
{
    return sd_attn_kernels((enum sd_isa)isa) && (isa != SD_ISA_AMX || bf16);
}

/* One shape and type with every instruction set there is */
static void check(const struct sd_attn *a, int bf16)
{
    struct trial t;
    double limit = bf16 ? 2e-2 : 1e-5;
    trial_make(&t, a, bf16, 7, 1);
    for (int isa = 0; isa < SD_ISAS; isa++) {
        if (!runs(isa, bf16))
            continue;
        const int outputs[] = {O, DQ, DK, DV};
        for (int i = 0; i < 4; i++)
            memset(t.data[outputs[i]], 0xff, (size_t)t.elements[outputs[i]] * (bf16 ? 2 : 4));
        int fence = run(sd_attn_kernels((enum sd_isa)isa), &t, 0);
        double o = error_of(&t, O), lse = lse_error(&t);
        fence &= run(sd_attn_kernels((enum sd_isa)isa), &t, 1);
        double d[3] = {error_of(&t, DQ), error_of(&t, DK), error_of(&t, DV)};
        /* ds of a single visible key is 0, a difference of equal terms: its noise has no norm to be measured
         * by */
        int alone = a->k_len == 1;
        int good = fence && o <= limit && lse <= limit && (alone || (d[0] <= limit && d[1] <= limit)) &&
                   d[2] <= limit;
        ok(good, "%s %s [%lld,%lld,%lld,%lld,%lld]%s scale %g", isa_name[isa], bf16 ? "bf16" : "f32",
           (long long)a->batch, (long long)a->heads, (long long)a->q_len, (long long)a->k_len,
           (long long)a->head_dim, a->causal ? " causal" : "", (double)a->scale);
        if (!good)
            printf("# o %.2e lse %.2e dq %.2e dk %.2e dv %.2e%s\n", o, lse, d[0], d[1], d[2],
                   fence ? "" : ", wrote behind the scratch");
    }
    trial_free(&t);
}

/* Scale 0: o is the mean of the visible values, nothing flows to q and k. */
static void check_zero(const struct sd_attn *a, int bf16)
{
    struct trial t;
    trial_make(&t, a, bf16, 9, 1);
    for (int isa = 0; isa < SD_ISAS; isa++) {
        if (!runs(isa, bf16))
            continue;
        run(sd_attn_kernels((enum sd_isa)isa), &t, 0);
        run(sd_attn_kernels((enum sd_isa)isa), &t, 1);
        double limit = bf16 ? 2e-2 : 1e-5;
        int good = error_of(&t, O) <= limit && error_of(&t, DV) <= limit;
        for (int w = DQ; w <= DK; w++)
            for (int64_t i = 0; i < t.elements[w]; i++)
                good &= element(&t, w, i) == 0;
        ok(good, "%s %s: scale 0", isa_name[isa], bf16 ? "bf16" : "f32");
    }
    trial_free(&t);
}

static struct sd_attn shape(int64_t batch, int64_t heads, int64_t q, int64_t k, int64_t dim, int causal,
                            int gap)
{
    int64_t w = heads * dim;
    return (struct sd_attn){batch,       heads,   q,           k,      dim, causal, 1 / sqrtf((float)dim),
                            w + 3 * gap, w + gap, w + 2 * gap, w + gap};
}

/* The same bytes with 1, 2, 3 and 8 threads, and where only one result is wanted. */
static void check_threads(enum sd_isa isa, const struct sd_attn *a, int bf16)
{
    const struct sd_attn_kernels *kernels = sd_attn_kernels(isa);
    static const int threads[] = {1, 2, 3, 8};
    int most = omp_get_max_threads(), same = 1;
    struct trial first = {0}, t;
    for (int n = 0; n < 4; n++) {
        omp_set_num_threads(threads[n]);
        trial_make(&t, a, bf16, 3, 0);
        run(kernels, &t, 0);
        run(kernels, &t, 1);
        if (n == 0) {
            first = t;
            continue;
        }
        for (int w = 0; w < TENSORS; w++)
            if (memcmp(t.data[w], first.data[w], (size_t)t.elements[w] * (bf16 ? 2 : 4))) {
                printf("# %s differs with %d threads\n", tensor_name[w], threads[n]);
                same = 0;
            }
        trial_free(&t);
    }
    omp_set_num_threads(most);
    for (int w = DQ; w <= DV; w++) {
        trial_make(&t, a, bf16, 3, 0);
        run(kernels, &t, 0);
        for (int other = DQ; other <= DV; other++)
            if (other != w) {
                free(t.data[other]);
                t.data[other] = NULL;
            }
        run(kernels, &t, 1);
        if (memcmp(t.data[w], first.data[w], (size_t)t.elements[w] * (bf16 ? 2 : 4))) {
            printf("# %s differs when wanted alone\n", tensor_name[w]);
            same = 0;
        }
        trial_free(&t);
    }
    trial_free(&first);
    ok(same, "%s %s: same bytes with 1, 2, 3, 8 threads, alone or together", isa_name[isa],
       bf16 ? "bf16" : "f32");
}

int main(void)
{
    const struct sd_attn shapes[] = {
        shape(1, 1, 1, 1, 1, 0, 0),        shape(1, 2, 3, 2, 5, 0, 1),      shape(2, 3, 17, 33, 7, 0, 2),
        shape(1, 2, 256, 256, 40, 0, 0),   shape(2, 2, 300, 77, 40, 0, 4),  shape(1, 1, 700, 77, 64, 0, 0),
        shape(2, 2, 77, 77, 64, 1, 0),     shape(1, 2, 130, 290, 80, 0, 0), shape(1, 1, 64, 64, 160, 0, 0),
        shape(1, 1, 200, 310, 512, 0, 0),  shape(1, 2, 45, 130, 96, 0, 0),  shape(1, 3, 1, 600, 32, 0, 0),
        shape(1, 1, 600, 1, 16, 0, 0),     shape(1, 1, 350, 200, 33, 1, 5), shape(1, 1, 200, 350, 48, 1, 0),
        shape(1, 1, 1030, 1100, 40, 0, 0), shape(1, 1, 520, 513, 31, 1, 0), shape(1, 1, 300, 13, 20, 1, 0),
        shape(1, 1, 40, 70, 600, 0, 0),
    };
    const int count = sizeof shapes / sizeof *shapes;
    struct sd_attn steep = shape(1, 1, 100, 300, 40, 0, 0), negative = steep,
                   zero = shape(1, 1, 70, 50, 24, 1, 0);
    struct sd_attn many = shape(1, 1, 1030, 900, 40, 0, 0), cross = shape(1, 2, 1500, 77, 40, 0, 0);
    steep.scale = 3; /* nearly one key a query; in bf16 that leaves ds to rounding alone */
    negative.scale = -0.2F;
    zero.scale = 0;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (int i = 0; i < count; i++)
            check(&shapes[i], bf16);
        if (!bf16)
            check(&steep, bf16);
        check(&negative, bf16);
        check_zero(&zero, bf16);
        for (int isa = 0; isa < SD_ISAS; isa++)
            if (runs(isa, bf16)) {
                check_threads((enum sd_isa)isa, &many, bf16);
                check_threads((enum sd_isa)isa, &cross, bf16);
            } else if (isa != SD_ISA_AMX || bf16)
                skip(isa_name[isa], "cannot run here");
    }
    /* the public door: best kernels, lse not wanted */
    struct trial t, u;
    struct sd_attn a = shape(1, 2, 50, 60, 40, 0, 0);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        trial_make(&t, &a, bf16, 5, 0);
        trial_make(&u, &a, bf16, 5, 0);
        run(sd_attn_kernels(sd_isa_best(bf16)), &u, 0);
        run(sd_attn_kernels(sd_isa_best(bf16)), &u, 1);
        void *fwd = get(sd_cpu_attn_fwd_scratch(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16)),
             *bwd = get(sd_cpu_attn_bwd_scratch(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16));
        sd_cpu_attn_fwd(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16, t.data[Q], t.data[K], t.data[V],
                        t.data[O], NULL, fwd);
        sd_cpu_attn_bwd(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16, t.data[Q], t.data[K], t.data[V],
                        t.data[O], u.lse, t.data[DO], t.data[DQ], t.data[DK], t.data[DV], bwd);
        int same = 1;
        for (int w = 0; w < TENSORS; w++)
            same &= !memcmp(t.data[w], u.data[w], (size_t)t.elements[w] * (bf16 ? 2 : 4));
        ok(same, "%s",
           bf16 ? "sd_cpu_attn_fwd and _bwd, bf16, without lse"
                : "sd_cpu_attn_fwd and _bwd, f32, without lse");
        free(fwd);
        free(bwd);
        trial_free(&t);
        trial_free(&u);
    }
    return tap_end();
}
