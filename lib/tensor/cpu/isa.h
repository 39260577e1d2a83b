/* The instruction sets that kernels here are written for, weakest first. */
#ifndef SD_TENSOR_CPU_ISA_H
#define SD_TENSOR_CPU_ISA_H

#include <stdbool.h>

/* AMX: tiles of bfloat16, and with them AVX-512 with its bfloat16 instructions. */
enum sd_isa { SD_ISA_PLAIN, SD_ISA_AVX2, SD_ISA_AVX512, SD_ISA_AMX, SD_ISAS };

/* Whether this machine runs it; for AMX this asks the system for leave to use it. Costs a few system calls or
 * traps: ask once for a backend, not once for a call. */
bool sd_isa_runs(enum sd_isa isa);
/* The strongest for a type: AMX has nothing for f32. */
enum sd_isa sd_isa_best(bool bf16);

#endif
