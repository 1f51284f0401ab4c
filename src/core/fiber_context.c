/* SPDX-License-Identifier: Apache-2.0 */
#include "core/fiber_context.h"

#include <stdint.h>
#include <string.h>

#include "base/check.h"

#if SHOAL_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if SHOAL_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#ifndef SHOAL_FIBER_UCONTEXT

void shoal_fiber_switch(void **save, void *load) __attribute__((visibility("hidden")));
void shoal_fiber_trampoline(void) __attribute__((visibility("hidden")));

/*
 * The callee-saved registers go to the old stack, come back from the new one. The floating point
 * control words are left out: nothing in Shoal changes them. The return is a jump, because the
 * processor's return predictor knows the old stack only.
 *
 * The trampoline is what a new stack "returns" to: the argument waits in r12, the entry in r13. Its
 * unwind information says that there is no caller, so that backtraces end there.
 */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl shoal_fiber_switch\n"
        ".hidden shoal_fiber_switch\n"
        ".type shoal_fiber_switch, @function\n"
        "shoal_fiber_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    popq %rcx\n"
        "    jmpq *%rcx\n"
        ".size shoal_fiber_switch, . - shoal_fiber_switch\n"
        ".p2align 4\n"
        ".globl shoal_fiber_trampoline\n"
        ".hidden shoal_fiber_trampoline\n"
        ".type shoal_fiber_trampoline, @function\n"
        "shoal_fiber_trampoline:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined %rip\n"
        "    movq %r12, %rdi\n"
        "    callq *%r13\n"
        "    ud2\n"
        "    .cfi_endproc\n"
        ".size shoal_fiber_trampoline, . - shoal_fiber_trampoline\n");

struct initial_stack {
    uint64_t r15, r14, r13, r12, rbx, rbp;
    uint64_t return_to;
    uint64_t end_of_frames[2];
};

static void native_init(struct fiber_context *context, void *stack, size_t stack_bytes,
                        void (*entry)(void *arg), void *arg)
{
    uintptr_t top = ((uintptr_t)stack + stack_bytes) & ~(uintptr_t)15;
    struct initial_stack initial = {
        .r13 = (uintptr_t)entry,
        .r12 = (uintptr_t)arg,
        .return_to = (uintptr_t)shoal_fiber_trampoline,
    };
    /* The trampoline starts with the stack pointer at end_of_frames, which must be aligned. */
    uintptr_t at = top - sizeof(initial.end_of_frames) -
                   offsetof(struct initial_stack, end_of_frames);

    memcpy((void *)at, &initial, sizeof(initial));
    context->stack_pointer = (void *)at;
}

static inline void native_switch(struct fiber_context *from, struct fiber_context *to)
{
    shoal_fiber_switch(&from->stack_pointer, to->stack_pointer);
}

#else

/* makecontext() passes ints, so a pointer travels as two. */
static void ucontext_entry(unsigned entry_high, unsigned entry_low, unsigned arg_high,
                           unsigned arg_low)
{
    uintptr_t entry = (uintptr_t)(((uint64_t)entry_high << 32) | entry_low);
    uintptr_t arg = (uintptr_t)(((uint64_t)arg_high << 32) | arg_low);

    ((void (*)(void *))entry)((void *)arg);
    CHECK_MSG(false, "a fiber's entry returned");
}

static void native_init(struct fiber_context *context, void *stack, size_t stack_bytes,
                        void (*entry)(void *arg), void *arg)
{
    uint64_t entry_bits = (uintptr_t)entry;
    uint64_t arg_bits = (uintptr_t)arg;

    CHECK(getcontext(&context->ucontext) == 0);
    context->ucontext.uc_stack.ss_sp = stack;
    context->ucontext.uc_stack.ss_size = stack_bytes;
    context->ucontext.uc_link = NULL;
    makecontext(&context->ucontext, (void (*)(void))ucontext_entry, 4,
                (unsigned)(entry_bits >> 32), (unsigned)entry_bits, (unsigned)(arg_bits >> 32),
                (unsigned)arg_bits);
}

static inline void native_switch(struct fiber_context *from, struct fiber_context *to)
{
    CHECK(swapcontext(&from->ucontext, &to->ucontext) == 0);
}

#endif

void fiber_context_init(struct fiber_context *context, void *stack, size_t stack_bytes,
                        void (*entry)(void *arg), void *arg)
{
    memset(context, 0, sizeof(*context));
    context->stack_bottom = stack;
    context->stack_bytes = stack_bytes;
    native_init(context, stack, stack_bytes, entry, arg);
#if SHOAL_TSAN
    context->tsan = __tsan_create_fiber(0);
#endif
}

void fiber_context_entered(struct fiber_context *from)
{
#if SHOAL_ASAN
    __sanitizer_finish_switch_fiber(NULL, &from->stack_bottom, &from->stack_bytes);
#else
    (void)from;
#endif
}

void fiber_context_switch(struct fiber_context *from, struct fiber_context *to, bool last)
{
#if SHOAL_ASAN
    __sanitizer_start_switch_fiber(last ? NULL : &from->fake_stack, to->stack_bottom,
                                   to->stack_bytes);
#else
    (void)last;
#endif
#if SHOAL_TSAN
    from->tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->tsan, 0);
#endif
    native_switch(from, to);
    /* Back again, perhaps much later; @to is where we come from. */
#if SHOAL_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, &to->stack_bottom, &to->stack_bytes);
#endif
}

void fiber_context_fini(struct fiber_context *context)
{
#if SHOAL_TSAN
    __tsan_destroy_fiber(context->tsan);
#endif
#if SHOAL_ASAN
    sanitizer_unpoison(context->stack_bottom, context->stack_bytes);
#endif
    context->stack_pointer = NULL;
}
