/* Vectors of f32 for kernels written once and compiled for each instruction set of isa.h (the .inc files). */
#ifndef SD_TENSOR_CPU_VECTOR_H
#define SD_TENSOR_CPU_VECTOR_H

#include <stdint.h>

typedef float vf4 __attribute__((vector_size(16), may_alias));

static inline vf4 fma_plain(vf4 a, vf4 b, vf4 c)
{
    return a * b + c;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
typedef float vf8 __attribute__((vector_size(32), may_alias));

#define AVX512 __attribute__((target("avx512f,avx512dq,fma")))
typedef float vf16 __attribute__((vector_size(64), may_alias));
#endif

#endif
