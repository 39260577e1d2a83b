/* Attention on the CPU: which kernels run, how their work is spread, and the f32 kernels for each instruction
 * set. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/half.h"
#include "tensor/cpu/attention_impl.h"
#include "tensor/cpu/vector.h"

/* 2^x for |x| <= 1/2: the polynomial of least greatest relative error, 7.5e-8 (Remez) */
#define EXP2_POLYNOMIAL(f, fma, set)                                                                \
    fma(fma(fma(fma(fma(set(0.001327647198F), f, set(0.009675541334F)), f, set(0.05550713274F)), f, \
                set(0.2402211972F)),                                                                \
            f, set(0.6931469671F)),                                                                 \
        f, set(1.000000072F))

typedef int32_t vi4 __attribute__((vector_size(16), may_alias));

#define SET4(x) ((x) - (vf4){0})

/* the second where either is NaN */
static inline vf4 max_plain(vf4 a, vf4 b)
{
    vi4 more = a > b;
    return (vf4)(((vi4)a & more) | ((vi4)b & ~more));
}

/* Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits, from where it is added to the
 * exponent. */
static inline vf4 exp2_plain(vf4 x)
{
    vi4 normal = x >= -126;
    x = max_plain(SET4(-126), x);
    vf4 t = x + 12582912.0F, f = x - (t - 12582912.0F);
    vf4 p = EXP2_POLYNOMIAL(f, fma_plain, SET4);
    vi4 r = (vi4)p + ((vi4)t << 23);
    return (vf4)(r & (normal | (vi4)(x != x)));
}

#define ISA(name) name##_plain
#define TARGET
#define LANES 4
#define VF vf4
#define ROWS 4
#define COLV 2
#define VFMA fma_plain
#define VMAX max_plain
#define VEXP2 exp2_plain
#include "attention_f32.inc"

#if defined(__x86_64__)
AVX2 static inline vf8 exp2_avx2(vf8 x)
{
    __m256 normal = _mm256_cmp_ps(x, _mm256_set1_ps(-126), _CMP_NLT_UQ); /* NaN passes */
    x = _mm256_max_ps(_mm256_set1_ps(-126), x);
    __m256 t = _mm256_add_ps(x, _mm256_set1_ps(12582912.0F));
    __m256 f = _mm256_sub_ps(x, _mm256_sub_ps(t, _mm256_set1_ps(12582912.0F)));
    __m256 p = EXP2_POLYNOMIAL(f, _mm256_fmadd_ps, _mm256_set1_ps);
    __m256i r = _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23));
    return _mm256_and_ps(_mm256_castsi256_ps(r), normal);
}

#define ISA(name) name##_avx2
#define TARGET AVX2
#define LANES 8
#define VF vf8
#define ROWS 4
#define COLV 3
#define VFMA _mm256_fmadd_ps
#define VMAX _mm256_max_ps
#define VEXP2 exp2_avx2
#include "attention_f32.inc"

/* -inf leaves no remainder and scales to 0. */
AVX512 static inline vf16 exp2_avx512(vf16 x)
{
    __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 p = EXP2_POLYNOMIAL(f, _mm512_fmadd_ps, _mm512_set1_ps);
    return _mm512_scalef_ps(p, _mm512_sub_ps(x, f));
}

#define ISA(name) name##_avx512
#define TARGET AVX512
#define LANES 16
#define VF vf16
#define ROWS 8
#define COLV 2
#define VFMA _mm512_fmadd_ps
#define VMAX _mm512_max_ps
#define VEXP2 exp2_avx512
#include "attention_f32.inc"
#endif

const struct sd_attn_kernels *sd_attn_kernels(enum sd_isa isa)
{
    if (!sd_isa_runs(isa))
        return NULL;
    switch (isa) {
#if defined(__x86_64__)
    case SD_ISA_AVX2:
        return &kernels_avx2;
    case SD_ISA_AVX512:
        return &kernels_avx512;
    case SD_ISA_AMX:
        return sd_attn_amx();
#endif
    default:
        return &kernels_plain;
    }
}

static struct sd_attn_plan make_plan(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16,
                                     int backward)
{
    struct sd_attn_plan plan = {0};
    (backward ? kernels->bwd : kernels->fwd)(a, bf16, &plan);
    return plan;
}

size_t sd_attn_scratch(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16, int backward)
{
    struct sd_attn_plan plan = make_plan(kernels, a, bf16, backward);
    return plan.shared + plan.local * (size_t)omp_get_max_threads();
}

void sd_attn_run(const struct sd_attn_kernels *kernels, const struct sd_attn_job *job, int backward,
                 void *scratch)
{
    struct sd_attn_plan plan = make_plan(kernels, &job->a, job->bf16, backward);
    struct sd_attn_job work = *job;
    work.shared = scratch;
#pragma omp parallel
    {
        char *local = work.shared + plan.shared + plan.local * (size_t)omp_get_thread_num();
        for (int i = 0; i < plan.stages; i++)
#pragma omp for schedule(dynamic)
            for (int64_t piece = 0; piece < plan.stage[i].count; piece++)
                plan.stage[i].run(&work, piece, local);
    }
}

size_t sd_cpu_attn_fwd_scratch(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16)
{
    return sd_attn_scratch(kernels, a, bf16, 0);
}

size_t sd_cpu_attn_bwd_scratch(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16)
{
    return sd_attn_scratch(kernels, a, bf16, 1);
}

void sd_cpu_attn_fwd(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16, const void *q,
                     const void *k, const void *v, void *o, float *lse, void *scratch)
{
    struct sd_attn_job job = {.a = *a, .bf16 = bf16, .q = q, .k = k, .v = v, .out = o, .lse_out = lse};
    sd_attn_run(kernels, &job, 0, scratch);
}

void sd_cpu_attn_bwd(const struct sd_attn_kernels *kernels, const struct sd_attn *a, int bf16, const void *q,
                     const void *k, const void *v, const void *o, const float *lse, const void *dout,
                     void *dq, void *dk, void *dv, void *scratch)
{
    struct sd_attn_job job = {.a = *a,
                              .bf16 = bf16,
                              .q = q,
                              .k = k,
                              .v = v,
                              .o = o,
                              .dout = dout,
                              .lse = lse,
                              .dq = dq,
                              .dk = dk,
                              .dv = dv};
    sd_attn_run(kernels, &job, 1, scratch);
}
