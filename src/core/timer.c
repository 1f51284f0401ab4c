/* SPDX-License-Identifier: Apache-2.0 */
#include "core/timer.h"

#include <sys/mman.h>

#include "base/check.h"
#include "core/reactor_private.h"
#include "core/timer_heap.h"
#include "shoal/error.h"

#define CHILDREN 4u

int timer_heap_create(struct timer_heap *heap)
{
    void *at = mmap(NULL, TIMER_HEAP_MAX * sizeof(*heap->entries), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return SHOAL_E_NO_MEMORY;
    *heap = (struct timer_heap){.entries = at};
    return 0;
}

void timer_heap_destroy(struct timer_heap *heap)
{
    for (uint32_t i = 0; i < heap->count; i++)
        heap->entries[i].timer->reactor = NULL;
    munmap(heap->entries, TIMER_HEAP_MAX * sizeof(*heap->entries));
    *heap = (struct timer_heap){0};
}

static bool before(const struct timer_heap_entry *a, const struct timer_heap_entry *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void place(struct timer_heap *heap, uint32_t at, struct timer_heap_entry entry)
{
    heap->entries[at] = entry;
    entry.timer->heap_index = at;
}

static void sift_up(struct timer_heap *heap, uint32_t at, struct timer_heap_entry entry)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / CHILDREN;
        if (!before(&entry, &heap->entries[parent]))
            break;
        place(heap, at, heap->entries[parent]);
        at = parent;
    }
    place(heap, at, entry);
}

static void sift_down(struct timer_heap *heap, uint32_t at, struct timer_heap_entry entry)
{
    for (;;) {
        uint32_t first = at * CHILDREN + 1;
        if (first >= heap->count)
            break;
        uint32_t last = MIN(first + CHILDREN, heap->count);
        uint32_t least = first;
        for (uint32_t child = first + 1; child < last; child++)
            if (before(&heap->entries[child], &heap->entries[least]))
                least = child;
        if (!before(&heap->entries[least], &entry))
            break;
        place(heap, at, heap->entries[least]);
        at = least;
    }
    place(heap, at, entry);
}

static void heap_remove(struct timer_heap *heap, uint32_t at)
{
    CHECK(at < heap->count);
    heap->count--;
    if (at == heap->count)
        return;
    struct timer_heap_entry moved = heap->entries[heap->count];
    if (at > 0 && before(&moved, &heap->entries[(at - 1) / CHILDREN]))
        sift_up(heap, at, moved);
    else
        sift_down(heap, at, moved);
}

uint64_t timer_heap_next_ns(const struct timer_heap *heap)
{
    return heap->count == 0 ? UINT64_MAX : heap->entries[0].due_ns;
}

unsigned timer_heap_fire(struct timer_heap *heap, uint64_t now_ns)
{
    unsigned fired = 0;
    uint64_t end = heap->next_order;

    while (heap->count > 0) {
        struct timer_heap_entry first = heap->entries[0];
        /*
         * One armed by a callback of this very call waits for the next: a timer that re-arms itself
         * in the past must not hold the reactor for ever.
         */
        if (first.due_ns > now_ns || first.order >= end)
            break;
        CHECK(first.timer->heap_index == 0 && first.timer->order == first.order);
        heap_remove(heap, 0);
        first.timer->reactor = NULL;
        first.timer->fire(first.timer);
        fired++;
    }
    return fired;
}

void timer_arm(struct reactor *reactor, struct timer *timer, uint64_t due_ns,
               void (*fire)(struct timer *timer))
{
    struct timer_heap *heap = &reactor->timers;

    timer_cancel(timer);
    CHECK_MSG(heap->count < TIMER_HEAP_MAX, "%u timers on one reactor", heap->count);
    timer->due_ns = due_ns;
    timer->order = heap->next_order++;
    timer->fire = fire;
    timer->reactor = reactor;
    struct timer_heap_entry entry = {.due_ns = due_ns, .order = timer->order, .timer = timer};
    sift_up(heap, heap->count++, entry);
}

void timer_cancel(struct timer *timer)
{
    if (timer->reactor == NULL)
        return;
    struct timer_heap *heap = &timer->reactor->timers;
    CHECK(timer->heap_index < heap->count && heap->entries[timer->heap_index].timer == timer);
    heap_remove(heap, timer->heap_index);
    timer->reactor = NULL;
}
