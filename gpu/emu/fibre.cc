/* Stacks, and the way from one to another: the registers that a call preserves are put by on the stack left
 * and taken up from the stack gone to. Stacks live as long as the process; below each lies a page that
 * faults. AddressSanitizer is told of every switch. */
#include "emu.h"

#include <stdlib.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
constexpr size_t STACK = 1 << 20, GUARD = 4096; /* frames are larger */
#else
constexpr size_t STACK = 256 << 10, GUARD = 4096;
#endif

#ifndef __x86_64__
#error "gpu/emu/fibre.cc knows x86-64 only"
#endif

/* sd_emu_fibre_swap(&where to put this stack's pointer, the pointer of the stack to go on with). In plain
 * assembly, so that no compiler draws conclusions from what a C function around it would seem to do. */
extern "C" void sd_emu_fibre_swap(void **put, void *take);
asm(".pushsection .text\n"
    ".hidden sd_emu_fibre_swap\n"
    ".globl sd_emu_fibre_swap\n"
    ".type sd_emu_fibre_swap, @function\n"
    "sd_emu_fibre_swap:\n"
    "    push %rbp\n"
    "    push %rbx\n"
    "    push %r12\n"
    "    push %r13\n"
    "    push %r14\n"
    "    push %r15\n"
    "    mov %rsp, (%rdi)\n"
    "    mov %rsi, %rsp\n"
    "    pop %r15\n"
    "    pop %r14\n"
    "    pop %r13\n"
    "    pop %r12\n"
    "    pop %rbx\n"
    "    pop %rbp\n"
    "    ret\n"
    ".size sd_emu_fibre_swap, . - sd_emu_fibre_swap\n"
    ".popsection\n");

/* The fibre last left, whose stack AddressSanitizer names on arrival: the host's is learnt so. */
static sd_emu_fibre *left_fibre;
static void (*new_body)(void);

static void arrive([[maybe_unused]] void *fake)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, &left_fibre->stack, &left_fibre->bytes);
#endif
}

static void start(void)
{
    arrive(nullptr);
    new_body();
    abort();
}

sd_emu_fibre *sd_emu_fibre_new(void (*body)(void))
{
    new_body = body;
    sd_emu_fibre *f = static_cast<sd_emu_fibre *>(calloc(1, sizeof *f));
    void *memory = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!f || memory == MAP_FAILED || mprotect(memory, GUARD, PROT_NONE)) {
        perror("gpu emulator: no memory for a stack");
        abort();
    }
    char *bottom = static_cast<char *>(memory) + GUARD;
    /* On it lie six registers, start, and where start would return to: 0. */
    void **sp = reinterpret_cast<void **>(bottom + STACK) - 8;
    sp[6] = reinterpret_cast<void *>(start);
    f->sp = sp;
    f->stack = bottom;
    f->bytes = STACK;
    return f;
}

void sd_emu_fibre_switch(sd_emu_fibre *from, sd_emu_fibre *to)
{
    left_fibre = from;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->bytes);
#endif
    sd_emu_fibre_swap(&from->sp, to->sp);
    arrive(from->fake);
}
