/* Launches, and what the threads of a block share. Included by cuda.h only. */
#ifndef SD_GPU_EMU_LAUNCH_H
#define SD_GPU_EMU_LAUNCH_H

extern __attribute__((visibility("hidden"))) uint3 threadIdx, blockIdx;
extern __attribute__((visibility("hidden"))) dim3 blockDim, gridDim;
constexpr int warpSize = 32;

/* A place in the source, for messages and to tell one barrier from another. */
struct sd_emu_site {
    const char *file;
    int line;
};
/* The last parameters of a function that must know where it is called. */
#define SD_EMU_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* --- launches --- */

/* A launch; the kernel's arguments follow in memory, where call finds them. */
struct alignas(16) sd_emu_launch {
    const char *text; /* the launch's arguments as they stand in the source */
    sd_emu_site site;
    const void *kernel;
    dim3 grid, block;
    size_t shared;
    void (*call)(const sd_emu_launch *launch); /* as the thread that threadIdx names */
};

/* Runs the launch, or records it when the stream is being captured. bytes: with the arguments. */
void sd_emu_submit_launch(cudaStream_t stream, const sd_emu_launch *launch, size_t bytes);

template <typename... P, typename... A>
void sd_emu_launch_kernel(const char *text, sd_emu_site site, cudaStream_t stream, dim3 grid, dim3 block,
                          size_t shared, void (*kernel)(P...), A... args)
{
    static_assert(sizeof...(P) == sizeof...(A), "a launch gives a kernel all its arguments");
    auto thread = [=] { kernel(static_cast<P>(args)...); };
    struct whole {
        sd_emu_launch head;
        decltype(thread) body;
    };
    static_assert(std::is_trivially_copyable_v<whole> && alignof(whole) == alignof(sd_emu_launch));
    static_assert(sizeof thread <= 4096, "a device takes 4 KiB of arguments");
    auto call = [](const sd_emu_launch *launch) { reinterpret_cast<const whole *>(launch)->body(); };
    whole w = {{text, site, reinterpret_cast<const void *>(kernel), grid, block, shared, call}, thread};
    sd_emu_submit_launch(stream, &w.head, sizeof w);
}

#define sd_launch(...) sd_emu_launch_kernel(#__VA_ARGS__, sd_emu_site{__FILE__, __LINE__}, __VA_ARGS__)

/* --- shared memory --- */

/* Where a declaration of shared memory remembers its array for the block that runs. */
struct sd_emu_shared {
    uint64_t block;
    void *memory;
};

void *sd_emu_shared_array(sd_emu_shared *slot, size_t bytes, const char *name);
void *sd_emu_shared_dynamic(void);

/* A reference to an array, so that sizeof and the bounds check of -fsanitize=undefined know the length. */
#define SD_SHARED(type, name, count)  \
    static sd_emu_shared name##_slot; \
    type(&name)[count] =              \
        *reinterpret_cast<type(*)[count]>(sd_emu_shared_array(&name##_slot, sizeof(type) * (count), #name))

#define SD_SHARED_DYNAMIC(type, name) type *const name = static_cast<type *>(sd_emu_shared_dynamic())

/* --- barriers of a block --- */

/* Waits for the whole block; how many of its threads gave a predicate other than 0. */
int sd_emu_barrier(const char *what, bool predicate, sd_emu_site site);

static inline void __syncthreads(SD_EMU_CALLER)
{
    sd_emu_barrier("__syncthreads", false, {file, line});
}
static inline int __syncthreads_count(int predicate, SD_EMU_CALLER)
{
    return sd_emu_barrier("__syncthreads_count", predicate, {file, line});
}
static inline int __syncthreads_or(int predicate, SD_EMU_CALLER)
{
    return sd_emu_barrier("__syncthreads_or", predicate, {file, line}) != 0;
}
static inline int __syncthreads_and(int predicate, SD_EMU_CALLER)
{
    return sd_emu_barrier("__syncthreads_and", !predicate, {file, line}) == 0;
}
static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}

#endif
