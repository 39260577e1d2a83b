/* Runs the threads of a block, one block after the other, in turns: a thread runs until it waits or is done,
 * then the next that can run goes on, round and round in the order of the launch. When all threads wait at
 * the barrier it opens; when all lanes named in a warp primitive wait there they get their results; when
 * nobody can go on the kernel is wrong, and the message says who waits for whom. */
#include "emu.h"

#include <stdarg.h>
#include <stdlib.h>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace
{

enum state { READY, RUNNING, AT_BARRIER, AT_WARP, DONE };

struct thread {
    enum state state;
    uint3 index;
    sd_emu_fibre *fibre; /* NULL until it has waited once */
    const char *what;    /* what it waits at */
    sd_emu_site site;
    unsigned mask;   /* of the warp primitive */
    int source;      /* the lane whose value it asks for, or SD_EMU_BALLOT */
    uint64_t value;  /* given */
    uint64_t result; /* got */
};

struct array {
    struct array *next;
    const char *name;
    size_t bytes;
    char *memory;
};

struct order {
    enum { FORWARD, BACKWARD, SHUFFLE } way;
    uint64_t seed;
};

/* The block that runs. */
struct {
    const sd_emu_launch *launch;
    unsigned threads, cursor, waiting, done;
    int count, result; /* predicates of the barrier that fills, and of the last that opened */
    struct thread *now, thread[SD_EMU_THREADS];
    unsigned order[SD_EMU_THREADS];
    unsigned arrived[SD_EMU_THREADS / warpSize]; /* lanes that wait at warp primitives */
    struct array *arrays, *dynamic;
    size_t shared_static;
    uint64_t serial; /* of all blocks of the process */
} block;

sd_emu_fibre host, *idle;

/* --- messages --- */

void say(const struct thread *t, const char *format, va_list args)
{
    const sd_emu_launch *l = block.launch;
    fflush(stdout);
    fprintf(stderr, "gpu emulator: %s:%d: launch(%s)", l->site.file, l->site.line, l->text);
    if (t)
        fprintf(stderr, ", block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z,
                t->index.x, t->index.y, t->index.z);
    fprintf(stderr, ": ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
}

[[noreturn]] __attribute__((format(printf, 2, 3))) void wrong(const struct thread *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(t, format, args);
    abort();
}

bool same_site(sd_emu_site a, sd_emu_site b)
{
    return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

/* t waits for other, which is not coming. */
[[noreturn]] void missing(const struct thread *t, const struct thread *other)
{
    char mask[32] = "", where[300] = "has left the kernel";
    if (t->state == AT_WARP)
        snprintf(mask, sizeof mask, " with mask 0x%08x", t->mask);
    if (other->state == AT_WARP)
        snprintf(where, sizeof where, "waits at %s with mask 0x%08x (%s:%d)", other->what, other->mask,
                 other->site.file, other->site.line);
    if (other->state == AT_BARRIER)
        snprintf(where, sizeof where, "waits at %s (%s:%d)", other->what, other->site.file, other->site.line);
    wrong(t, "waits at %s%s (%s:%d), but thread (%u, %u, %u) %s", t->what, mask, t->site.file, t->site.line,
          other->index.x, other->index.y, other->index.z, where);
}

/* Nobody can run and not all are done. Those who wait for their warp come first: theirs is the cause. */
[[noreturn]] void stalled(void)
{
    for (unsigned i = 0; i < block.threads; i++) {
        const struct thread *t = &block.thread[i], *warp = &block.thread[i & ~(warpSize - 1u)];
        for (int lane = 0; t->state == AT_WARP && lane < warpSize; lane++) {
            const struct thread *other = &warp[lane];
            if (t->mask >> lane & 1 &&
                (other->state != AT_WARP || other->mask != t->mask || !same_site(other->site, t->site)))
                missing(t, other);
        }
    }
    const struct thread *first = nullptr, *gone = nullptr;
    for (unsigned i = 0; i < block.threads; i++) {
        const struct thread *t = &block.thread[i];
        *(t->state == AT_BARRIER ? &first : &gone) = t;
    }
    missing(first, gone);
}

/* --- turns --- */

struct order order_now(void)
{
    const char *s = getenv("SD_EMU_ORDER");
    char *end;
    if (!s || !*s || !strcmp(s, "forward"))
        return {order::FORWARD, 0};
    if (!strcmp(s, "backward"))
        return {order::BACKWARD, 0};
    if (!strncmp(s, "shuffle:", 8) && s[8] >= '0' && s[8] <= '9') {
        uint64_t seed = strtoull(s + 8, &end, 10);
        if (!*end)
            return {order::SHUFFLE, seed};
    }
    wrong(nullptr, "SD_EMU_ORDER is '%s', not forward, backward or shuffle:SEED", s);
}

uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* What comes ith of n. Shuffled, i goes through steps of some length that has no common divisor with n. */
uint64_t nth(struct order order, uint64_t i, uint64_t n)
{
    if (order.way == order::FORWARD)
        return i;
    if (order.way == order::BACKWARD)
        return n - 1 - i;
    uint64_t random = mix(order.seed + 0x9e3779b97f4a7c15 * n), step = random % n;
    for (;; step++) {
        uint64_t a = n, b = step;
        while (b) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            break;
    }
    return uint64_t((static_cast<unsigned __int128>(step) * i + (random >> 32)) % n);
}

void open_barrier(void)
{
    const struct thread *first = &block.thread[0];
    for (unsigned i = 0; i < block.threads; i++)
        if (!same_site(block.thread[i].site, first->site))
            missing(&block.thread[i], first);
    for (unsigned i = 0; i < block.threads; i++)
        block.thread[i].state = READY;
    block.result = block.count;
    block.waiting = block.count = block.cursor = 0;
}

/* Makes the next thread that can go on the one that runs; NULL when all are done. */
struct thread *next_thread(void)
{
    if (block.done == block.threads)
        return nullptr;
    if (block.waiting == block.threads)
        open_barrier();
    for (unsigned i = 0; i < block.threads; i++) {
        struct thread *t = &block.thread[block.order[block.cursor]];
        block.cursor = block.cursor + 1 == block.threads ? 0 : block.cursor + 1;
        if (t->state == READY) {
            t->state = RUNNING;
            block.now = t;
            threadIdx = t->index;
            return t;
        }
    }
    stalled();
}

void work(void);

/* The stack on which to go on with t. */
sd_emu_fibre *fibre_for(const struct thread *t)
{
    if (t->fibre)
        return t->fibre;
    sd_emu_fibre *f = idle;
    if (!f)
        return sd_emu_fibre_new(work);
    idle = f->next;
    return f;
}

sd_emu_fibre *running;

void go(sd_emu_fibre *to)
{
    sd_emu_fibre *from = running;
    running = to;
    if (to != from)
        sd_emu_fibre_switch(from, to);
}

/* What a fibre does: threads that have not begun yet, one after the other. Inside the kernel a thread may
 * wait, and the fibre is its own until it is done. */
void work(void)
{
    for (;;) {
        block.launch->call(block.launch);
        block.now->state = DONE;
        block.done++;
        const struct thread *next = next_thread();
        if (next && !next->fibre)
            continue;
        running->next = idle;
        idle = running;
        go(next ? next->fibre : &host);
    }
}

/* The thread that runs has set what it waits for. */
void wait(void)
{
    block.now->fibre = running;
    go(fibre_for(next_thread()));
}

/* --- shared memory --- */

#ifdef __SANITIZE_ADDRESS__
constexpr size_t FENCE = 0;
#else
constexpr size_t FENCE = 64; /* bytes behind an array that nobody may write */
#endif

struct array *new_array(size_t bytes, const char *name)
{
    struct array *a = static_cast<struct array *>(malloc(sizeof *a));
    void *memory;
    if (!a || posix_memalign(&memory, 128, bytes + FENCE))
        wrong(block.now, "no memory for %zu bytes of shared memory", bytes);
    memset(memory, 0xff, bytes);
    memset(static_cast<char *>(memory) + bytes, 0xa5, FENCE);
    *a = {block.arrays, name, bytes, static_cast<char *>(memory)};
    return block.arrays = a;
}

void free_arrays(void)
{
    for (struct array *a = block.arrays, *next; a; a = next) {
        for (size_t i = 0; i < FENCE; i++)
            if (a->memory[a->bytes + i] != '\xa5')
                wrong(block.now, "shared array %s: written past its %zu bytes, at byte %zu", a->name,
                      a->bytes, a->bytes + i);
        next = a->next;
        free(a->memory);
        free(a);
    }
    block.arrays = nullptr;
}

/* --- launches --- */

void check(const sd_emu_launch *l, size_t dynamic_limit)
{
    if (!l->grid.x || !l->grid.y || !l->grid.z || l->grid.x > 0x7fffffff || l->grid.y > 65535 ||
        l->grid.z > 65535)
        wrong(nullptr, "a grid of %u x %u x %u blocks; a device takes 1 to 2147483647 x 65535 x 65535",
              l->grid.x, l->grid.y, l->grid.z);
    uint64_t threads = uint64_t(l->block.x) * l->block.y;
    if (!threads || !l->block.z || threads > SD_EMU_THREADS || l->block.z > 64 ||
        threads * l->block.z > SD_EMU_THREADS)
        wrong(nullptr, "a block of %u x %u x %u threads; a device takes 1 to %d", l->block.x, l->block.y,
              l->block.z, SD_EMU_THREADS);
    if (l->shared > dynamic_limit)
        wrong(nullptr, "%zu bytes of dynamic shared memory; %zu are allowed%s", l->shared, dynamic_limit,
              dynamic_limit < SD_EMU_SHARED_MAX ? " without cudaFuncSetAttribute" : "");
}

void run_block(void)
{
    block.serial++;
    block.cursor = block.waiting = block.done = block.count = block.shared_static = 0;
    block.dynamic = nullptr;
    memset(block.arrived, 0, sizeof block.arrived);
    for (unsigned i = 0; i < block.threads; i++) {
        block.thread[i].state = READY;
        block.thread[i].fibre = nullptr;
    }
    running = &host;
    go(fibre_for(next_thread()));
    free_arrays();
}

} // namespace

void sd_emu_run(const sd_emu_launch *l, size_t dynamic_limit)
{
    block.launch = l;
    block.now = nullptr;
    check(l, dynamic_limit);
    gridDim = l->grid;
    blockDim = l->block;
    struct order order = order_now();
    block.threads = l->block.x * l->block.y * l->block.z;
    for (unsigned i = 0; i < block.threads; i++) {
        block.order[i] = unsigned(nth(order, i, block.threads));
        block.thread[i].index = {i % l->block.x, i / l->block.x % l->block.y, i / l->block.x / l->block.y};
    }
    uint64_t plane = uint64_t(l->grid.x) * l->grid.y, blocks = plane * l->grid.z;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = nth(order, i, blocks);
        blockIdx = {unsigned(b % l->grid.x), unsigned(b / l->grid.x % l->grid.y), unsigned(b / plane)};
        run_block();
    }
}

void *sd_emu_shared_array(sd_emu_shared *slot, size_t bytes, const char *name)
{
    if (slot->block != block.serial) {
        block.shared_static += bytes;
        if (block.shared_static > SD_EMU_SHARED_STATIC)
            wrong(block.now, "shared array %s brings static shared memory to %zu bytes; a device has %zu",
                  name, block.shared_static, SD_EMU_SHARED_STATIC);
        if (block.shared_static + block.launch->shared > SD_EMU_SHARED_MAX)
            wrong(block.now, "%zu bytes of static and %zu of dynamic shared memory; a device has %zu",
                  block.shared_static, block.launch->shared, SD_EMU_SHARED_MAX);
        *slot = {block.serial, new_array(bytes, name)->memory};
    }
    return slot->memory;
}

void *sd_emu_shared_dynamic(void)
{
    if (!block.dynamic)
        block.dynamic = new_array(block.launch->shared, "of the launch");
    return block.dynamic->memory;
}

int sd_emu_barrier(const char *what, bool predicate, sd_emu_site site)
{
    struct thread *t = block.now;
    t->state = AT_BARRIER;
    t->what = what;
    t->site = site;
    block.count += predicate;
    block.waiting++;
    wait();
    return block.result;
}

int sd_emu_lane(void)
{
    return int(block.now - block.thread) % warpSize;
}

/* The lanes of the warp that exist. */
static unsigned lanes(unsigned first)
{
    unsigned n = block.threads - first;
    return n >= unsigned(warpSize) ? 0xffffffffu : (1u << n) - 1;
}

unsigned __activemask(void)
{
    unsigned first = unsigned(block.now - block.thread) & ~(warpSize - 1u), mask = 0;
    for (unsigned lane = 0; lane < unsigned(warpSize) && first + lane < block.threads; lane++)
        mask |= unsigned(block.thread[first + lane].state != DONE) << lane;
    return mask;
}

/* Gives the lanes of mask their results, if all wait at the same place for the same lanes. */
static bool complete(struct thread *warp, const struct thread *t, unsigned *arrived)
{
    unsigned ballot = 0;
    if ((*arrived & t->mask) != t->mask)
        return false;
    for (int lane = 0; lane < warpSize; lane++) {
        if (!(t->mask >> lane & 1))
            continue;
        if (warp[lane].mask != t->mask || !same_site(warp[lane].site, t->site))
            return false;
        ballot |= unsigned(warp[lane].value != 0) << lane;
    }
    for (int lane = 0; lane < warpSize; lane++) {
        if (!(t->mask >> lane & 1))
            continue;
        int source = warp[lane].source;
        warp[lane].result = source == SD_EMU_BALLOT        ? ballot
                            : t->mask >> (source & 31) & 1 ? warp[source & 31].value
                                                           : ~uint64_t(0);
        warp[lane].state = READY;
    }
    *arrived &= ~t->mask;
    return true;
}

uint64_t sd_emu_exchange(const char *what, unsigned mask, uint64_t value, int source, sd_emu_site site)
{
    struct thread *t = block.now;
    unsigned i = unsigned(t - block.thread), lane = i % warpSize, first = i - lane;
    mask &= lanes(first);
    t->what = what;
    t->site = site;
    if (!(mask >> lane & 1))
        wrong(t, "%s (%s:%d): mask 0x%08x does not name lane %u, which calls", what, site.file, site.line,
              mask, lane);
    t->mask = mask;
    t->source = source;
    t->value = value;
    t->state = AT_WARP;
    block.arrived[first / warpSize] |= 1u << lane;
    if (complete(&block.thread[first], t, &block.arrived[first / warpSize]))
        t->state = RUNNING;
    else
        wait();
    return t->result;
}
