/* CUDA's vector types. Included by cuda.h only. */
#ifndef SD_GPU_EMU_VECTOR_H
#define SD_GPU_EMU_VECTOR_H

#define SD_EMU_VECTOR2(type, name, align)          \
    struct alignas(align) name {                   \
        type x, y;                                 \
    };                                             \
    static inline name make_##name(type x, type y) \
    {                                              \
        return {x, y};                             \
    }
#define SD_EMU_VECTOR3(type, name)                         \
    struct name {                                          \
        type x, y, z;                                      \
    };                                                     \
    static inline name make_##name(type x, type y, type z) \
    {                                                      \
        return {x, y, z};                                  \
    }
#define SD_EMU_VECTOR4(type, name, align)                          \
    struct alignas(align) name {                                   \
        type x, y, z, w;                                           \
    };                                                             \
    static inline name make_##name(type x, type y, type z, type w) \
    {                                                              \
        return {x, y, z, w};                                       \
    }

SD_EMU_VECTOR2(float, float2, 8)
SD_EMU_VECTOR3(float, float3)
SD_EMU_VECTOR4(float, float4, 16)
SD_EMU_VECTOR2(double, double2, 16)
SD_EMU_VECTOR2(int, int2, 8)
SD_EMU_VECTOR3(int, int3)
SD_EMU_VECTOR4(int, int4, 16)
SD_EMU_VECTOR2(unsigned, uint2, 8)
SD_EMU_VECTOR3(unsigned, uint3)
SD_EMU_VECTOR4(unsigned, uint4, 16)
SD_EMU_VECTOR2(unsigned short, ushort2, 4)
SD_EMU_VECTOR4(unsigned short, ushort4, 8)
SD_EMU_VECTOR4(unsigned char, uchar4, 4)
SD_EMU_VECTOR2(long long, longlong2, 16)
SD_EMU_VECTOR2(unsigned long long, ulonglong2, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
};

#endif
