/* What the emulator's own files share. */
#ifndef SD_GPU_EMU_EMU_H
#define SD_GPU_EMU_EMU_H

#include "cuda.h"

constexpr int SD_EMU_THREADS = 1024; /* in a block at most */
constexpr size_t SD_EMU_SHARED_STATIC = 48 << 10, SD_EMU_SHARED_MAX = 227 << 10;

/* --- fibre.cc: stacks to run on --- */

struct sd_emu_fibre {
    void *sp;          /* while it does not run */
    const void *stack; /* for AddressSanitizer */
    size_t bytes;
    void *fake;         /* AddressSanitizer's own */
    sd_emu_fibre *next; /* for lists of its user */
};

/* A fibre that calls body, which never returns, when it is first switched to; aborts when memory is out. */
sd_emu_fibre *sd_emu_fibre_new(void (*body)(void));
/* Goes on in fibre to; returns when another fibre switches back to from, the one that runs. */
void sd_emu_fibre_switch(sd_emu_fibre *from, sd_emu_fibre *to);

/* --- block.cc --- */

/* Runs all blocks of a launch; aborts with a message where the kernel or the launch is wrong. */
void sd_emu_run(const sd_emu_launch *launch, size_t dynamic_limit);

/* --- runtime.cc --- */

/* Every call of the runtime holds one: calls take turns. */
struct sd_emu_turn {
    sd_emu_turn();
    ~sd_emu_turn();
};

/* The error that lost the device, after which no call does anything, or cudaSuccess. */
cudaError_t sd_emu_lost(void);
/* What every call of the runtime returns with: the error that lost the device, else e; kept as last error. */
cudaError_t sd_emu_result(cudaError_t e);

/* --- graph.cc --- */

/* An operation of a stream: done now or recorded, with a copy of its arguments. */
cudaError_t sd_emu_submit(cudaStream_t stream, void (*run)(const void *), const void *args, size_t bytes);
/* cudaErrorStreamCaptureUnsupported, and the captures spoilt, if one forbids calls like allocations. */
cudaError_t sd_emu_unless_capturing(bool even_relaxed);

#endif
