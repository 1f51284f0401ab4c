/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The switch between two stacks, private to fibers. Hand-written on x86-64 (about a nanosecond);
 * elsewhere, or with SHOAL_FIBER_UCONTEXT defined, through ucontext, which costs two system calls.
 * The sanitizers are told of each switch here and nowhere else.
 *
 * The reactor's own stack is a context too. Its bounds differ from poll to poll when the reactor
 * roams between threads, so they are learnt anew at each switch away from it.
 */
#ifndef SHOAL_CORE_FIBER_CONTEXT_H
#define SHOAL_CORE_FIBER_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/sanitizer.h"

#if !defined(__x86_64__) && !defined(SHOAL_FIBER_UCONTEXT)
#define SHOAL_FIBER_UCONTEXT
#endif

#ifdef SHOAL_FIBER_UCONTEXT
#include <ucontext.h>
#endif

struct fiber_context {
    void *stack_pointer;
#ifdef SHOAL_FIBER_UCONTEXT
    ucontext_t ucontext;
#endif
    const void *stack_bottom; /* for ASan */
    size_t stack_bytes;
    void *fake_stack; /* ASan's, while switched away */
    void *tsan;       /* TSan's idea of this context */
};

/*
 * fiber_context_init() - A context that runs @entry(@arg) on @stack when first switched to. @entry
 * must begin with fiber_context_entered() and never return.
 */
void fiber_context_init(struct fiber_context *context, void *stack, size_t stack_bytes,
                        void (*entry)(void *arg), void *arg);

/* @from: the context that switched here for the first time. */
void fiber_context_entered(struct fiber_context *from);

/* @last: @from is never switched to again. */
void fiber_context_switch(struct fiber_context *from, struct fiber_context *to, bool last);

/* After its last switch, or when it was never switched to. The stack is the caller's. */
void fiber_context_fini(struct fiber_context *context);

#endif
