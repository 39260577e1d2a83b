/* The launch emulator: CUDA's language and runtime, as far as gpu/ uses them, on the host. gpu/kernel.h takes
 * this file in place of CUDA's headers when SD_GPU_EMULATED is defined, so the same kernels run without a
 * device, a toolkit or nvcc, under sanitizers and debuggers.
 *
 * How it works. A launch runs its blocks one after the other on the calling thread (block.cc). Each thread of
 * a block is a call of the kernel on a stack that is not the host's; one that never waits hands its stack to
 * the next, one that waits at a barrier or for its warp keeps it until its turn comes again (fibre.cc). The
 * runtime is a device whose memory is the host's and whose streams do everything at once (runtime.cc);
 * capturing really records and does not run (graph.cc).
 *
 * What it finds, and tells on standard error with kernel, block and thread before it aborts: barriers that
 * not all threads of a block reach, or not in one place; warp primitives that wait for a lane that left or
 * is elsewhere; too much shared memory, or writes past its end; launches that no device takes. Device and
 * shared memory begin as bytes 0xff, NaN in all float types, and every array is an allocation of exactly its
 * size, which AddressSanitizer fences. A missing barrier or a dependence on the order of blocks shows as
 * results that differ between the orders of SD_EMU_ORDER.
 *
 * What it does not emulate: threads really running at once (atomics are plain, a spin on another thread's
 * write never ends), memory ordering between barriers, lanes in lockstep, asynchrony (a stream is never
 * behind the host), time, registers and launch bounds, alignment of shared memory below 16 bytes, caches,
 * tensor cores; and __expf and its like are as exact as the host's library.
 *
 * The environment, read at each launch or allocation:
 *   SD_EMU_ORDER=forward|backward|shuffle:SEED  the order of blocks, and of a block's threads between waits
 *   SD_EMU_MEMORY=BYTES                         the device's memory; else the host's
 *   SD_EMU_FAIL=N                               the Nth launch from now on and all after it fail */
#ifndef SD_GPU_EMU_CUDA_H
#define SD_GPU_EMU_CUDA_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <type_traits>

extern "C" {
#include "base/half.h"
}

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

#include "vector.h"
#include "runtime.h"
#include "launch.h"
#include "warp.h"
#include "number.h"

#endif
