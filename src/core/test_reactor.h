/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of core and of the rooms above share: a reactor on virtual time, and the loop that
 * steps it.
 */
#ifndef SHOAL_CORE_TEST_REACTOR_H
#define SHOAL_CORE_TEST_REACTOR_H

#include "base/check.h"
#include "core/fiber.h"
#include "core/reactor.h"

struct test_clock {
    uint64_t now_ns;
    struct reactor_clock clock;
};

static inline uint64_t test_clock_now_ns(void *ctx)
{
    return ((struct test_clock *)ctx)->now_ns;
}

static inline uint64_t test_clock_wall_s(void *ctx)
{
    return 1700000000u + ((struct test_clock *)ctx)->now_ns / 1000000000u;
}

/* A reactor whose time stands still until test_run_idle() moves it. */
static inline struct reactor *test_reactor_virtual(struct test_clock *clock, uint64_t seed)
{
    struct reactor *reactor;

    clock->now_ns = 1000;
    clock->clock = (struct reactor_clock){test_clock_now_ns, test_clock_wall_s, clock};
    CHECK(reactor_create(&(struct reactor_config){.name = "test", .clock = &clock->clock,
                                                  .seed = seed, .cpu = -1},
                         &reactor) == 0);
    return reactor;
}

/* A reactor on real time with an io_uring. */
static inline struct reactor *test_reactor_real(void)
{
    struct reactor *reactor;

    CHECK(reactor_create(&(struct reactor_config){.name = "test", .seed = 1, .cpu = -1,
                                                  .uring_entries = 64},
                         &reactor) == 0);
    return reactor;
}

/* Step until nothing is left to happen at all, moving virtual time from timer to timer. */
static inline void test_run_idle(struct reactor *reactor, struct test_clock *clock)
{
    for (;;) {
        while (reactor_poll_once(reactor) > 0)
            ;
        uint64_t next_ns = reactor_next_timer_ns(reactor);
        if (next_ns == UINT64_MAX)
            break;
        CHECK(next_ns > clock->now_ns);
        clock->now_ns = next_ns;
    }
}

/* Poll and sleep until no fiber of @pool is left. */
static inline void test_run_fibers(struct reactor *reactor, struct fiber_pool *pool)
{
    while (fiber_pool_in_use(pool) > 0)
        if (reactor_poll_once(reactor) == 0)
            reactor_wait(reactor, UINT64_MAX);
}

#endif
