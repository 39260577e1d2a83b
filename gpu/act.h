/* Activations and their slopes in f32. Each passes NaN on. */
#ifndef SD_GPU_ACT_H
#define SD_GPU_ACT_H

#include "kernel.h"

static inline __device__ float sd_sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* The normal distribution and its density: gelu(x) = x cdf(x). */
static inline __device__ float sd_normal_cdf(float x)
{
    return 0.5f + 0.5f * erff(x * 0.707106781f);
}
static inline __device__ float sd_normal_pdf(float x)
{
    return 0.398942280f * expf(-0.5f * x * x);
}

struct sd_identity {
    static __device__ float value(float x)
    {
        return x;
    }
    static __device__ float slope(float)
    {
        return 1;
    }
};

struct sd_silu {
    static __device__ float value(float x)
    {
        return x * sd_sigmoid(x);
    }
    static __device__ float slope(float x)
    {
        float s = sd_sigmoid(x);
        return s * (1 + x * (1 - s));
    }
};

struct sd_gelu {
    static __device__ float value(float x)
    {
        return x * sd_normal_cdf(x);
    }
    static __device__ float slope(float x)
    {
        return sd_normal_cdf(x) + x * sd_normal_pdf(x);
    }
};

struct sd_quick_gelu {
    static __device__ float value(float x)
    {
        return x * sd_sigmoid(1.702f * x);
    }
    static __device__ float slope(float x)
    {
        float s = sd_sigmoid(1.702f * x);
        return s * (1 + 1.702f * x * (1 - s));
    }
};

/* (1 + tanh(a)) / 2 is the sigmoid of 2 a. */
struct sd_gelu_tanh {
    static __device__ float half(float x)
    {
        return sd_sigmoid(1.59576912f * x * (1 + 0.044715f * x * x));
    }
    static __device__ float value(float x)
    {
        return x * half(x);
    }
    static __device__ float slope(float x)
    {
        float s = half(x);
        return s + s * (1 - s) * 1.59576912f * x * (1 + 0.134145f * x * x);
    }
};

struct sd_logistic {
    static __device__ float value(float x)
    {
        return sd_sigmoid(x);
    }
    static __device__ float slope(float x)
    {
        float s = sd_sigmoid(x);
        return s * (1 - s);
    }
};

/* f(A{}) for the struct above that act names. */
template <typename F> void sd_by_act(enum sd_act act, F f)
{
    switch (act) {
    case SD_ACT_SILU:
        return f(sd_silu{});
    case SD_ACT_GELU:
        return f(sd_gelu{});
    case SD_ACT_QUICK_GELU:
        return f(sd_quick_gelu{});
    case SD_ACT_GELU_TANH:
        return f(sd_gelu_tanh{});
    case SD_ACT_SIGMOID:
        return f(sd_logistic{});
    default:
        return f(sd_identity{});
    }
}

#endif
