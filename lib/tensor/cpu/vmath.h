/* exp, the logistic function and the normal distribution in f32, free of branches and calls so that loops
 * over them become vector code. exp and the logistic function are within 2e-7 relative, the distribution
 * within 2e-7 absolute. */
#ifndef SD_TENSOR_CPU_VMATH_H
#define SD_TENSOR_CPU_VMATH_H

#include <stdint.h>
#include <string.h>

static inline float bits_to_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint32_t float_to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* x held to [-87.25, 87.25]; in integers, which compilers leave free of branches. NaN becomes a number. */
static inline float clamp_exponent(float x)
{
    uint32_t u = float_to_bits(x);
    int32_t magnitude = (int32_t)(u & 0x7fffffff), limit = 0x42ae8000;
    magnitude = magnitude < limit ? magnitude : limit;
    return bits_to_float((uint32_t)magnitude | (u & 0x80000000));
}

/* e^x as 2^n e^r, |r| <= ln(2)/2, polynomial of Cephes' expf. Saturates near 1e-38 and 8e37; NaN is lost,
 * which the functions below bring back by multiplying with x. */
static inline float vexp(float x)
{
    x = clamp_exponent(x);
    float shifted = x * 1.44269504f + 0x1.8p23f; /* rounds to the nearest integer, held in the low bits */
    float n = shifted - 0x1.8p23f;
    float r = x - n * 0.693359375f;
    r += n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1;
    return p * bits_to_float((float_to_bits(shifted) + 127) << 23);
}

static inline float vsigmoid(float x)
{
    return 1 / (1 + vexp(-x));
}

/* Normal distribution function (1 + erf(x/sqrt 2)) / 2: a polynomial in the middle, erfc(t) = e^(polynomial)
 * beyond (after N. Juffa's erff). */
static inline float vcdf(float x)
{
    float a = x * 0.707106781f, t = __builtin_fabsf(a), s = a * a;
    float r = -1.72853470e-5f * t + 3.83197126e-4f;
    float u = -3.88396438e-3f * t + 2.42546219e-2f;
    r = r * s + u;
    r = r * t - 1.06777877e-1f;
    r = r * t - 6.34846687e-1f;
    r = r * t - 1.28717512e-1f;
    r = r * t - t;
    float tail = __builtin_copysignf(0.5f - 0.5f * vexp(r), a);
    float m = -5.96761703e-4f;
    m = m * s + 4.99119423e-3f;
    m = m * s - 2.67681349e-2f;
    m = m * s + 1.12819925e-1f;
    m = m * s - 3.76125336e-1f;
    m = m * s + 1.28379166e-1f;
    m = 0.5f * (m * a + a);
    return 0.5f + (t > 0.927734375f ? tail : m);
}

static inline float vpdf(float x)
{
    return 0.39894228f * vexp(-0.5f * x * x);
}

static inline float vsilu(float x)
{
    return x / (1 + vexp(-x));
}

static inline float vsilu_slope(float x)
{
    float s = vsigmoid(x);
    return s * (1 + x * (1 - s));
}

static inline float vgelu(float x)
{
    return x * vcdf(x);
}

static inline float vgelu_slope(float x)
{
    return vcdf(x) + x * vpdf(x);
}

static inline float vquick_gelu(float x)
{
    return x / (1 + vexp(-1.702f * x));
}

static inline float vquick_gelu_slope(float x)
{
    float s = vsigmoid(1.702f * x);
    return s * (1 + 1.702f * x * (1 - s));
}

/* The sigmoid as an activation: NaN stays. */
static inline float vlogistic(float x)
{
    return x != x ? x : vsigmoid(x);
}

/* (1 + tanh(a)) / 2 is the sigmoid of 2 a. */
static inline float vgelu_tanh(float x)
{
    return x / (1 + vexp(-1.59576912f * x * (1 + 0.044715f * x * x)));
}

static inline float vgelu_tanh_slope(float x)
{
    float s = vsigmoid(1.59576912f * x * (1 + 0.044715f * x * x));
    return s + s * (1 - s) * 1.59576912f * x * (1 + 0.134145f * x * x);
}

#endif
