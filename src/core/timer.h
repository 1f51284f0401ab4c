/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers of a reactor. The caller owns the struct; arming costs no allocation. Callbacks run on the
 * reactor's stack and must not block: they usually wake a fiber.
 */
#ifndef SHOAL_CORE_TIMER_H
#define SHOAL_CORE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct reactor;

struct timer {
    uint64_t due_ns;
    uint64_t order; /* of timers due at the same time, the one armed first fires first */
    void (*fire)(struct timer *timer);
    struct reactor *reactor; /* NULL while it is not armed */
    uint32_t heap_index;
};

/*
 * timer_arm() - Call @fire once, at or soon after @due_ns of the reactor's clock. Re-arming an
 * armed timer moves it. A zeroed struct is a valid unarmed timer.
 */
void timer_arm(struct reactor *reactor, struct timer *timer, uint64_t due_ns,
               void (*fire)(struct timer *timer));

/* timer_cancel() - The callback will not run. Harmless when it is not armed. */
void timer_cancel(struct timer *timer);

static inline bool timer_armed(const struct timer *timer)
{
    return timer->reactor != 0;
}

#endif
