/* For syscall. */
#define _GNU_SOURCE

#include "tensor/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

static bool amx_runs(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return false;
    unsigned amx = 1u << 22 | 1u << 24, avx512_bf16 = 1u << 5; /* AMX-BF16 and AMX-TILE */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & amx) != amx)
        return false;
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & avx512_bf16))
        return false;
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static bool amx_runs(void)
{
    return false;
}
#endif
#endif

bool sd_isa_runs(enum sd_isa isa)
{
    switch (isa) {
    case SD_ISA_PLAIN:
        return true;
#if defined(__x86_64__)
    case SD_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case SD_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
    case SD_ISA_AMX:
        return amx_runs();
#endif
    default:
        return false;
    }
}

enum sd_isa sd_isa_best(bool bf16)
{
    int isa = bf16 ? SD_ISA_AMX : SD_ISA_AVX512;
    while (!sd_isa_runs((enum sd_isa)isa))
        isa--;
    return (enum sd_isa)isa;
}
