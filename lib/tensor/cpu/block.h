/* What the vector kernels of the cpu backend are made of.
 *
 * Each kernel is written once, over f32, and works in blocks that stay in the first-level cache: load a block
 * (f32 is used in place, halves are widened into a buffer), compute, store. Loops carry `omp simd`, and the
 * function around them SD_CPU_CLONES, so one binary holds them for AVX-512, AVX2 and plain x86-64 and picks
 * when it is loaded. Work is cut into chunks whose size depends on the shape only, and what chunks sum up is
 * added in their order: the number of threads does not change a bit of any result. */
#ifndef SD_TENSOR_CPU_BLOCK_H
#define SD_TENSOR_CPU_BLOCK_H

#include "tensor/cpu/kernels.h"

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define SD_CPU_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SD_CPU_CLONES
#endif

#define SD_CPU_BLOCK 1024        /* elements a block */
#define SD_CPU_CHUNK 16384       /* elements a chunk of elementwise work */
#define SD_CPU_MAX_CHANNELS 8192 /* normalised rows and channel sums live on the stack */

/* n elements of x from `at` on as f32: x's own memory if it is f32, else buf filled. */
const float *sd_cpu_load(const void *x, enum sd_dtype type, int64_t at, int64_t n, float *buf);
/* Writes n values to y from `at` on; nothing to do when they were made there (sd_cpu_place). */
void sd_cpu_store(void *y, enum sd_dtype type, int64_t at, int64_t n, const float *v);

/* Where to make values for y from `at` on: y's own memory if it is f32, else buf; sd_cpu_store finishes them.
 */
static inline float *sd_cpu_place(void *y, enum sd_dtype type, int64_t at, float *buf)
{
    return type == SD_F32 ? (float *)y + at : buf;
}

static inline int64_t sd_cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t sd_cpu_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Calls body on [0, n) in chunks of `chunk`, spread over the threads. */
typedef void sd_cpu_body(const struct sd_call *c, int64_t from, int64_t to);
void sd_cpu_split(const struct sd_call *c, int64_t n, int64_t chunk, sd_cpu_body *body);

double sd_cpu_sum_squares(int64_t n, const float *x);

/* A plan() that refuses tensors of integers. */
int sd_cpu_plan_floats(struct sd_call *c, struct sd_err *err);

#endif
