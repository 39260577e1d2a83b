/* CUDA's functions on numbers, and the half types. Included by cuda.h only. */
#ifndef SD_GPU_EMU_NUMBER_H
#define SD_GPU_EMU_NUMBER_H

/* --- half types: 2 bytes that only conversions understand --- */

struct __half {
    sd_f16 bits;
};
struct __nv_bfloat16 {
    sd_bf16 bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

#define SD_EMU_HALF(type, pair, to, from)                    \
    static inline type __float2##to##_rn(float x)            \
    {                                                        \
        return {from(x)};                                    \
    }                                                        \
    static inline type __float2##to(float x)                 \
    {                                                        \
        return {from(x)};                                    \
    }                                                        \
    static inline pair __floats2##to##2_rn(float x, float y) \
    {                                                        \
        return {{from(x)}, {from(y)}};                       \
    }                                                        \
    static inline pair __float22##to##2_rn(float2 v)         \
    {                                                        \
        return {{from(v.x)}, {from(v.y)}};                   \
    }                                                        \
    static inline unsigned short __##to##_as_ushort(type x)  \
    {                                                        \
        return x.bits;                                       \
    }                                                        \
    static inline type __ushort_as_##to(unsigned short x)    \
    {                                                        \
        return {x};                                          \
    }
SD_EMU_HALF(__half, __half2, half, sd_f32_to_f16)
SD_EMU_HALF(__nv_bfloat16, __nv_bfloat162, bfloat16, sd_f32_to_bf16)

static inline float __half2float(__half x)
{
    return sd_f16_to_f32(x.bits);
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return sd_bf16_to_f32(x.bits);
}
static inline float2 __half22float2(__half2 v)
{
    return {__half2float(v.x), __half2float(v.y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return {__bfloat162float(v.x), __bfloat162float(v.y)};
}

/* --- bits --- */

template <typename To, typename From> To sd_emu_bits(From x)
{
    static_assert(sizeof(To) == sizeof(From));
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static inline unsigned __float_as_uint(float x)
{
    return sd_emu_bits<unsigned>(x);
}
static inline int __float_as_int(float x)
{
    return sd_emu_bits<int>(x);
}
static inline float __uint_as_float(unsigned x)
{
    return sd_emu_bits<float>(x);
}
static inline float __int_as_float(int x)
{
    return sd_emu_bits<float>(x);
}
static inline long long __double_as_longlong(double x)
{
    return sd_emu_bits<long long>(x);
}
static inline double __longlong_as_double(long long x)
{
    return sd_emu_bits<double>(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return unsigned((uint64_t(a) * b) >> 32);
}
static inline int __mulhi(int a, int b)
{
    return int((int64_t(a) * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((static_cast<unsigned __int128>(a) * b) >> 64);
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x)
{
    return __builtin_popcountll(x);
}
static inline int __clz(int x)
{
    return x ? __builtin_clz(unsigned(x)) : 32;
}
static inline int __clzll(long long x)
{
    return x ? __builtin_clzll((unsigned long long)x) : 64;
}
static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

/* --- loads and stores with hints to the cache --- */

template <typename T> T __ldg(const T *p)
{
    return *p;
}
template <typename T> T __ldcs(const T *p)
{
    return *p;
}
template <typename T> void __stcs(T *p, T x)
{
    *p = x;
}

/* --- arithmetic --- */

#define SD_EMU_MIN_MAX(type)               \
    static inline type min(type a, type b) \
    {                                      \
        return b < a ? b : a;              \
    }                                      \
    static inline type max(type a, type b) \
    {                                      \
        return a < b ? b : a;              \
    }
SD_EMU_MIN_MAX(int)
SD_EMU_MIN_MAX(unsigned)
SD_EMU_MIN_MAX(long)
SD_EMU_MIN_MAX(unsigned long)
SD_EMU_MIN_MAX(long long)
SD_EMU_MIN_MAX(unsigned long long)
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}

/* glibc's header declares these names for itself. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __sincosf(x, sine, cosine) sincosf(x, sine, cosine)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)

#define SD_EMU_UNARY(name, value)     \
    static inline float name(float x) \
    {                                 \
        return value;                 \
    }
#define SD_EMU_BINARY(name, value)             \
    static inline float name(float x, float y) \
    {                                          \
        return value;                          \
    }
SD_EMU_UNARY(rsqrtf, 1 / sqrtf(x))
SD_EMU_UNARY(normcdff, 0.5f * erfcf(x * -0.70710678f))
SD_EMU_UNARY(__saturatef, x > 0 ? fminf(x, 1) : 0) /* NaN becomes 0 */
SD_EMU_UNARY(__frcp_rn, 1 / x)
SD_EMU_UNARY(__fsqrt_rn, sqrtf(x))
SD_EMU_BINARY(__fdividef, x / y)
SD_EMU_BINARY(__fadd_rn, x + y)
SD_EMU_BINARY(__fsub_rn, x - y)
SD_EMU_BINARY(__fmul_rn, x *y)
SD_EMU_BINARY(__fdiv_rn, x / y)
static inline float __fmaf_rn(float x, float y, float z)
{
    return fmaf(x, y, z);
}
static inline int __float2int_rn(float x)
{
    return int(lrintf(x));
}
static inline int __float2int_rz(float x)
{
    return int(x);
}
static inline float __int2float_rn(int x)
{
    return float(x);
}
static inline float __uint2float_rn(unsigned x)
{
    return float(x);
}
static inline double rsqrt(double x)
{
    return 1 / sqrt(x);
}

#endif
