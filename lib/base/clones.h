/* SD_CLONES before a function: it is compiled a second time for wider vectors (AVX2), which are used where
 * the machine has them. Without FMA, which would round otherwise. What it calls must be inlined to gain. */
#ifndef SD_BASE_CLONES_H
#define SD_BASE_CLONES_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define SD_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define SD_CLONES
#endif

#endif
