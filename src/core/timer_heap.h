/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The heap behind a reactor's timers, private to core. Four children a node: half the depth of a
 * binary heap, and the children share a cache line or two. Address space for the largest heap is
 * taken at start and filled by the kernel as it is touched, so arming never allocates.
 */
#ifndef SHOAL_CORE_TIMER_HEAP_H
#define SHOAL_CORE_TIMER_HEAP_H

#include "core/timer.h"

#define TIMER_HEAP_MAX (256u << 10)

struct timer_heap_entry {
    uint64_t due_ns;
    uint64_t order;
    struct timer *timer;
};

struct timer_heap {
    struct timer_heap_entry *entries;
    uint32_t count;
    uint64_t next_order;
};

int timer_heap_create(struct timer_heap *heap);
void timer_heap_destroy(struct timer_heap *heap); /* timers still armed are disarmed */
uint64_t timer_heap_next_ns(const struct timer_heap *heap);

/* Fire what is due and was armed before the call. Return: how many. */
unsigned timer_heap_fire(struct timer_heap *heap, uint64_t now_ns);

#endif
